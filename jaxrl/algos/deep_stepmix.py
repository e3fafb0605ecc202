"""Deep StepMix: PPO behind a safe baseline, so that no round earns less than a constraint.

One iteration: from lower bounds on the expected return choose the boldest mixture of two hand-over
steps; play a round of whole episodes, in which the baseline acts up to the hand-over and the
learner from there; take PPO's gradient steps on what the learner did; renew the bounds from the
first episode of each environment.

What the constraint's promise rests on, besides `failure_probability`:
 1. the returns of episodes lie in [return_low, return_high], and no part of an episode, up to a
    hand-over step or from there on, earns less than part_low = min(return_low, 0). (Where every
    episode earns 20 or more, a part of one may still earn nothing: it may be empty.)
 2. an update costs no candidate more than the share `drift` of that range: bounds of the last
    learner, lowered by it, count for the next one. With drift=inf nothing is assumed, and only what
    the baseline earns by itself counts.

The step mixture is that of Li, Huang, Shen, Yang (2023), arXiv 2306.06265; algos/stepmix.py has the
tabular original.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import struct

from jaxrl.algos.ppo import Policy, PPOConfig, ppo, ppo_agent
from jaxrl.config import budget, configuration, number, option, size
from jaxrl.core.safety import bernstein, mixture
from jaxrl.core.safety.bernstein import Evidence
from jaxrl.core.safety.mixture import Choice
from jaxrl.core.shards import SINGLE, Shards
from jaxrl.core.tree import select_rows
from jaxrl.envs.api import Environment
from jaxrl.envs.starts.fresh import Fresh, FreshConfig
from jaxrl.envs.vector import VectorEnv, VectorState, begin_memory, memories
from jaxrl.errors import JaxrlError, check_range, unknown
from jaxrl.types import (
    Actor,
    Agent,
    Algorithm,
    Array,
    Key,
    Mean,
    Metrics,
    Progress,
    PyTree,
    Transition,
    View,
)

# What float32 may be wrong by, as shares of the largest number in a sum: of rewards, for each step,
# and of Bernstein's terms, for some ten million episodes (tests/algos/test_certificates.py).
ROUNDING_PER_STEP = 2.0**-24
ROUNDING = 2e-6


@configuration
class DeepStepMixConfig(PPOConfig):
    """Settings of deep StepMix, and PPO's."""

    baseline: str = option("", basic=True)
    """Run folder of the safe policy."""
    baseline_mode: str = option("deterministic")
    """The mode in which the baseline acts; the learner acts stochastically."""
    total_steps: int = budget(4_000_000, unit="transitions")
    """Environment transitions to train for, over all environments."""
    num_envs: int = size(512, basic=True)
    """Parallel environments N, and so the episodes that each round's bounds are renewed from."""
    minibatch_size: int = size(1600, basic=True)
    """Transitions per gradient step; must divide num_envs * num_steps."""
    learning_rate: float = number(1e-3, 0, needs={"optimizer": "adam"}, basic=True)
    """Adam's step size."""
    num_steps: int = size(1, basic=True)
    """Steps per round in each environment, T; at least the horizon, to hold whole episodes."""
    num_prefixes: int = size(4)
    """Steps at which the learner may take over, spread evenly from the first to the horizon."""
    constraint: Literal["relative", "absolute"] = option("relative")
    """Whether constraint_level is a share of the baseline's return over return_low, or a return."""
    constraint_level: float = number(0.9, basic=True)
    """The least expected return that a round's policy may have."""
    return_low: float = number(0.0)
    """No episode earns less, and no part of one less than this or 0, whichever is lower."""
    return_high: float = number(float("inf"), infinite=True)
    """No episode earns more. Must be given: bounds need the range."""
    failure_probability: float = number(0.1, 0, 1, open_low=True)
    """Chance that some bound of the run is wrong."""
    drift: float = number(0.05, 0, infinite=True)
    """Largest share of the range of returns that an update may cost a candidate; inf: any."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class RoundPlan:
    """The mixture of the next round, and what it was chosen from.

    Candidate j hands over at step j H / J.
    """

    choice: Choice
    prefix: Evidence  # [J + 1], what the baseline earned before each hand-over, in all rounds
    floor: Array  # [J + 1], lower bounds from that alone
    baseline_upper: Array  # []
    lower: Array  # [J + 1], lower bounds on the candidates' returns with the present learner
    threshold: Array  # []
    returns: Mean  # of the first episodes of the last round
    outside: Mean  # share of them that break assumption 1


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Round:
    """A round under way; every leaf but `plan` has a row per environment."""

    vector: VectorState
    memory: PyTree  # the baseline's
    handover: Array  # int32, the step from which the learner acts
    in_first: Array  # bool, still in the round's first episode
    earned: Array  # float32 [N, J + 1], by the first episode before each candidate's hand-over
    plan: RoundPlan

    @property
    def observation(self) -> PyTree:
        """The policies' next observation."""
        return self.vector.observation

    @property
    def view(self) -> View:
        """What the policies are shown next."""
        return self.vector.view


