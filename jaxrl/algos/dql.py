"""Diffusion Q-learning (DQL; Wang et al. 2023, arXiv 2208.06193): offline, from a dataset.

The policy is a diffusion of a few steps, kept near the data's actions and pulled up the critics
through all of its steps. The gradient steps are OFQL's (ofql.py, class GenerativeQ), which has them
from here; the actor goes down

    E mean_d (ε − ε_θ(√ᾱ_n a_data + √(1 − ᾱ_n) ε, n; s))²  −  η E[Q_i(s, a)] / E|Q_j(s, a)|

where a is drawn from the diffusion and i ≠ j are two critics by lot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from jaxrl.algos.ofql import GenerativeConfig, acting, learning
from jaxrl.config import check, configuration, number, option, size
from jaxrl.core import diffusion
from jaxrl.core.mean_flow import squared_error
from jaxrl.data.dataset import Dataset
from jaxrl.data.transitions import Batch
from jaxrl.envs.api import Environment
from jaxrl.nn.flow_networks import FlowNetwork, check_time_width
from jaxrl.nn.q_networks import action_size, check_spaces
from jaxrl.types import Agent, Algorithm, Array, Key, PyTree


@configuration
class DQLConfig(GenerativeConfig):
    """Settings of DQL, whose defaults are those of its authors for locomotion."""

    eta: float = number(1.0, 0, basic=True)
    """Weight of the critics in the actor's loss: 1 on locomotion, 2 to 4.5 on AntMaze, 0.005 on
    Kitchen."""
    q_normalization: Literal["dataset", "policy", "other_critic", "none"] = option("other_critic")
    """Divide eta by the mean |Q| of the policy's actions by the critic that was not drawn, or of
    the policy's or the dataset's actions by the one that was."""
    diffusion_steps: int = size(5, basic=True)
    """Steps of the diffusion, and evaluations of the actor for an action."""
    time_width: int = size(16, 0)
    """Features of a step's number; 0: the number itself."""


def dql(env: Environment, config: DQLConfig, *, dataset: Dataset) -> Algorithm:
    """DQL for `env`, whose actions are continuous and bounded, from a dataset of it."""
    check(config)
    agent = dql_agent(env, config)
    return learning(env, config, dataset, agent, diffusion_policy(env, config))


def dql_agent(env: Environment, config: DQLConfig) -> Agent:
    """What acts with a DQL policy: one draw, zero noise, or the best of several draws."""
    check_spaces("dql", env.observation_space, env.action_space)
    check_time_width(config.time_width)
    return acting(env, config, diffusion_policy(env, config))


def diffusion_policy(env: Environment, config: DQLConfig) -> DiffusionPolicy:
    """The diffusion that the configuration describes."""
    network = FlowNetwork(config.network, action_size(env.action_space), config.time_width)
    return DiffusionPolicy(network, config.diffusion_steps)


@dataclass(frozen=True)
class DiffusionPolicy:
    """DQL's policy: a network for the noise in an action, of one of N amounts."""

    network: FlowNetwork
    num_noises: int  # N: the noise to begin with, and what each step but the last adds

    @property
    def schedule(self) -> diffusion.Schedule:
        """How much noise there is after each step."""
        return diffusion.make_schedule(diffusion.variance_preserving_betas(self.num_noises))

    def init(self, key: Key, observation: Array, action: Array) -> PyTree:
        """First parameters."""
        params: PyTree = self.network.init(key, observation, action, jnp.zeros(()))
        return params

    def make(self, params: PyTree, observation: Array, noise: Array) -> Array:
        """What the noise [N, B, d] becomes, in [-1, 1]."""

        def noise_in(point: Array, step: Array) -> Array:
            found: Array = self.network.apply(params, observation, point, step)
            return found

        return diffusion.generate(noise_in, noise, self.schedule)

    def behavior_loss(
        self, params: PyTree, batch: Batch, key: Key
    ) -> tuple[Array, dict[str, Array]]:
        """The squared error of the noise that was added to the data's actions, its mean over d."""
        key_noise, key_step = jax.random.split(key)
        noise = jax.random.normal(key_noise, batch.action.shape)
        step = jax.random.randint(key_step, (len(noise),), 0, self.num_noises)
        point = diffusion.noised(batch.action, noise, step, self.schedule)
        found = self.network.apply(params, batch.observation, point, step.astype(point.dtype))
        error = squared_error(found, noise, "mean")
        return error, {"behavior_loss": jnp.mean(error)}
