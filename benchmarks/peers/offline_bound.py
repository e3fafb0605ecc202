"""The matrix products of OFQL's gradient steps, and nothing else of them.

The critics' step: the averaged actor forward, the target critics forward, then of both critics the
forward products, each layer's weight gradient, and for all but the first layer the input gradient.
The actor's: the actor forward on the mixed points and, for du/dt, on the tangent beside it; its
weight and input gradients there; the actor forward again for an action of noise, one critic
forward at it and one at the data's action, that critic's input gradients, of its first layer only
those of the action; the actor's weight and input gradients there. The times' own layers are left
out, which are narrow. No biases, nonlinearities, losses, optimisers, targets, data.
"""

from __future__ import annotations

import itertools
from typing import Any

from benchmarks.peers.bound import RATE, forward, gradients, initial, weight_gradients
from benchmarks.peers.off_policy_bound import changed
from benchmarks.peers.offline_data import ACTIONS, OBSERVATION
from benchmarks.peers.one_core import keep_to_one_core
from benchmarks.peers.protocol import Variant, serve

# Gradient steps of one iteration.
UNITS = 50


def sizes_of(setting: dict) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Widths of the actor's layers, and of a critic's."""
    hidden = setting["hidden_sizes"]
    inputs = ACTIONS + OBSERVATION + 2 * setting["time_width"]
    return (inputs, *hidden, ACTIONS), (OBSERVATION + ACTIONS, *hidden, 1)


def flops(setting: dict) -> float:
    """Floating-point operations of the products of one gradient step."""
    actor, critic = (
        [before * after for before, after in itertools.pairwise(sizes)]
        for sizes in sizes_of(setting)
    )
    first = critic[0] // (OBSERVATION + ACTIONS) * ACTIONS
    of_critics = sum(actor) + 2 * sum(critic) + 2 * (2 * sum(critic) + sum(critic[1:]))
    behavior = 2 * sum(actor) + sum(actor) + sum(actor[1:])
    improvement = 2 * sum(actor) + sum(actor[1:]) + 2 * sum(critic) + sum(critic[1:]) + first
    return 2.0 * setting["batch_size"] * (of_critics + behavior + improvement)


def make(setting: dict) -> list[Variant]:
    """The products, compiled."""
    import jax

    actor_sizes, critic_sizes = sizes_of(setting)
    keys = jax.random.split(jax.random.key(0), 7)
    weights = {
        "actor": initial(keys[0], actor_sizes),
        "averaged": initial(keys[1], actor_sizes),
        "critics": [initial(key, critic_sizes) for key in keys[2:4]],
        "targets": [initial(key, critic_sizes) for key in keys[4:6]],
    }
    points = jax.random.normal(keys[6], (setting["batch_size"], actor_sizes[0]))

    def steps(number: Any, weights: Any, points: Any) -> Any:
        return jax.lax.fori_loop(0, number, lambda _, carry: step(*carry), (weights, points))

    compiled = jax.jit(steps).lower(jax.numpy.int32(1), weights, points).compile()

    def train(iterations: int) -> None:
        jax.block_until_ready(compiled(jax.numpy.int32(iterations * UNITS), weights, points))

    return [Variant("products", train, UNITS)]


def step(weights: Any, points: Any) -> tuple[Any, Any]:
    """The products of one gradient step: (weights, points [B, in]).

    What the next ones start from depends on these by so little that it stays what it is, else XLA
    would leave products out, or do them once for all.
    """
    import jax.numpy as jnp

    pairs = points[:, : OBSERVATION + ACTIONS]
    observation = points[:, ACTIONS : ACTIONS + OBSERVATION]
    following = jnp.concatenate([observation, forward(weights["averaged"], points)[-1]], axis=1)
    values = sum(forward(critic, following)[-1] for critic in weights["targets"])
    critics = [changed(critic, gradients(critic, pairs)) for critic in weights["critics"]]
    tangent = forward(weights["actor"], points + RATE * values)[-1]
    *entered, average = forward(weights["actor"], points)
    actor = changed(
        weights["actor"], weight_gradients(weights["actor"], entered, average + tangent)
    )

    *entered, action = forward(weights["actor"], points + RATE * tangent[:, :1])
    one = weights["critics"][0]
    gradient = forward(one, jnp.concatenate([observation, action], axis=1))[-1]
    gradient = gradient + RATE * forward(one, pairs)[-1]
    for layer in reversed(one[1:]):
        gradient = gradient @ layer.T
    gradient = gradient @ one[0][OBSERVATION:].T
    actor = changed(actor, weight_gradients(weights["actor"], entered, gradient))
    return weights | {"critics": critics, "actor": actor}, points + RATE * values


if __name__ == "__main__":
    keep_to_one_core()  # before JAX is imported
    serve(make, ["jax"], ["jax", "jaxlib"])
