"""The matrix products of TD3's gradient steps, and nothing else of them.

The unit is `policy_delay` gradient steps of both critics with their one of the actor. A critic's
step: the target actor and the target critics forward, the critics forward, each of their layers'
weight gradients, and for all but the first layer the input gradients. The actor's: the actor and
the first critic forward, that critic's input gradients, of its first layer only those of the
action; then the actor's own weight and input gradients, as above. No biases, nonlinearities,
losses, noise, optimisers, target updates, environments, replay buffer. The critics' products may be
done one after another or batched: each way is a variant, and the fastest counts.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks.peers.bound import RATE, forward, gradients, initial, weight_gradients
from benchmarks.peers.one_core import keep_to_one_core
from benchmarks.peers.protocol import Variant, serve

OBSERVATION, ACTIONS = 17, 6  # HalfCheetah-v5's
# Units of one iteration.
UNITS = 50


class Weights(NamedTuple):
    """Layers [in, out] of each network."""

    actor: list
    critics: Any  # as a Way has them
    target_actor: list
    target_critics: Any


class Way(NamedTuple):
    """How two critics are held, and how their products are done."""

    hold: Callable[[list], Any]  # of their layers
    over: Callable[[Callable, Any], Any]  # a function of one critic's layers, for both
    first: Callable[[Any], list]  # the first one's layers


def ways() -> dict[str, Way]:
    """One critic after the other, or both in batched products."""
    import jax
    import jax.numpy as jnp

    return {
        "apart": Way(
            hold=lambda critics: critics,
            over=lambda function, critics: [function(critic) for critic in critics],
            first=lambda critics: critics[0],
        ),
        "batched": Way(
            hold=lambda critics: jax.tree.map(lambda *leaves: jnp.stack(leaves), *critics),
            over=lambda function, critics: jax.vmap(function)(critics),
            first=lambda critics: jax.tree.map(lambda leaf: leaf[0], critics),
        ),
    }


def flops(hidden_sizes: list[int], batch_size: int, policy_delay: int) -> float:
    """Floating-point operations of the products of one gradient step on average."""
    sizes = [OBSERVATION, *hidden_sizes, ACTIONS]
    actor = [before * after for before, after in itertools.pairwise(sizes)]
    sizes = [OBSERVATION + ACTIONS, *hidden_sizes, 1]
    critic = [before * after for before, after in itertools.pairwise(sizes)]
    # Forward, weight gradients, input gradients.
    of_critics = sum(actor) + 2 * sum(critic) + 2 * (2 * sum(critic) + sum(critic[1:]))
    of_actor = 2 * sum(actor) + sum(actor[1:]) + sum(critic)
    of_actor += sum(critic[1:]) + ACTIONS * hidden_sizes[0]
    return 2.0 * batch_size * (of_critics + of_actor / policy_delay)


def make(setting: dict) -> list[Variant]:
    """A variant for each way to do the critics' products."""
    sizes, delay = setting["hidden_sizes"], setting["policy_delay"]
    return [
        Variant(name, program(sizes, setting["batch_size"], delay, way), UNITS * delay)
        for name, way in ways().items()
    ]


def program(hidden_sizes: list[int], batch_size: int, policy_delay: int, way: Way) -> Any:
    """`train(iterations)`, compiled."""
    import jax

    weights = first_weights(hidden_sizes, way)
    batch = jax.random.normal(jax.random.key(1), (batch_size, OBSERVATION + ACTIONS))

    def units(number: Any, weights: Weights, batch: Any) -> tuple[Weights, Any]:
        def one_unit(_: Any, carry: tuple) -> tuple:
            return unit(*carry, policy_delay, way)

        return jax.lax.fori_loop(0, number, one_unit, (weights, batch))

    compiled = jax.jit(units).lower(jax.numpy.int32(1), weights, batch).compile()

    def train(iterations: int) -> None:
        number = jax.numpy.int32(iterations * UNITS)
        jax.block_until_ready(compiled(number, weights, batch))

    return train


def first_weights(hidden_sizes: list[int], way: Way) -> Weights:
    """Weights of every network."""
    import jax

    keys = jax.random.split(jax.random.key(0), 6)
    actors = [initial(key, (OBSERVATION, *hidden_sizes, ACTIONS)) for key in keys[:2]]
    critics = [initial(key, (OBSERVATION + ACTIONS, *hidden_sizes, 1)) for key in keys[2:]]
    return Weights(actors[0], way.hold(critics[:2]), actors[1], way.hold(critics[2:]))


def unit(weights: Weights, batch: Any, policy_delay: int, way: Way) -> tuple[Weights, Any]:
    """The products of `policy_delay` gradient steps: (weights, batch [B, in]).

    Weights and batch that the next ones start from depend on these by so little that they stay what
    they are, else XLA would leave products out, or do them once for all units.
    """
    for _ in range(policy_delay):
        weights, batch = critic_step(weights, batch, way)
    return actor_step(weights, batch, way), batch


def critic_step(weights: Weights, batch: Any, way: Way) -> tuple[Weights, Any]:
    """The products of one gradient step of the critics."""
    import jax.numpy as jnp

    observation = batch[:, :OBSERVATION]
    action = forward(weights.target_actor, observation)[-1]
    following = jnp.concatenate([observation, action], axis=1)
    values = way.over(lambda critic: forward(critic, following)[-1], weights.target_critics)
    changes = way.over(lambda critic: gradients(critic, batch), weights.critics)
    critics = changed(weights.critics, changes)
    return weights._replace(critics=critics), batch + RATE * sum(values)


def actor_step(weights: Weights, batch: Any, way: Way) -> Weights:
    """The products of one gradient step of the actor, through the first critic."""
    import jax.numpy as jnp

    *inputs, action = forward(weights.actor, batch[:, :OBSERVATION])
    first = way.first(weights.critics)
    gradient = forward(first, jnp.concatenate([batch[:, :OBSERVATION], action], axis=1))[-1]
    for layer in reversed(first[1:]):
        gradient = gradient @ layer.T
    gradient = gradient @ first[0][OBSERVATION:].T
    changes = weight_gradients(weights.actor, inputs, gradient)
    return weights._replace(actor=changed(weights.actor, changes))


def changed(weights: Any, changes: Any) -> Any:
    """Weights that depend on their gradients."""
    import jax

    return jax.tree.map(lambda leaf, change: leaf + RATE * change, weights, changes)


if __name__ == "__main__":
    keep_to_one_core()  # before JAX is imported
    serve(make, ["jax"], ["jax", "jaxlib"])