def deep_stepmix(
    env: Environment,
    config: DeepStepMixConfig,
    *,
    baseline: Actor | None = None,
    shards: Shards = SINGLE,
) -> Algorithm[Any, Policy]:
    """Deep StepMix for `env` behind a `baseline`.

    The command line reads the baseline from the run folder that `config` names.
    """
    if baseline is None:
        raise JaxrlError(
            "deep_stepmix needs a safe policy to begin with: give a run folder, --baseline runs/…."
        )
    if config.baseline_mode not in baseline.agent.modes:
        raise unknown("mode of the baseline", config.baseline_mode, baseline.agent.modes)
    check_constraint(config, env.horizon)
    config = replace(config, num_steps=max(config.num_steps, env.horizon))
    num_envs = shards.split("num_envs", config.num_envs)
    vector = GuidedEnv(env, Fresh(env), num_envs, baseline=baseline, config=config, shards=shards)
    # PPO's state, but with a Round for the state of its environments.
    algorithm: Algorithm[Any, Policy] = ppo(env, config, vector=vector, shards=shards)

    def step(state: Any) -> tuple[Any, Metrics]:
        after, metrics = algorithm.step(state)
        return after, metrics | round_metrics(state.vector.plan, after.vector.plan, env.horizon)

    return algorithm._replace(step=step)


def deep_stepmix_agent(env: Environment, config: DeepStepMixConfig) -> Agent:
    """What acts with the learner's policy, which is PPO's; the baseline is no part of it."""
    return ppo_agent(env, config)


