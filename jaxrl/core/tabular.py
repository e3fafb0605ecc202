"""Finite-horizon Markov decision processes as arrays: exact values, policies, episodes and counts.

Axes: H steps, S states, A actions, N episodes; step h = 0 … H−1 has dynamics of its own
(time-inhomogeneous): transitions p_h(s'|s, a), rewards r_h(s, a), a policy π_h(a|s) and the initial
law of state s_0.
Every function computes in the type of its arrays: float32 in a run, float64 where a proof is
tested.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int32

from jaxrl.types import Array, Key, Scalar


class Values(NamedTuple):
    """Expected reward still to come: of states, and of actions in them."""

    state: Float[Array, "H S"]
    action: Float[Array, "H S A"]


class Mixture(NamedTuple):
    """A policy for whole episodes: one of two, drawn before each episode."""

    bold: Float[Array, "H S A"]
    cautious: Float[Array, "H S A"]
    weight: Float[Array, ""]  # the probability of the bold one


class TabularEpisodes(NamedTuple):
    """N whole episodes."""

    states: Int32[Array, "H+1 N"]  # no action is taken in the last
    actions: Int32[Array, "H N"]


def evaluate_policy(
    transitions: Float[Array, "H S A S"],
    rewards: Float[Array, "H S A"],
    policy: Float[Array, "H S A"],
) -> Values:
    """Q_h = r_h + p_h V_{h+1},  V_h(s) = Σ_a π_h(a|s) Q_h(s, a),  V_H = 0."""

    def expectation(
        action_value: Float[Array, "S A"], row: Float[Array, "S A"]
    ) -> Float[Array, "S"]:
        return jnp.sum(row * action_value, axis=-1)

    return _backward(transitions, rewards, policy, expectation)


def optimal(transitions: Float[Array, "H S A S"], rewards: Float[Array, "H S A"]) -> Values:
    """Q*_h = r_h + p_h V*_{h+1},  V*_h(s) = max_a Q*_h(s, a),  V*_H = 0."""

    def maximum(action_value: Float[Array, "S A"], row: Float[Array, "S A"]) -> Float[Array, "S"]:
        del row
        return jnp.max(action_value, axis=-1)

    return _backward(transitions, rewards, rewards, maximum)


def _backward(
    transitions: Float[Array, "H S A S"],
    rewards: Float[Array, "H S A"],
    rows: Float[Array, "H S A"],
    reduce: Callable[[Array, Array], Array],
) -> Values:
    """Backward induction; `reduce(Q_h, rows_h)` makes V_h of it."""

    def one_step(following: Array, step: tuple[Array, Array, Array]) -> tuple[Array, Values]:
        transition, reward, row = step
        action_value = reward + transition @ following
        state_value = reduce(action_value, row)
        return state_value, Values(state_value, action_value)

    last = jnp.zeros_like(rewards[0, :, 0])
    _, values = jax.lax.scan(one_step, last, (transitions, rewards, rows), reverse=True)
    return values


def expected_return(
    transitions: Float[Array, "H S A S"],
    rewards: Float[Array, "H S A"],
    initial: Float[Array, "S"],
    policy: Float[Array, "H S A"] | Mixture,
) -> Float[Array, ""]:
    """V^π = Σ_s initial(s) V_0^π(s). That of a mixture is the mixture of the two."""
    if isinstance(policy, Mixture):
        of_each = jax.vmap(lambda one: expected_return(transitions, rewards, initial, one))
        bold, cautious = of_each(jnp.stack([policy.bold, policy.cautious]))
        return policy.weight * bold + (1.0 - policy.weight) * cautious
    return jnp.sum(initial * evaluate_policy(transitions, rewards, policy).state[0])


def greedy(action_values: Float[Array, "*B A"]) -> Float[Array, "*B A"]:
    """Uniform over the actions of the greatest value."""
    best = action_values == jnp.max(action_values, axis=-1, keepdims=True)
    best = best.astype(action_values.dtype)
    return best / jnp.sum(best, axis=-1, keepdims=True)


def break_ties(
    action_values: Float[Array, "*B A"], priority: Float[Array, "... A"]
) -> Float[Array, "*B A"]:
    """Of the actions of the greatest value, the one of the greatest priority, as a policy.

    Optimistic values are tied as long as they are capped. A fixed choice among them would be an
    arbitrary policy; one that is drawn anew for each plan explores, and is certified as soon as a
    draw is good. By index, not by a second comparison with a maximum: a compiler may compute the
    values twice, rounded differently, and find none equal to it.
    """
    best = action_values == jnp.max(action_values, axis=-1, keepdims=True)
    chosen = jnp.argmax(jnp.where(best, priority, -1.0), axis=-1)
    return jax.nn.one_hot(chosen, action_values.shape[-1], dtype=action_values.dtype)


def boltzmann(
    action_values: Float[Array, "*B A"], inverse_temperature: Scalar
) -> Float[Array, "*B A"]:
    """π(a|s) ∝ exp(η Q(s, a))."""
    return jax.nn.softmax(inverse_temperature * action_values, axis=-1)


def epsilon_soft(action_values: Float[Array, "*B A"], epsilon: Scalar) -> Float[Array, "*B A"]:
    """(1 − ε) greedy + ε uniform."""
    return (1.0 - epsilon) * greedy(action_values) + epsilon / action_values.shape[-1]


def constant(action: int, like: Float[Array, "*B A"]) -> Float[Array, "*B A"]:
    """Always the same action: a policy of the shape and type of `like`."""
    one_hot = jax.nn.one_hot(action, like.shape[-1], dtype=like.dtype)
    return jnp.broadcast_to(one_hot, like.shape)


def draw_index(
    probabilities: Float[Array, "*B n"], uniform: Float[Array, "*B"]
) -> Int32[Array, "*B"]:
    """The index i with Σ_{k<i} p_k ≤ u < Σ_{k≤i} p_k.

    For probabilities p and uniform numbers u in [0, 1). u is scaled by the sum,
    which rounding keeps from being 1, and no index beyond the last possible one is returned.
    """
    cumulative = jnp.cumsum(probabilities, axis=-1)
    total = cumulative[..., -1:]
    index = jnp.sum(cumulative <= uniform[..., None] * total, axis=-1, dtype=jnp.int32)
    return jnp.minimum(index, jnp.sum(cumulative < total, axis=-1, dtype=jnp.int32))


def play(
    transitions: Float[Array, "H S A S"],
    initial: Float[Array, "S"],
    policy: Mixture,
    key: Key,
    num_episodes: int,
) -> TabularEpisodes:
    """`num_episodes` independent episodes; every random number of them is drawn at once."""
    horizon = len(transitions)
    uniform = jax.random.uniform(key, (2 * horizon + 2, num_episodes), transitions.dtype)
    bold = uniform[0] < policy.weight

    def one_step(state: Array, step: tuple) -> tuple[Array, tuple[Array, Array]]:
        transition, bold_row, cautious_row, numbers = step
        for_action, for_state = numbers
        row = jnp.where(bold[:, None], bold_row[state], cautious_row[state])
        action = draw_index(row, for_action)
        successor = draw_index(transition[state, action], for_state)
        return successor, (action, successor)

    first = draw_index(jnp.broadcast_to(initial, (num_episodes, *initial.shape)), uniform[1])
    for_steps = uniform[2:].reshape(horizon, 2, num_episodes)
    steps = (transitions, policy.bold, policy.cautious, for_steps)
    _, (actions, successors) = jax.lax.scan(one_step, first, steps)
    return TabularEpisodes(jnp.concatenate([first[None], successors]), actions)


def count(
    episodes: TabularEpisodes, num_states: int, num_actions: int
) -> Int32[Array, "H {num_states} {num_actions} {num_states}"]:
    """How often each (h, s, a, s') was seen."""
    horizon = len(episodes.actions)
    steps = jnp.broadcast_to(jnp.arange(horizon)[:, None], episodes.actions.shape)
    counts = jnp.zeros((horizon, num_states, num_actions, num_states), jnp.int32)
    return counts.at[steps, episodes.states[:-1], episodes.actions, episodes.states[1:]].add(1)
