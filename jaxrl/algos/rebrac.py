"""ReBRAC (Tarasov et al. 2023, arXiv 2305.09836): TD3+BC that clones in the critics' goals too.

One gradient step is TD3's (jaxrl/algos/td3.py), with a penalty on actions that lie away from the
recorded ones, both in what the critics learn and in what the actor descends:

    y    = r + γ (min_k Q'_k(s', a') − β_c |a' − a'_data|²),   a' = μ'(s') + clipped noise
    L(μ) = mean (β_a |μ(s) − a|² − λ min_k Q_k(s, μ(s))),   λ = 1 / mean |min_k Q_k(s, μ(s))|

a'_data is the action that was recorded at s'. Squared distances are summed over coordinates.
Actions are in units where [-1, 1] spans the action space.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp

from jaxrl.algos.td3 import (
    Policy,
    Targets,
    TwinDelayed,
    TwinDelayedConfig,
    actor_agent,
    make_networks,
)
from jaxrl.config import ON, check, configuration, nested, number, option, size
from jaxrl.core.offline_losses import value_scale
from jaxrl.core.targets import clipped_double_q
from jaxrl.data.dataset import Dataset
from jaxrl.data.offline import Learns, Offline, OfflineConfig
from jaxrl.data.transitions import Batch
from jaxrl.envs.api import Environment
from jaxrl.nn.q_networks import QNetworkConfig, check_spaces, ensemble_values
from jaxrl.types import Agent, Algorithm, Array, Key, PyTree


@configuration
class LayersConfig(QNetworkConfig):
    """Layers of the actor and of the critics, more of them and with critics normalised."""

    hidden_sizes: tuple[int, ...] = size((256, 256, 256), basic=True)
    """Units of each hidden layer."""
    layer_norm: bool = option(True, needs={"hidden_sizes": ON})
    """Normalise each hidden layer of the critics over its units, before the nonlinearity."""


@configuration
class ReBRACConfig(TwinDelayedConfig, OfflineConfig):
    """Settings of ReBRAC. Real numbers are traced: a sweep over them compiles once."""

    actor_penalty: float = number(0.01, 0, basic=True)
    """Weight of the squared distance to recorded actions in the actor's loss."""
    critic_penalty: float = number(0.01, 0, basic=True)
    """Weight of the squared distance to recorded actions in the critics' goals."""
    learning_rate: float = number(1e-3, 0, basic=True)
    """Adam's step size, of the actor."""
    critic_learning_rate: float = number(1e-3, 0, basic=True)
    """Adam's step size, of the critics."""
    network: QNetworkConfig = nested(LayersConfig())
    """Layers of the actor and of the critics."""


def rebrac(env: Environment, config: ReBRACConfig, *, dataset: Dataset) -> Algorithm:
    """ReBRAC for `env`, whose actions are continuous and bounded."""
    check(config)
    agent = rebrac_agent(env, config)
    rules = ReBRAC(config, make_networks(env, config))
    learns = Learns(rules.begin, rules.update)
    return Offline(config, env, dataset, agent, learns).algorithm()


def rebrac_agent(env: Environment, config: ReBRACConfig) -> Agent:
    """What acts with a policy of ReBRAC: the actor's action."""
    check_spaces("rebrac", env.observation_space, env.action_space)
    networks = make_networks(env, config)
    return actor_agent(env, networks, config.network.num_critics, config.normalize_observations)


@dataclass(frozen=True)
class ReBRAC(TwinDelayed):
    """What is done with a learner, over the configuration and the networks."""

    config: ReBRACConfig

    def goal(self, targets: Targets, batch: Batch, key: Key) -> Array:
        """What every critic learns: a target that is less, the farther a' is from the data; [B]."""
        next_action = self.next_action(targets, batch, key)
        next_values = ensemble_values(
            self.networks.critic, targets.critic, batch.next_observation, next_action
        )
        penalty = self.config.critic_penalty * distance_to_recorded(next_action, batch)
        return clipped_double_q(batch.reward, batch.discount, next_values - penalty[None])

    def actor_loss(
        self, actor: PyTree, policy: Policy, batch: Batch
    ) -> tuple[Array, dict[str, Array]]:
        """Towards actions that all critics value more, and towards those of the dataset."""
        networks = self.networks
        action = networks.actor.apply(actor, batch.observation)
        q = ensemble_values(networks.critic, policy.critic, batch.observation, action)
        q = jnp.min(q, axis=0)
        cloning = jnp.mean(jnp.sum(jnp.square(action - batch.action), axis=-1))
        loss = self.config.actor_penalty * cloning - value_scale(q, 1.0) * jnp.mean(q)
        return loss, {"behavior_loss": cloning, "policy_q": jnp.mean(q)}


def distance_to_recorded(next_action: Array, batch: Batch) -> Array:
    """|a' − a'_data|², [B]; 0 after an episode's last row, where no action was recorded."""
    assert batch.next_action is not None and batch.next_acted is not None
    distance = jnp.sum(jnp.square(next_action - batch.next_action), axis=-1)
    return jnp.where(batch.next_acted, distance, 0.0)
