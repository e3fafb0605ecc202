"""Agents and actors whose actions are a function of what they see, and ones that remember."""

from collections.abc import Callable

import jax.numpy as jnp

from jaxrl.types import Actor, Agent, Array, Key, Mode, PyTree, View, feed_forward

MODES = ("deterministic", "stochastic")


def actor(act: Callable[[PyTree, Key], Array]) -> Actor:
    """An actor without memory or parameters: `act(observation, key) -> action` in both modes."""
    mode = feed_forward(lambda policy, observation, key: act(observation, key))
    return Actor((), Agent(init=lambda key: (), modes=dict.fromkeys(MODES, mode)))


def counting(act: Callable[[Array, View, Key], Array], begin: int = 0) -> Actor:
    """An actor that counts its actions in the episode, from `begin` on:
    `act(count, View, key) -> action`."""

    def act_and_count(policy: tuple, count: Array, view: View, key: Key) -> tuple[Array, Array]:
        return act(count, view, key), count + 1

    modes = dict.fromkeys(MODES, Mode(act_and_count))
    return Actor(
        (), Agent(init=lambda key: (), modes=modes, memory=lambda policy: jnp.int32(begin))
    )
