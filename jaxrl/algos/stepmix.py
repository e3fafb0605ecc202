"""StepMix and EpsMix: tabular exploration with a constraint on every episode's expected return.

Li, Huang, Shen, Yang (2023), "Near-optimal conservative exploration in reinforcement learning under
episode-wise constraints", arXiv 2306.06265. One iteration: play `num_envs` episodes under one
policy; count their transitions; bound the returns of the candidates from all counts; choose the
boldest mixture whose lower bound meets the constraint.

A round of many episodes is as safe as one: the bounds hold for all counts at once, so a policy that
was certified before the round meets the constraint however often it is played. More episodes per
round only learn a little later.
Devices (`Shards`) play episodes of their own, and add up their counts; the planning is the same on
all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import jax
import jax.numpy as jnp

from jaxrl.algos.parts.tabular_problem import (
    ROUNDING,
    Problem,
    check_problem,
    counts_of,
    make_problem,
    raised,
    threshold_of,
)
from jaxrl.config import budget, check, configuration, number, option, size
from jaxrl.core import tabular
from jaxrl.core.any_member import any_member
from jaxrl.core.safety import confidence, mixture
from jaxrl.core.safety.confidence import Candidates
from jaxrl.core.safety.mixture import Choice
from jaxrl.core.shards import SINGLE, Shards
from jaxrl.core.tabular import Mixture, TabularEpisodes
from jaxrl.core.tree import select_tree
from jaxrl.data.episodes import RecordedEpisodes
from jaxrl.envs.api import Environment
from jaxrl.envs.suites.tabular import TabularMDP
from jaxrl.errors import JaxrlError
from jaxrl.types import Agent, Algorithm, Array, Budget, Key, Mean, Metrics, Mode, View


@configuration
class StepMixConfig:
    """Settings of StepMix and of what it is compared with.

    Real numbers are traced: a sweep over them compiles once.
    """

    total_steps: int = budget(100_000, unit="transitions")
    """Environment transitions to train for: episodes times the horizon."""
    num_envs: int = size(1, basic=True)
    """Episodes per iteration, all under one certified policy."""
    method: Literal["stepmix", "epsmix", "switch", "ucbvi", "baseline"] = option(
        "stepmix", basic=True
    )
    """How to explore.

    stepmix: baseline first, then optimistic; epsmix: a coin per episode; switch: no mixing;
    ucbvi: no constraint; baseline: no exploration.
    """
    bound: Literal["kl", "anchored"] = option("kl")
    """Confidence bounds: kl is tighter in small problems, anchored has the near-optimal rate."""
    replan: Literal["always", "doubling"] = option("always")
    """Plan after each round, or only once the visits of some (step, state, action) have doubled."""
    know_rewards: bool = option(True)
    """Bound values of what was never tried by the known reward, too; off: as in the paper."""
    constraint: Literal["relative", "absolute"] = option("relative", basic=True)
    """Whether constraint_level is a share of the baseline's expected return, or a return."""
    constraint_level: float = number(0.9, 0, basic=True)
    """The least expected return that an episode's policy may have."""
    bonus_scale: float = number(1.0, 0)
    """Factor of the confidence widths: 1 is what the theory needs, less is bolder and sooner."""
    failure_probability: float = number(0.1, 0, 1, open_low=True)
    """Chance that some bound is wrong, ever; the theory's promise at bonus_scale 1."""
    baseline: Literal["boltzmann", "epsilon-soft", "constant"] = option(
        "boltzmann", needs={"dataset": ""}, basic=True
    )
    """The safe policy: softmax or ε-soft in the optimal Q-function, or always one action."""
    inverse_temperature: float = number(10.0, 0, infinite=True, needs={"baseline": "boltzmann"})
    """Of the boltzmann baseline: 0 is uniform, inf optimal."""
    baseline_epsilon: float = number(0.1, 0, 1, needs={"baseline": "epsilon-soft"})
    """Share of uniform actions of the epsilon-soft baseline."""
    baseline_action: int = option(0, needs={"baseline": "constant"})
    """Action of the constant baseline."""
    dataset: str = option("", basic=True)
    """An .npz file of episodes to learn the baseline from and to begin with (docs/stepmix.md)."""
    known_baseline_value: bool = option(False)
    """The baseline's expected return need not be learnt: there is no warm-up."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Plan:
    """The policy of the next round, and what is known of it."""

    policy: Mixture
    choice: Choice
    baseline_lower: Array  # bound on the baseline's return
    optimistic_upper: Array  # bound on the optimal return
    value: Array  # exact expected return: a measurement, which no decision reads


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class StepMixState:
    """Everything that resuming needs."""

    problem: Problem
    counts: Array  # int32 [H, S, A, S]
    planned: Array  # int32 [H, S, A], visits at the last plan
    plan: Plan
    key: Key
    iteration: Array  # int32


def stepmix(
    env: Environment,
    config: StepMixConfig,
    *,
    baseline: Array | None = None,
    dataset: RecordedEpisodes | None = None,
    shards: Shards = SINGLE,
) -> Algorithm[StepMixState, Mixture]:
    """StepMix, or another `config.method`, for a tabular `env`.

    `baseline` [H, S, A], when given, replaces the one that `config` names. With a `dataset` the
    baseline is learnt from it (VI-LCB) and the counts begin with it; the constraint is then
    absolute, and a dataset too small to show that the baseline meets it is refused.
    """
    check(config)
    agent = stepmix_agent(env, config)
    samples = config.num_envs * env.horizon
    if config.total_steps < samples:
        steps = f"{config.num_envs} episodes takes {samples}"
        raise JaxrlError(f"total_steps is {config.total_steps}, but one iteration of {steps}.")
    check_problem(env, config, baseline, dataset)
    shards.split("num_envs", config.num_envs)
    learner = StepMix(env, config, baseline, dataset, shards)
    return Algorithm(
        init=learner.init,
        step=learner.step,
        policy=lambda state: state.plan.policy,
        agent=agent,
        budget=Budget(
            "transitions", samples, config.total_steps // samples, {"episodes": config.num_envs}
        ),
    )


def stepmix_agent(env: Environment, config: StepMixConfig) -> Agent:
    """What acts with a mixture of two policies, one of which is drawn at the start of an episode.

    Deterministic: the policy of the greater weight, and its most probable actions. The memory is
    whether the episode follows the bold one, bool [].
    """
    del config
    if not isinstance(env, TabularMDP):
        raise JaxrlError(
            "stepmix needs an environment of arrays (`jaxrl envs tabular`), "
            f"not {type(env).__name__}."
        )
    mdp = env

    def init(key: Key) -> Mixture:
        del key
        uniform = jnp.full_like(mdp.rewards, 1.0 / mdp.rewards.shape[-1])
        return Mixture(uniform, uniform, jnp.zeros((), uniform.dtype))

    def row_of(policy: Mixture, bold: Array, view: View, coin: Array) -> tuple[Array, Array]:
        place = mdp.locate(view.observation)
        bold = jnp.where(view.first, coin, bold)
        return jnp.where(bold, policy.bold[place], policy.cautious[place]), bold

    def deterministic(policy: Mixture, bold: Array, view: View, key: Key) -> tuple[Array, Array]:
        del key
        row, bold = row_of(policy, bold, view, policy.weight >= 0.5)
        return jnp.argmax(row).astype(jnp.int32), bold

    def stochastic(policy: Mixture, bold: Array, view: View, key: Key) -> tuple[Array, Array]:
        key_coin, key_action = jax.random.split(key)
        row, bold = row_of(policy, bold, view, jax.random.uniform(key_coin) < policy.weight)
        return tabular.draw_index(row, jax.random.uniform(key_action)), bold

    def memory(policy: Mixture) -> Array:
        del policy
        return jnp.zeros((), bool)

    modes = {"deterministic": Mode(deterministic), "stochastic": Mode(stochastic)}
    return Agent(init=init, modes=modes, memory=memory)


@dataclass(frozen=True)
class StepMix:
    """The learner's functions, over the MDP and the configuration that they share."""

    env: TabularMDP
    config: StepMixConfig
    baseline: Array | None = None
    dataset: TabularEpisodes | None = None
    shards: Shards = SINGLE

    def init(self, key: Key) -> StepMixState:
        """The baseline and the constraint, the dataset's counts or none, and the first plan."""
        env = self.env
        if self.dataset is None:
            problem = make_problem(env, self.config, self.baseline, None)
            counts = jnp.zeros(env.transitions.shape, jnp.int32)
        else:
            counts = counts_of(env, self.dataset)
            problem = make_problem(env, self.config, self.baseline, counts)
        key_plan, key = jax.random.split(key)
        return StepMixState(
            problem=problem,
            counts=counts,
            planned=jnp.sum(counts, axis=-1),
            plan=self.plan(problem, counts, key_plan),
            key=key,
            iteration=jnp.zeros((), jnp.int32),
        )

    def step(self, state: StepMixState) -> tuple[StepMixState, Metrics]:
        """One round: play, count, plan."""
        env = self.env
        num_episodes = self.config.num_envs // self.shards.devices
        key_play, key_plan, key = jax.random.split(state.key, 3)
        key_play = self.shards.own(key_play)
        episodes = tabular.play(
            env.transitions, env.initial, state.plan.policy, key_play, num_episodes
        )
        seen = counts_of(env, episodes)
        episode_return = jnp.sum(seen * env.rewards[..., None]) / num_episodes
        metrics = self.metrics(state, episode_return)
        counts = state.counts + self.shards.sum(seen)
        plan, planned = self.replan(state, counts, key_plan)
        after = replace(
            state, counts=counts, planned=planned, plan=plan, key=key, iteration=state.iteration + 1
        )
        return after, metrics

    def plan(self, problem: Problem, counts: Array, key: Key) -> Plan:
        """The boldest policy that all counts so far certify."""
        env, config = self.env, self.config
        horizon = env.horizon
        if config.method == "stepmix":
            prefixes = jnp.arange(horizon + 1)
        else:
            prefixes = jnp.array([0, horizon])
        priority = jax.random.uniform(key, (horizon, env.rewards.shape[-1]), env.rewards.dtype)
        candidates = Candidates(problem.baseline, prefixes, priority)
        model = confidence.estimate(
            counts,
            env.rewards,
            config.failure_probability,
            anchors=len(prefixes) if config.bound == "anchored" else 1,
            know_rewards=config.know_rewards,
        )
        bounds_of = confidence.kl_bounds if config.bound == "kl" else confidence.anchored_bounds
        bounds = bounds_of(model, env.initial, candidates, config.bonus_scale)
        lower = bounds.lower
        if config.known_baseline_value:
            lower = lower.at[-1].set(problem.baseline_value)
        if config.method in ("ucbvi", "baseline"):
            end = 0 if config.method == "ucbvi" else -1
            choice = Choice(
                bold=prefixes[end],
                cautious=prefixes[end],
                weight=jnp.ones((), lower.dtype),
                lower=lower[end],
            )
        else:
            threshold = raised(threshold_of(config, problem), horizon)
            choice = mixture.choose(lower, prefixes, threshold, mix=config.method != "switch")
        policy = mixture.mixture(choice, bounds.optimistic, problem.baseline)
        value = tabular.expected_return(env.transitions, env.rewards, env.initial, policy)
        return Plan(
            policy=policy,
            choice=choice,
            baseline_lower=lower[-1],
            optimistic_upper=bounds.upper[0],
            value=value,
        )

    def replan(self, state: StepMixState, counts: Array, key: Key) -> tuple[Plan, Array]:
        """The next round's plan, and the visits it was made from."""
        visits = jnp.sum(counts, axis=-1)
        if self.config.replan == "always":
            return self.plan(state.problem, counts, key), visits
        due = jnp.any((visits >= 2 * state.planned) & (visits > 0))
        old = (state.plan, state.planned)

        def pending(carry: tuple) -> Array:
            again, _ = carry
            return again

        def renew(carry: tuple) -> tuple:
            _, old = carry
            new = (self.plan(state.problem, counts, key), visits)
            return jnp.zeros((), bool), select_tree(due, new, old)

        # At most one round: all members of a population plan, or none does.
        _, planned = jax.lax.while_loop(pending, renew, (any_member(due), old))
        return planned

    def metrics(self, state: StepMixState, episode_return: Array) -> Metrics:
        """Metrics of the round that was played."""
        problem, plan = state.problem, state.plan
        horizon = self.env.horizon
        threshold = threshold_of(self.config, problem)
        seen = {
            "episode_return": episode_return,
            "expected_return": plan.value,
            "regret": problem.optimal_value - plan.value,
            "violation": plan.value < threshold - ROUNDING * horizon,
            "threshold": threshold,
            "lower_bound": plan.choice.lower,
            "baseline_lower_bound": plan.baseline_lower,
            "optimal_upper_bound": plan.optimistic_upper,
        } | mixture.shares(plan.choice, horizon)
        return {name: Mean.of(value) for name, value in seen.items()}
