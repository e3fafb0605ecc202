"""Decision Transformer (Chen et al. 2021, arXiv 2106.01345): actions for a return, by attention.

A causal transformer reads the last K steps of an episode, each as the return that is still to come,
what was observed and the action that was taken, and predicts the actions. It learns from a dataset
as in supervised learning (jaxrl/algos/parts/return_conditioned.py).
"""

from __future__ import annotations

from jaxrl.algos.parts.return_conditioned import ReturnConditionedConfig, Setup, check_setup
from jaxrl.config import check, configuration, nested
from jaxrl.data.dataset import Dataset
from jaxrl.envs.api import Environment
from jaxrl.nn.transformer import TransformerBackbone, TransformerConfig, check_transformer
from jaxrl.types import Agent, Algorithm


@configuration
class DecisionTransformerConfig(ReturnConditionedConfig):
    """Settings of Decision Transformer. Real numbers are traced: a sweep compiles once."""

    network: TransformerConfig = nested(TransformerConfig())
    """Layers over the tokens."""


def decision_transformer(
    env: Environment, config: DecisionTransformerConfig, *, dataset: Dataset
) -> Algorithm:
    """Decision Transformer for `env`, from a dataset of its episodes."""
    check(config)
    return _setup(env, config).algorithm(dataset)


def decision_transformer_agent(env: Environment, config: DecisionTransformerConfig) -> Agent:
    """What acts for a return: the best of the dataset, or the mode's number, as in target=3600."""
    return _setup(env, config).agent()


def _setup(env: Environment, config: DecisionTransformerConfig) -> Setup:
    check_setup("decision_transformer", env, config)
    check_transformer(config.network)
    return Setup(env, config, TransformerBackbone(config.network))
