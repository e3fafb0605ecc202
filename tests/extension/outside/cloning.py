"""Cloning of recorded actions, given what was earned: an algorithm that learns from a file alone.

The actor learns p(action | observation, what the episode earned), and acts by what is aimed at; the
critic learns the mean of what was earned from an observation on. An iteration is `updates` gradient
steps on the whole data set.
"""

from __future__ import annotations

from os import PathLike
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrl.config import budget, check, configuration, nested, number, option, size
from jaxrl.envs.api import Environment
from jaxrl.errors import JaxrlError
from jaxrl.types import (
    Agent,
    Algorithm,
    Array,
    Budget,
    Discrete,
    Key,
    Mean,
    Metrics,
    Mode,
    PyTree,
    View,
    feed_forward,
)


@configuration
class LayersConfig:
    """A network of one hidden layer."""

    width: int = size(8)
    """Hidden units."""
    learning_rate: float = number(0.05, 0)
    """Adam's step size."""


@configuration
class CloningConfig:
    """Settings of cloning: two networks of one kind."""

    dataset: str = option("")
    """File of recorded actions (.npz)."""
    total_steps: int = budget(480, unit="gradient steps")
    """Gradient steps to train for."""
    updates: int = size(20)
    """Gradient steps of an iteration."""
    actor: LayersConfig = nested(LayersConfig(), prefix="actor_")
    critic: LayersConfig = nested(LayersConfig(), prefix="critic_")


class Recorded(NamedTuple):
    """M recorded actions: observations [M, ...], actions int32 [M],
    and what their episodes earned, float32 [M]."""

    observation: Array
    action: Array
    earned: Array

    @classmethod
    def read(cls, path: PathLike, env: Environment) -> Recorded:
        """The records in an .npz file, if they fit the spaces of `env`."""
        with np.load(path) as file:
            observation, action, earned = (file[name] for name in cls._fields)
        shape, space = env.observation_space.shape, env.action_space
        if observation.shape[1:] != shape:
            raise JaxrlError(
                f"it has observations of shape {observation.shape[1:]}, but the environment's are "
                f"{shape}."
            )
        if action.dtype.kind != "i":
            raise JaxrlError(f"its actions are {action.dtype}, but must be whole numbers.")
        if not len(observation) == len(action) == len(earned):
            raise JaxrlError(
                f"it has {len(observation)} observations, {len(action)} actions and {len(earned)} "
                "returns."
            )
        for name, values in (("observation", observation), ("earned", earned)):
            if not np.isfinite(values).all():
                raise JaxrlError(f"its {name} are not finite.")
        if not isinstance(space, Discrete) or action.max() >= space.n:
            raise JaxrlError(
                f"it has the action {action.max()}, but the environment's are {space}."
            )
        return cls(
            jnp.asarray(observation, jnp.float32),
            jnp.asarray(action, jnp.int32),
            jnp.asarray(earned),
        )


class Policy(NamedTuple):
    """The weights of both networks, and the return that is aimed at, float32 []."""

    actor: PyTree
    critic: PyTree
    aim: Array


class CloningState(NamedTuple):
    """Everything that resuming needs."""

    policy: Policy
    optimizer: PyTree


def cloning(env: Environment, config: CloningConfig, *, dataset: Recorded) -> Algorithm:
    """Cloning of the actions in the `dataset`."""
    check(config)
    agent = cloning_agent(env, config)
    adam = optax.scale_by_adam()

    def init(key: Key) -> CloningState:
        policy = agent.init(key)._replace(aim=jnp.max(dataset.earned))
        return CloningState(policy, adam.init((policy.actor, policy.critic)))

    def losses(networks: tuple[PyTree, PyTree]) -> tuple[Array, dict[str, Array]]:
        seen = jnp.concatenate([dataset.observation, dataset.earned[:, None] / env.horizon], axis=1)
        log_probabilities = jax.nn.log_softmax(outputs(networks[0], seen))
        actor = -jnp.mean(jnp.take_along_axis(log_probabilities, dataset.action[:, None], axis=1))
        critic = jnp.mean((outputs(networks[1], dataset.observation)[:, 0] - dataset.earned) ** 2)
        return actor + critic, {"actor_loss": actor, "critic_loss": critic}

    def update(state: CloningState, _: None) -> tuple[CloningState, dict[str, Array]]:
        policy = state.policy
        gradient, seen = jax.grad(losses, has_aux=True)((policy.actor, policy.critic))
        (of_actor, of_critic), optimizer = adam.update(gradient, state.optimizer)
        actor = jax.tree.map(
            lambda old, step: old - config.actor.learning_rate * step, policy.actor, of_actor
        )
        critic = jax.tree.map(
            lambda old, step: old - config.critic.learning_rate * step, policy.critic, of_critic
        )
        return CloningState(Policy(actor, critic, policy.aim), optimizer), seen

    def step(state: CloningState) -> tuple[CloningState, Metrics]:
        state, seen = jax.lax.scan(update, state, None, config.updates)
        return state, {name: Mean.of(values) for name, values in seen.items()}

    return Algorithm(
        init=init,
        step=step,
        policy=lambda state: state.policy,
        agent=agent,
        budget=Budget("gradient steps", config.updates, config.total_steps // config.updates),
    )


def cloning_agent(env: Environment, config: CloningConfig) -> Agent:
    """Acts by the aim: that of the policy, the best that was recorded,
    or the number that steers the mode `target`."""
    inputs = env.observation_space.shape[0]

    def init(key: Key) -> Policy:
        key_actor, key_critic = jax.random.split(key)
        actor = weights(key_actor, inputs + 1, config.actor.width, env.action_space.n)
        return Policy(actor, weights(key_critic, inputs, config.critic.width, 1), jnp.zeros(()))

    def act(policy: Policy, observation: Array, key: Key) -> Array:
        seen = jnp.append(observation, policy.aim / env.horizon)
        return jnp.argmax(outputs(policy.actor, seen)).astype(jnp.int32)

    def value(policy: Policy, memory: tuple, view: View, key: Key) -> Array:
        return outputs(policy.critic, view.observation)[0]

    aimed = feed_forward(act)
    target = Mode(aimed.act, steer=lambda policy, aim: policy._replace(aim=aim))
    return Agent(init=init, modes={"deterministic": aimed, "target": target}, value=value)


def weights(key: Key, inputs: int, width: int, results: int) -> PyTree:
    """The first weights of a network of one hidden layer."""
    drawn = jax.random.uniform(key, (inputs + results, width), minval=-1.0)
    return {"in": drawn[:inputs], "bias": jnp.zeros(width), "out": drawn[inputs:].T / width}


def outputs(network: PyTree, seen: Array) -> Array:
    """[..., inputs] -> [..., results]."""
    inner = seen @ network["in"]
    return (
        jnp.tanh(inner + network["bias"].reshape((1,) * (inner.ndim - 1) + (-1,))) @ network["out"]
    )
