"""Decision Mamba (Lv et al. 2024, arXiv 2406.05427): actions for a return, by selective scans.

A coarse scan reads the tokens of an episode, returns, observations and actions, and a fine one a
vector of each step; actions are learnt as in supervised learning, from labels that are mixed with
what the policy itself predicted a stage before (progressive self-evolution), beside what an action
leads to and the return after it (inverse objectives). `branches="coarse"` is plain Mamba. What is
shared with Decision Transformer is in jaxrl/algos/parts/return_conditioned.py.

In the mode "recurrent" a step of an episode costs the same however long it has been.
"""

from __future__ import annotations

from jaxrl.algos.parts.return_conditioned import ReturnConditionedConfig, Setup, check_setup
from jaxrl.config import check, configuration, nested, number, option, size
from jaxrl.data.dataset import Dataset
from jaxrl.envs.api import Environment
from jaxrl.nn.decision_mamba import DecisionMambaBackbone, DecisionMambaNetworkConfig
from jaxrl.nn.mamba import check_mamba
from jaxrl.types import Agent, Algorithm


@configuration
class DecisionMambaConfig(ReturnConditionedConfig):
    """Settings of Decision Mamba. Real numbers are traced: a sweep over them compiles once."""

    weight_decay: float = number(1e-5, 0)
    """Share of each weight, times the step size, that a gradient step takes off."""
    warm_up_updates: int = size(2_500, 0)
    """Gradient steps over which the step size grows from 0."""
    inverse_weight: float = number(0.05, 0, 0.5)
    """Weight in the loss of predicting what an action leads to, and again of the return after it;
    the action's is what is left of 1."""
    self_evolution: bool = option(True)
    """Learn actions that are mixed with those of the policy as it was a stage before."""
    network: DecisionMambaNetworkConfig = nested(DecisionMambaNetworkConfig())
    """Layers over the tokens."""


def decision_mamba(env: Environment, config: DecisionMambaConfig, *, dataset: Dataset) -> Algorithm:
    """Decision Mamba for `env`, from a dataset of its episodes."""
    check(config)
    return _setup(env, config).algorithm(dataset)


def decision_mamba_agent(env: Environment, config: DecisionMambaConfig) -> Agent:
    """What acts for a return: the best of the dataset, or the mode's number, as in target=3600."""
    return _setup(env, config).agent()


def _setup(env: Environment, config: DecisionMambaConfig) -> Setup:
    check_setup("decision_mamba", env, config)
    check_mamba(config.network.mamba, config.network.width)
    backbone = DecisionMambaBackbone(config.network)
    return Setup(env, config, backbone, normalize_first=config.network.branches == "repository")
