"""What the studies measure while they train, each of one member's state:
`--measures measures:NAME` (docs/faq.md)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxrl.algos.deep_stepmix import DeepStepMixConfig, GuidedEnv
from jaxrl.envs.registry import make
from jaxrl.envs.starts.fresh import Fresh
from jaxrl.envs.suites.bandit import ContextualBandit, fixed_states
from jaxrl.types import Algorithm, Array, Key, PyTree, View

CARTPOLE = make("CartPole-v1")  # which cannot be made while a measure is traced


def regret(algorithm: Algorithm, state: PyTree, inputs: dict[str, PyTree], key: Key) -> Array:
    """Exact expected regret, [], of the deterministic policy in bandit/contextual,
    over its fixed states."""
    del inputs
    env, states = ContextualBandit(), fixed_states()
    policy, agent = algorithm.policy(state), algorithm.agent
    views = jax.vmap(lambda seen: View.at_start(seen, env.action_space))(states)
    act = jax.vmap(agent.modes["deterministic"].act, in_axes=(None, None, 0, None))
    return env.gap(
        states, act(policy, agent.memory(policy), views, key)[0]
    )  # the action is no draw: key is not read


def round_returns(
    algorithm: Algorithm, state: PyTree, inputs: dict[str, PyTree], key: Key, episodes: int = 2048
) -> Array:
    """What deep StepMix is about to collect with in CartPole-v1,
    its learner behind the baseline, in fresh episodes.

    [3]: their mean return, its standard error, and the expected hand-over step of the mixture that
    was chosen for the round to come. Nothing of these episodes reaches the training.
    """
    policy, baseline = algorithm.policy(state), inputs["baseline"]
    vector = GuidedEnv(
        CARTPOLE, Fresh(CARTPOLE), episodes, baseline=baseline, config=DeepStepMixConfig()
    )
    act = algorithm.agent.modes["stochastic"].act  # PPO's: it has no memory
    key_round, key = jax.random.split(key)

    def step(carry: tuple) -> tuple:
        playing, key = carry
        key, key_act, key_env = jax.random.split(key, 3)
        keys = jax.random.split(key_act, episodes)
        action, _ = jax.vmap(act, in_axes=(None, None, 0, 0))(policy, (), playing.view, keys)
        return vector.step(playing, action, key_env)[0], key

    begun = vector.begin(state.vector.plan, key_round)
    returns = jax.lax.while_loop(lambda carry: jnp.any(carry[0].in_first), step, (begun, key))[
        0
    ].earned[:, -1]
    choice = state.vector.plan.choice
    handover = choice.weight * choice.bold + (1.0 - choice.weight) * choice.cautious
    return jnp.stack([returns.mean(), returns.std() / jnp.sqrt(episodes), handover])


def round_returns_quick(
    algorithm: Algorithm, state: PyTree, inputs: dict[str, PyTree], key: Key
) -> Array:
    """The same of a tenth of the episodes."""
    return round_returns(algorithm, state, inputs, key, episodes=204)
