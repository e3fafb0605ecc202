"""Confidence bounds on values of a finite-horizon MDP with known rewards, from counts.

Notation of core/tabular.py; n = n_h(s, a) visits, b = H − 1 − h the range of V_{h+1}, c = `scale`
(1: the theory's). Two families, each valid for every policy considered, all episodes and all counts
at once with probability 1 − δ:

    KL        δ-uniform over all policies: the simplest, and the tighter one for any number of
              episodes that small problems are played for; its rate grows with S
    anchored  the constants of BPI-UCBVI (Menard et al. 2021), valid for the chain of candidates;
              near-optimal rate

A *candidate* follows the baseline π^b for j steps and the optimistic policy from then on;
`prefixes` are the j.
Source: Li, Huang, Shen, Yang (2023), arXiv 2306.06265, and the Bernstein inequalities for KL balls
used there.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int32, Real

from jaxrl.core.tabular import break_ties, greedy
from jaxrl.types import Array, Scalar

UNROLLED = 8  # horizons up to this are written out step by step


class EmpiricalModel(NamedTuple):
    """What the counts say of each (h, s, a)."""

    rewards: Float[Array, "H S A"]
    transitions: Float[Array, "H S A S"]  # m / n; zeros where n = 0
    visited: Bool[Array, "H S A"]  # n > 0
    kl_rate: Float[Array, "H S A"]  # β(n) / n
    bernstein_rate: Float[Array, "H S A"]  # β*(n) / n
    span: Float[Array, "H S A"]  # b
    floor: Float[Array, "H S A"]  # what Q is at least, whatever the transitions
    cap: Float[Array, "H S A"]  # what Q is at most, whatever the transitions


class Candidates(NamedTuple):
    """J policies that follow a baseline, then the optimistic policy.

    Candidate i follows the baseline for `prefixes[i]` steps. The first is to be the optimistic
    policy itself, prefix 0. `priority` breaks the ties of optimism.
    """

    baseline: Float[Array, "H S A"]
    prefixes: Int32[Array, "J"]
    priority: Float[Array, "H A"]  # an episode meets one state per step, so states can share it


class Bounds(NamedTuple):
    """Bounds on expected returns of J candidates, and the optimistic policy they end in."""

    optimistic: Float[Array, "H S A"]
    upper: Float[Array, "J"]  # of the KL family a single one, for candidate 0
    lower: Float[Array, "J"]


def estimate(
    counts: Real[Array, "H S A S"],
    rewards: Float[Array, "H S A"],
    failure: Scalar,
    *,
    anchors: int = 1,
    know_rewards: bool = True,
) -> EmpiricalModel:
    """The empirical model of counts, and its rates for a failure probability δ.

        β(n)  = log(3 S A H k / δ) + S log(8e (n + 1))
        β*(n) = log(3 S A H k / δ) + log(8e (n + 1))

    for k anchors: the fixed functions that the anchored family's union bound covers besides. Values
    lie between r and r + b, which bounds them even where nothing was seen; without `know_rewards`
    between 0 and 1 + b, as in the paper.
    """
    horizon, num_states, num_actions = rewards.shape
    visits = jnp.sum(counts, axis=-1).astype(rewards.dtype)
    visited = visits > 0
    visits = jnp.maximum(visits, 1.0)
    union = jnp.log(3.0 * num_states * num_actions * horizon * anchors / failure)
    union = union.astype(rewards.dtype)
    growth = jnp.log(8.0 * math.e * (visits + 1.0))
    steps_left = jnp.arange(horizon - 1, -1, -1, dtype=rewards.dtype)
    span = jnp.broadcast_to(steps_left[:, None, None], rewards.shape)
    return EmpiricalModel(
        rewards=rewards,
        transitions=counts.astype(rewards.dtype) / visits[..., None],
        visited=visited,
        kl_rate=(union + num_states * growth) / visits,
        bernstein_rate=(union + growth) / visits,
        span=span,
        floor=rewards if know_rewards else jnp.zeros_like(rewards),
        cap=span + rewards if know_rewards else span + 1.0,
    )


def _mean(transition: Float[Array, "S A S"], values: Float[Array, "K S"]) -> Float[Array, "K S A"]:
    """p̂ V for each of K functions V of the successor."""
    return jnp.einsum("sap,kp->ksa", transition, values)


def _variance(
    transition: Float[Array, "S A S"], values: Float[Array, "K S"], mean: Float[Array, "K S A"]
) -> Float[Array, "K S A"]:
    """Var_p̂(V).

    The mean of squared deviations: E V² − (E V)² would lose half of float32's digits. Both are
    products of matrices: sums over products, once mapped over seeds and settings, took a CPU thirty
    times as long.
    """
    deviation = values[:, None, None, :] - mean[..., None]
    return jnp.einsum("sap,ksap->ksa", transition, jnp.square(deviation))


def _kl_interval(
    step: EmpiricalModel, values: Float[Array, "K S"], scale: Scalar
) -> tuple[Float[Array, "K S A"], Float[Array, "K S A"]]:
    """(r + p̂V, E) at one step for each of K functions V.

        E = c (2 sqrt(Var_p̂(V) β/n) + 3.5 b β/n)

    bounds |(p̂ − p) V| for every V of range b at once, on the event KL(p̂ ‖ p) ≤ β/n:

        |(p̂ − p) V| ≤ sqrt(2 Var_p(V) β/n) + (2/3) b β/n   and   Var_p(V) ≤ 2 Var_p̂(V) + 4 b² β/n
    """
    mean = _mean(step.transitions, values)
    variance = _variance(step.transitions, values, mean)
    deviation = 2.0 * jnp.sqrt(variance * step.kl_rate[None])
    width = deviation + (3.5 * step.span * step.kl_rate)[None]
    return step.rewards[None] + mean, scale * width


def _lower(step: EmpiricalModel, value: Float[Array, "K S A"]) -> Float[Array, "K S A"]:
    """Q̲ = max(floor, value) where the pair was visited, else the floor."""
    return jnp.where(step.visited[None], jnp.maximum(value, step.floor[None]), step.floor[None])


def _upper(step: EmpiricalModel, value: Float[Array, "K S A"]) -> Float[Array, "K S A"]:
    """Q̃ = min(cap, value) where the pair was visited, else the cap."""
    return jnp.where(step.visited[None], jnp.minimum(value, step.cap[None]), step.cap[None])


def kl_bounds(
    model: EmpiricalModel, initial: Float[Array, "S"], candidates: Candidates, scale: Scalar
) -> Bounds:
    """Optimism and the candidates' lower bounds, in one backward pass over J + 1 functions.

        Q̃_h = min(cap, r + p̂Ṽ + E(Ṽ)),    Ṽ = max_a Q̃,  π̄ = argmax
        Q̲_h = max(floor, r + p̂V̲ − E(V̲)),  V̲ = Σ_a π Q̲

    with π of each candidate. Valid for all policies at once, on the KL event alone.
    """
    baseline, prefixes, priority = candidates
    # The first J functions are the candidates' lower bounds, the last one the optimistic function.
    sign = jnp.append(-jnp.ones(len(prefixes), initial.dtype), jnp.ones(1, initial.dtype))
    sign = sign[:, None, None]

    def one_step(values: Array, inputs: tuple) -> tuple[Array, Array]:
        step, baseline_row, priority_row, h = inputs
        mean, width = _kl_interval(step, values, scale)
        bound = mean + sign * width
        upper = _upper(step, bound[-1:])[0]
        optimistic = break_ties(upper, priority_row[None])
        row = jnp.where((h < prefixes)[:, None, None], baseline_row[None], optimistic[None])
        lower = jnp.sum(row * _lower(step, bound[:-1]), axis=-1)
        return jnp.concatenate([lower, jnp.max(upper, axis=-1)[None]]), optimistic

    last = jnp.zeros((len(prefixes) + 1, len(initial)), initial.dtype)
    values, optimistic = _scan_back(one_step, last, (model, baseline, priority))
    returns = values @ initial
    return Bounds(optimistic, upper=returns[-1:], lower=returns[:-1])


def anchored_bounds(
    model: EmpiricalModel, initial: Float[Array, "S"], candidates: Candidates, scale: Scalar
) -> Bounds:
    """Both bounds of every candidate, each around an optimistic function Ṽ^j of its own.

        B = c (3 sqrt(Var_p̂(Ṽ^j) β*/n) + 14 H b β/n) + (1/H) p̂(Ṽ^j − V̲^j)
        Q̃^j = min(cap, r + p̂Ṽ^j + B),  Q̲^j = max(floor, r + p̂V̲^j − B)
        steps of the baseline:  Ṽ^j = Σ π^b Q̃^j,   V̲^j = Σ π^b Q̲^j
        steps after them:       Ṽ^j = max_a Q̃^j,  V̲^j = Σ π̄ Q̲^j

    V̲^j ≤ V^{candidate j} ≤ W^j ≤ Ṽ^j, where W^j, the value of the baseline for j steps and then the
    best policy, is fixed in advance: the model must be estimated with as many `anchors` as there
    are candidates. One Ṽ for all of them would be valid too, but never tight: p̂(Ṽ − V̲^j) does not
    vanish where the best policy and candidate j part, and where candidate j is all that is played,
    no data would ever certify it.
    """
    baseline, prefixes, priority = candidates
    horizon = len(model.rewards)

    def one_step(values: tuple[Array, Array], inputs: tuple) -> tuple[tuple[Array, Array], Array]:
        step, baseline_row, priority_row, h = inputs
        next_above, next_below = values
        mean = _mean(step.transitions, next_above)
        variance = _variance(step.transitions, next_above, mean)
        gap = _mean(step.transitions, next_above - next_below) / horizon
        deviation = 3.0 * jnp.sqrt(variance * step.bernstein_rate[None])
        bonus = scale * (deviation + (14.0 * horizon * step.span * step.kl_rate)[None]) + gap
        upper = _upper(step, step.rewards[None] + mean + bonus)
        lower = _lower(step, step.rewards[None] + mean - gap * horizon - bonus)
        # Candidates that have left the baseline share their bounds, and one that is still to leave
        # it is not asked.
        follows = (h < prefixes)[:, None]
        optimistic = break_ties(upper[0], priority_row[None])
        row = jnp.where(follows[..., None], baseline_row[None], optimistic[None])
        above = jnp.where(follows, jnp.sum(row * upper, axis=-1), jnp.max(upper, axis=-1))
        return (above, jnp.sum(row * lower, axis=-1)), optimistic

    zeros = jnp.zeros((len(prefixes), len(initial)), initial.dtype)
    (above, below), optimistic = _scan_back(one_step, (zeros, zeros), (model, baseline, priority))
    return Bounds(optimistic, upper=above @ initial, lower=below @ initial)


def policy_lower(
    model: EmpiricalModel,
    initial: Float[Array, "S"],
    policy: Float[Array, "H S A"],
    scale: Scalar,
) -> Float[Array, ""]:
    """The KL family's lower bound on the expected return of any policy."""

    def one_step(values: Array, inputs: tuple) -> tuple[Array, tuple]:
        step, row, _ = inputs
        mean, width = _kl_interval(step, values, scale)
        return jnp.sum(row[None] * _lower(step, mean - width), axis=-1), ()

    values, _ = _scan_back(one_step, jnp.zeros((1, len(initial)), initial.dtype), (model, policy))
    return jnp.sum(initial * values[0])