class GuidedEnv(VectorEnv, kw_only=True):  # type: ignore[call-arg]
    """A VectorEnv in which the baseline acts up to each environment's hand-over step.

    `refresh`, once per iteration, ends the round: it renews the bounds, chooses the next mixture,
    and begins anew.
    """

    config: DeepStepMixConfig
    baseline: Actor
    shards: Shards = struct.field(pytree_node=False, default=SINGLE)

    @property
    def handovers(self) -> Array:
        """The candidates' hand-over steps, int32 [J + 1].

        From 0, the learner alone, to the horizon, the baseline alone.
        """
        count, horizon = self.config.num_prefixes, self.env.horizon
        return jnp.array([horizon * j // count for j in range(count + 1)], jnp.int32)

    def init(self, key: Key) -> Any:
        """A first round, of the baseline alone unless the constraint binds nothing."""
        config, count = self.config, len(self.handovers)
        low = jnp.full(count, config.return_low, jnp.float32)
        threshold = jnp.asarray(threshold_of(config, config.return_high), jnp.float32)
        no_episodes = Mean(jnp.zeros(()), jnp.zeros(()))
        plan = RoundPlan(
            choice=mixture.choose(low, self.handovers, threshold),
            prefix=bernstein.nothing((count,)),
            floor=low,
            baseline_upper=jnp.asarray(config.return_high, jnp.float32),
            lower=low,
            threshold=threshold,
            returns=no_episodes,
            outside=no_episodes,
        )
        return self.begin(plan, key)

    def begin(self, plan: RoundPlan, key: Key) -> Round:
        """Every environment at the start of an episode, its hand-over drawn from the mixture."""
        key_vector, key_coin = jax.random.split(key)
        bold = jax.random.uniform(key_coin, (self.num_envs,)) < plan.choice.weight
        handover = jnp.where(bold, plan.choice.bold, plan.choice.cautious)
        earned = jnp.zeros((self.num_envs, len(self.handovers)))
        return Round(
            vector=super().init(key_vector),
            memory=memories(self.baseline.memory, self.num_envs),
            handover=handover,
            in_first=jnp.ones(self.num_envs, bool),
            earned=earned,
            plan=plan,
        )

    @property
    def sharded(self) -> Any:
        """A pytree prefix of the round: True where leaves have a row per environment."""
        partitioned: Any = True
        replicated: Any = False
        return Round(
            vector=super().sharded,
            memory=partitioned,
            handover=partitioned,
            in_first=partitioned,
            earned=partitioned,
            plan=replicated,
        )

    def step(self, state: Any, action: Array, key: Key) -> tuple[Any, Transition]:
        """Step every environment by the baseline's action or, after the hand-over, by `action`."""
        key_baseline, key_env = jax.random.split(key)
        keys = jax.random.split(key_baseline, self.num_envs)
        ours = state.vector.clock >= state.handover
        view = state.view
        memory = begin_memory(view.first, self.baseline.memory, state.memory)
        act = partial(self.baseline.act, self.config.baseline_mode)
        safe, memory = jax.vmap(act)(memory, view, keys)
        action = select_rows(ours, action, safe)
        vector, seen = super().step(state.vector, action, key_env)
        counts = state.in_first[:, None] & (state.vector.clock[:, None] < self.handovers[None])
        earned = state.earned + jnp.where(counts, seen.reward[:, None], 0.0)
        in_first = state.in_first & ~(seen.terminated | seen.truncated)
        seen = replace(seen, weight=ours.astype(jnp.float32))
        after = replace(state, vector=vector, memory=memory, in_first=in_first, earned=earned)
        return after, seen

    def refresh(self, state: Any, key: Key, progress: Progress) -> Any:
        """The next round, planned from all rounds so far."""
        del progress
        return self.begin(self.plan(state), key)

    def plan(self, state: Round) -> RoundPlan:
        """The boldest mixture that the rounds so far certify."""
        config, old = self.config, state.plan
        count = len(self.handovers)
        # One half of the failure probability is for the baseline's bounds, which hold at all times
        # together; the other for the candidates' bounds, which are of one round each.
        for_baseline = jnp.log(2.0 * (count + 1) / config.failure_probability)
        for_candidates = jnp.log(2.0 * count * config.num_iterations / config.failure_probability)
        seen = state.handover[:, None] >= self.handovers[None]
        prefix = self.gather(old.prefix, state.earned, seen, for_baseline)
        lower, upper = self.bounds(prefix, for_baseline)
        # Nothing is earned before step 0; the rest of an episode earns at least part_low.
        rest = jnp.where(jnp.arange(count) < count - 1, self.part_low, 0.0)
        floor = jnp.maximum(old.floor, jnp.where(self.handovers == 0, 0.0, lower) + rest)
        baseline_upper = jnp.minimum(old.baseline_upper, upper[-1])
        returns = jnp.broadcast_to(state.earned[:, -1:], state.earned.shape)
        played = state.handover[:, None] == self.handovers[None]
        last_round = self.gather(bernstein.nothing((count,)), returns, played, for_candidates)
        lower, upper = self.bounds(last_round, for_candidates)
        # New evidence that contradicts what was carried over replaces it: the learner drifted
        # further than assumed.
        known = jnp.where(upper < old.lower, lower, jnp.maximum(old.lower, lower))
        drifted = known - config.drift * (config.return_high - config.return_low)
        lower = jnp.maximum(floor, drifted.at[-1].set(floor[-1]))
        threshold = jnp.asarray(threshold_of(config, baseline_upper), jnp.float32)
        return RoundPlan(
            choice=mixture.choose(lower, self.handovers, threshold),
            prefix=prefix,
            floor=floor,
            baseline_upper=baseline_upper,
            lower=lower,
            threshold=threshold,
            returns=self.shards.sum(Mean.of(state.earned[:, -1])),
            outside=self.shards.sum(Mean.of(self.outside(state.earned))),
        )

    @property
    def part_low(self) -> Array:
        """The least that a part of an episode may earn."""
        return jnp.minimum(self.config.return_low, 0.0)

    @property
    def rounding(self) -> Array:
        """What float32 may have added to a bound, in units of return.

        The most that a sum of an episode's rewards can be is return_high - part_low: the rest may
        lose it again.
        """
        largest = jnp.maximum(self.config.return_high - self.part_low, -self.part_low)
        return (ROUNDING_PER_STEP * self.env.horizon + ROUNDING) * largest

    def outside(self, earned: Array) -> Array:
        """Whether episodes break assumption 1, bool [N], by what they `earned`, [N, J + 1]."""
        low, high = self.config.return_low, self.config.return_high
        whole = earned[:, -1]
        parts = jnp.minimum(earned, whole[:, None] - earned)
        broken = jnp.any(parts < self.part_low - self.rounding, axis=1)
        return broken | (whole < low - self.rounding) | (whole > high + self.rounding)

    def gather(self, old: Evidence, returns: Array, where: Array, log_term: Array) -> Evidence:
        """`old` and these returns x, of episodes or of what came before a hand-over, as shares.

        They are cut to the range of whole episodes. That leaves the return R of an episode as it
        is, and of what was earned before a hand-over it keeps what the floors need:
            return_low > 0:  R ≥ return_low and R ≥ x, hence R ≥ max(x, return_low)
            else:            R ≥ x + return_low, and x ≥ return_low is not cut from below
        Cutting x from above makes the right-hand sides smaller.
        """
        low, high = self.config.return_low, self.config.return_high
        shares = jnp.clip((returns - low) / (high - low), 0.0, 1.0)
        return bernstein.gather(old, shares, where, log_term, self.shards.axis_name)

    def bounds(self, evidence: Evidence, log_term: Array) -> tuple[Array, Array]:
        """Bounds (lower, upper) on the expectation of what was gathered, safe under rounding."""
        low, high = self.config.return_low, self.config.return_high
        lower_share, upper_share = bernstein.bounds(evidence, log_term)
        lower = low + (high - low) * lower_share
        upper = low + (high - low) * upper_share
        return jnp.maximum(lower - self.rounding, low), upper + self.rounding


def threshold_of(config: DeepStepMixConfig, baseline_return: Any) -> Any:
    """The constraint γ for a baseline of this return.

    Relative: return_low + level · (baseline − return_low); absolute: level.
    """
    if config.constraint == "absolute":
        return config.constraint_level
    return config.return_low + config.constraint_level * (baseline_return - config.return_low)


def round_metrics(plan: RoundPlan, following: RoundPlan, horizon: int) -> Metrics:
    """Metrics of a round that was played under `plan` and evaluated in the `following` one."""
    choice = plan.choice
    handover = choice.weight * choice.bold + (1.0 - choice.weight) * choice.cautious
    seen = {
        "threshold": plan.threshold,
        "lower_bound": choice.lower,
        "baseline_lower_bound": plan.floor[-1],
        "baseline_upper_bound": plan.baseline_upper,
        "handover_step": handover,
    } | mixture.shares(choice, horizon)
    counted = {"round_return": following.returns, "outside_range": following.outside}
    return {name: Mean.of(value) for name, value in seen.items()} | counted


def check_constraint(config: DeepStepMixConfig, horizon: int) -> None:
    """Refuse a range or a level that cannot be.

    Traced numbers pass: they were checked before they were traced.
    """
    if not isinstance(config.starts, FreshConfig) or config.stagger:
        raise JaxrlError(
            "deep_stepmix begins every round with the environment's own reset: "
            "no --starts pool, --stagger."
        )
    if config.num_prefixes > horizon:
        raise JaxrlError(
            f"num_prefixes is {config.num_prefixes}, but an episode has {horizon} steps."
        )
    if config.num_steps != DeepStepMixConfig().num_steps and config.num_steps < horizon:
        raise JaxrlError(
            f"num_steps is {config.num_steps}, but a round holds whole episodes of up to {horizon} "
            f"steps: leave it out, or choose at least {horizon}."
        )
    numbers = (config.return_low, config.return_high, config.constraint_level)
    if any(isinstance(value, jax.core.Tracer) for value in numbers):
        return
    lows, highs = jnp.broadcast_arrays(
        jnp.atleast_1d(config.return_low), jnp.atleast_1d(config.return_high)
    )
    for low, high in zip(lows, highs, strict=True):
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise JaxrlError(
                f"returns lie between return_low={low:g} and return_high={high:g}: give what no "
                "episode can fall below and none exceed, as in --return-low 0 --return-high 500."
            )
    if config.constraint == "relative":
        check_range(
            "constraint_level (a share of the baseline's return)", config.constraint_level, 0, 1
        )
