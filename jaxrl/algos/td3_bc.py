"""TD3+BC (Fujimoto & Gu 2021, arXiv 2106.06860): TD3 on a dataset, whose actor also clones it.

One gradient step is TD3's (jaxrl/algos/td3.py): every critic learns the least of the target
critics' values at a smoothed target action. Each `policy_delay`-th step the actor climbs the first
critic and is held to the recorded actions, and the targets follow:

    L(μ) = −λ mean Q_1(s, μ(s)) + mean (μ(s) − a)²,   λ = α / mean |Q_1(s, μ(s))|

The second mean is over coordinates too. Actions are in units where [-1, 1] spans the action space.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp

from jaxrl.algos.td3 import Policy, TwinDelayed, TwinDelayedConfig, actor_agent, make_networks
from jaxrl.config import check, configuration, number, option
from jaxrl.core.offline_losses import value_scale
from jaxrl.data.dataset import Dataset
from jaxrl.data.offline import Learns, Offline, OfflineConfig
from jaxrl.data.transitions import Batch
from jaxrl.envs.api import Environment
from jaxrl.nn.q_networks import check_spaces, first_value
from jaxrl.types import Agent, Algorithm, Array, PyTree


@configuration
class TD3BCConfig(TwinDelayedConfig, OfflineConfig):
    """Settings of TD3+BC. Real numbers are traced: a sweep over them compiles once."""

    alpha: float = number(2.5, 0, basic=True)
    """What values count beside cloning; 0: cloning alone."""
    normalize_observations: bool = option(True, basic=True)
    """Standardise observations by the dataset's statistics, which are saved with the policy."""


def td3_bc(env: Environment, config: TD3BCConfig, *, dataset: Dataset) -> Algorithm:
    """TD3+BC for `env`, whose actions are continuous and bounded."""
    check(config)
    agent = td3_bc_agent(env, config)
    rules = TD3BC(config, make_networks(env, config))
    learns = Learns(rules.begin, rules.update)
    return Offline(config, env, dataset, agent, learns).algorithm()


def td3_bc_agent(env: Environment, config: TD3BCConfig) -> Agent:
    """What acts with a policy of TD3+BC: the actor's action."""
    check_spaces("td3_bc", env.observation_space, env.action_space)
    networks = make_networks(env, config)
    return actor_agent(env, networks, config.network.num_critics, config.normalize_observations)


@dataclass(frozen=True)
class TD3BC(TwinDelayed):
    """What is done with a learner, over the configuration and the networks."""

    config: TD3BCConfig

    def actor_loss(
        self, actor: PyTree, policy: Policy, batch: Batch
    ) -> tuple[Array, dict[str, Array]]:
        """Towards actions that the first critic values more, and towards those of the dataset."""
        networks = self.networks
        action = networks.actor.apply(actor, batch.observation)
        q = first_value(networks.critic, policy.critic, batch.observation, action)
        cloning = jnp.mean(jnp.square(action - batch.action))
        loss = cloning - value_scale(q, self.config.alpha) * jnp.mean(q)
        return loss, {"behavior_loss": cloning, "policy_q": jnp.mean(q)}