def pessimistic(
    model: EmpiricalModel, initial: Float[Array, "S"], scale: Scalar
) -> tuple[Float[Array, "H S A"], Float[Array, ""]]:
    """Value iteration on lower bounds (VI-LCB): a policy, and the lower bound of its return.

        Q̲_h = max(floor, r + p̂V̲ − E(V̲)), the floor where nothing was seen;  V̲ = max_a Q̲

    On the KL event the policy earns V̲_0 or more.

    Source: Li, Shi, Chen, Chi, Wei (2022), arXiv 2204.05275, with the penalty E of the KL family.
    """

    def one_step(values: Array, inputs: tuple) -> tuple[Array, Array]:
        step, _, _ = inputs
        mean, width = _kl_interval(step, values, scale)
        lower = _lower(step, mean - width)[0]
        return jnp.max(lower, axis=-1)[None], greedy(lower)

    last = jnp.zeros((1, len(initial)), initial.dtype)
    values, policy = _scan_back(one_step, last, (model, model.rewards))
    return policy, jnp.sum(initial * values[0])


def _scan_back(one_step, last, steps: tuple) -> tuple:  # type: ignore[no-untyped-def]
    """Backward induction from `last` over the leading axis of `steps`, and their indices h."""
    horizon = len(steps[0].rewards)
    inputs = (*steps, jnp.arange(horizon, dtype=jnp.int32))
    # A loop's own overhead is a fifth of a whole iteration of StepMix where the steps are few
    # (benchmarks/NOTES.md).
    return jax.lax.scan(one_step, last, inputs, reverse=True, unroll=horizon <= UNROLLED)
