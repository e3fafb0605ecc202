"""A policy that reads what its last action earned: a table of preferences,
learned by REINFORCE on the next reward.

preference += learning_rate · mean((reward − 0.5) · ∂ log p(action | what is recalled) / ∂
preference)
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.config import budget, check, configuration, number, option, part, size
from jaxrl.core.shards import SINGLE
from jaxrl.envs.api import Environment
from jaxrl.envs.collect import collect
from jaxrl.envs.starts.api import StartsConfig
from jaxrl.envs.starts.family import STARTS
from jaxrl.envs.vector import VectorState, make_vector
from jaxrl.types import Agent, Algorithm, Array, Budget, Key, Metrics, Mode, Progress, PyTree, View

CASES = 5  # nothing to recall; else each last action, paid or not


@configuration
class RecallingConfig:
    """Settings of recalling."""

    total_steps: int = budget(4800, unit="transitions")
    """Transitions to train for."""
    num_envs: int = size(20)
    """Parallel environments, N."""
    num_steps: int = size(10)
    """Steps of a rollout, T."""
    learning_rate: float = number(20.0, 0)
    """Step size."""
    recalls: bool = option(True)
    """Read the last action and what it earned; off: a policy that sees observations alone."""
    starts: StartsConfig = part(STARTS, "fresh")
    """Where episodes begin."""
    stagger: bool = option(False)
    """Let first episodes end at random times."""


class RecallingState(NamedTuple):
    """Everything that resuming needs."""

    preferences: Array  # float32 [CASES, actions]
    vector: VectorState
    key: Key
    iteration: Array


def recalling(env: Environment, config: RecallingConfig, **inputs: PyTree) -> Algorithm:
    """A learner of what to do after what was done and earned."""
    check(config)
    vector = make_vector(env, config, SINGLE, inputs)
    agent = recalling_agent(env, config)
    transitions = config.num_envs * config.num_steps

    def init(key: Key) -> RecallingState:
        key, key_vector = jax.random.split(key)
        return RecallingState(
            agent.init(key), vector.init(key_vector), key, jnp.zeros((), jnp.int32)
        )

    def step(state: RecallingState) -> tuple[RecallingState, Metrics]:
        key, key_rollout, key_starts = jax.random.split(state.key, 3)

        def act(memory: tuple, view: View, key: Key) -> tuple[Array, tuple, Array]:
            case = jax.vmap(lambda view: case_of(view, config))(view)
            return (
                jax.random.categorical(key, state.preferences[case]).astype(jnp.int32),
                memory,
                case,
            )

        after, _, rollout, episodes = collect(
            vector, state.vector, (), act, config.num_steps, key_rollout
        )

        def gained(preferences: Array) -> Array:
            chosen = jax.nn.one_hot(rollout.transition.action, preferences.shape[1])
            log_probability = jnp.sum(
                chosen * jax.nn.log_softmax(preferences[rollout.extras]), axis=-1
            )
            return jnp.mean((rollout.transition.reward - 0.5) * log_probability)

        preferences = state.preferences + config.learning_rate * jax.grad(gained)(state.preferences)
        after = vector.refresh(after, key_starts, Progress(state.iteration + 1, transitions))
        return RecallingState(preferences, after, key, state.iteration + 1), episodes

    return Algorithm(
        init=init,
        step=step,
        policy=lambda state: state.preferences,
        agent=agent,
        budget=Budget("transitions", transitions, config.total_steps // transitions),
    )


def recalling_agent(env: Environment, config: RecallingConfig) -> Agent:
    """Does what is preferred in the case at hand, or draws by preference."""

    def deterministic(policy: Array, memory: tuple, view: View, key: Key) -> tuple[Array, tuple]:
        return jnp.argmax(policy[case_of(view, config)]).astype(jnp.int32), memory

    def stochastic(policy: Array, memory: tuple, view: View, key: Key) -> tuple[Array, tuple]:
        return jax.random.categorical(key, policy[case_of(view, config)]).astype(jnp.int32), memory

    modes = {"deterministic": Mode(deterministic), "stochastic": Mode(stochastic)}
    return Agent(init=lambda key: jnp.zeros((CASES, env.action_space.n)), modes=modes)


def case_of(view: View, config: RecallingConfig) -> Array:
    """Which row of the table is meant, int32 []."""
    if not config.recalls:
        return jnp.zeros((), jnp.int32)
    return jnp.where(view.first, 0, 1 + 2 * view.action + (view.reward > 0)).astype(jnp.int32)
