"""StepMix and EpsMix on tabular MDPs: the paper's figure, regret on the hub, offline data,
and every violation counted.

    python experiments/stepmix.py          # everything: ten to twenty minutes on one CPU core
    python experiments/stepmix.py --quick  # a tenth of the episodes, in a minute or two
    python experiments/stepmix.py --parts figure hub

All seeds and scales of one method are members of one program. Returns are exact expected returns of
the policy of each episode; an episode violates the constraint if that of its policy is below.
Results: experiments/results/stepmix.*
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from harness import Cell, Study, StudyArguments, check_choices, run_study
from stepmix_report import draw, part_of, text

from jaxrl.algos.parts.tabular_problem import ROUNDING, threshold_of
from jaxrl.algos.stepmix import StepMix, StepMixConfig, stepmix
from jaxrl.config import flatten
from jaxrl.core import tabular
from jaxrl.core.safety import certificate, confidence, mixture
from jaxrl.core.safety.confidence import Candidates
from jaxrl.core.tabular import Mixture, TabularEpisodes
from jaxrl.envs.registry import make
from jaxrl.envs.suites.tabular import TabularMDP
from jaxrl.train.output.console import Console

HUB = StepMixConfig(baseline="constant", bonus_scale=0.1)
PAPER = StepMixConfig(baseline="boltzmann", bonus_scale=0.1, know_rewards=False)
SHARES = ("optimistic_share", "baseline_share", "mixed_share")


class Members(NamedTuple):
    """What differs between members of one program: [M] each."""

    seed: np.ndarray
    bonus_scale: np.ndarray
    inverse_temperature: np.ndarray


def members(
    seeds: int, scales: tuple[float, ...] = (0.1,), temperatures: tuple[float, ...] = (10.0,)
) -> Members:
    """Every combination, seeds fastest."""
    grid = np.meshgrid(temperatures, scales, np.arange(seeds), indexing="ij")
    return Members(*(each.ravel() for each in reversed(grid)))


def play(
    env: TabularMDP,
    config: StepMixConfig,
    who: Members,
    episodes: int,
    dataset: TabularEpisodes | None = None,
) -> dict[str, np.ndarray]:
    """Expected returns [M, episodes] of all members, and what is known of their problems;
    `dataset` has a row each."""

    def member(who: Members, dataset: TabularEpisodes | None) -> tuple[dict, dict]:
        numbers: dict[str, Any] = {
            "bonus_scale": who.bonus_scale,
            "inverse_temperature": who.inverse_temperature,
        }
        algorithm = stepmix(env, dataclasses.replace(config, **numbers), dataset=dataset)

        def body(carry: tuple, _: None) -> tuple:
            state, totals = carry
            state, seen = algorithm.step(state)
            totals = {name: totals[name] + seen[name].sum for name in SHARES}
            return (state, totals), seen["expected_return"].sum

        state = algorithm.init(jax.random.key(who.seed))
        (_, totals), returns = jax.lax.scan(
            body, (state, dict.fromkeys(SHARES, 0.0)), None, length=episodes
        )
        problem = state.problem
        threshold = threshold_of(config, problem)
        fixed = {
            "optimal": problem.optimal_value,
            "baseline": problem.baseline_value,
            "threshold": threshold,
        }
        return fixed | {name: total / episodes for name, total in totals.items()}, {
            "returns": returns
        }

    arrays = jax.tree.map(jnp.asarray, who)
    found, curves = jax.device_get(jax.jit(jax.vmap(member))(arrays, dataset))
    return {name: np.asarray(each, np.float64) for name, each in (found | curves).items()}


def summary(
    found: dict[str, np.ndarray], horizon: int, rows: slice | np.ndarray = slice(None)
) -> dict[str, Any]:
    """Of some members: violations, regret on the way and at the end,
    and the mean curve of returns."""
    seen = {name: each[rows] for name, each in found.items()}
    returns = seen["returns"]
    episodes = returns.shape[1]
    violating = returns < seen["threshold"][:, None] - ROUNDING * horizon
    regret = np.cumsum(seen["optimal"][:, None] - returns, axis=1)
    marks = np.unique(np.linspace(0, episodes, 201).astype(int)[1:])
    later = [int(episodes * share) for share in (0.25, 0.5, 1.0)]
    last = np.flatnonzero(violating.any(0))
    return {
        "seeds": len(returns),
        "episodes": episodes,
        "optimal": float(seen["optimal"].mean()),
        "baseline": float(seen["baseline"].mean()),
        "threshold": float(seen["threshold"].mean()),
        "violating_episodes": violating.sum(1).tolist(),
        "last_violation": int(last[-1]) + 1 if len(last) else None,
        "least_return": float(returns.min()),
        "regret": {str(mark): float(regret[:, mark - 1].mean()) for mark in later},
        "regret_of_seeds": regret[:, -1].tolist(),
        "late_optimistic_return": float(returns[:, -episodes // 10 :].mean()),
        **{name: float(seen[name].mean()) for name in SHARES},
        "marks": marks.tolist(),
        "regret_curve": regret[:, marks - 1].mean(0).tolist(),
        "return_curve": np.diff(np.cumsum(returns, 1)[:, marks - 1].mean(0), prepend=0.0).tolist(),
    }


class Part(NamedTuple):
    """A cell: what is played in which MDP, by how many seeds, and how to measure it."""

    measure: Callable[[Part, Console], dict[str, Any]]
    environment: str
    config: StepMixConfig
    seeds: int
    episodes: int
    cpu_hours: float

    def cell(self, console: Console) -> Cell:
        """The part as it is measured."""
        asked = {
            "environment": self.environment,
            "config": flatten(self.config),
            "seeds": self.seeds,
            "episodes": self.episodes,
        }
        measure = functools.partial(self.measure, self, console)
        return Cell(asked, measure, self.cpu_hours, StepMixConfig())


def figure(part: Part, console: Console) -> dict[str, Any]:
    """The paper's figure: average expected return against episodes."""
    env, found = make(part.environment), {}
    for bound, scale in (("kl", 0.1), ("anchored", 0.01)):
        who = members(part.seeds, (scale,), (5.0, 10.0))
        for method in ("stepmix", "epsmix", "ucbvi"):
            config = dataclasses.replace(part.config, method=method, bound=bound)
            runs = play(env, config, who, part.episodes)
            for eta in (5, 10):
                found[f"{eta}/{bound}/{method}"] = summary(
                    runs, env.horizon, who.inverse_temperature == eta
                )
            console.note(f"figure: {bound} {method}")
    return {"rows": found}


def hub(part: Part, console: Console) -> dict[str, Any]:
    """Regret of every method on the hub."""
    env, found = make(part.environment), {}
    for method in ("stepmix", "epsmix", "switch", "ucbvi", "baseline"):
        config = dataclasses.replace(part.config, method=method)
        runs = play(env, config, members(part.seeds), part.episodes)
        found[method] = summary(runs, env.horizon)
        console.note(f"hub: {method}")
    return {"rows": found}


def safety(part: Part, console: Console) -> dict[str, Any]:
    """Violations of every seed at three scales."""
    env, found, name = make(part.environment), {}, part.environment.partition("/")[2]
    for method, scales in (
        ("stepmix", (1.0, 0.1, 0.0)),
        ("epsmix", (1.0, 0.1, 0.0)),
        ("ucbvi", (0.1,)),
    ):
        config = dataclasses.replace(part.config, method=method)
        who = members(part.seeds, scales)
        runs = play(env, config, who, part.episodes)
        for scale in scales:
            rows = who.bonus_scale == scale
            found[f"{name}/{method}/{scale:g}"] = summary(runs, env.horizon, rows)
        console.note(f"safety: {name} {method}")
    return {"rows": found}


def bounds(part: Part, console: Console) -> dict[str, Any]:
    """How many bounds at scale 1 are wrong: of every candidate,
    the optimum and 100 random policies, at every plan."""
    env, found, name = make(part.environment), {}, part.environment.partition("/")[2]
    generator, shape = np.random.default_rng(0), env.rewards.shape
    policies = jnp.asarray(
        generator.dirichlet(np.full(shape[2], 0.3), (100, *shape[:2])), jnp.float32
    )
    plans = part.episodes // part.config.num_envs
    for bound, scale in (("kl", 1.0), ("anchored", 1.0), ("kl", 0.0)):
        config = dataclasses.replace(part.config, bound=bound, bonus_scale=scale)
        checked = count_wrong(env, config, policies, part.seeds, plans)
        found[f"{name}/{bound}/{scale:g}"] = checked
        console.note(
            f"bounds: {name} {bound} {scale:g}: {checked['wrong']} of {checked['bounds']} wrong"
        )
    return {"rows": found}


def count_wrong(
    env: TabularMDP, config: StepMixConfig, policies: jax.Array, seeds: int, plans: int
) -> dict[str, int]:
    """Over all seeds: plans, bounds that were checked, and those that are wrong."""
    learner, slack = StepMix(env, config), ROUNDING * env.horizon

    def value(policy: jax.Array) -> jax.Array:
        return tabular.expected_return(env.transitions, env.rewards, env.initial, policy)

    def check(state: Any) -> jax.Array:
        prefixes = jnp.arange(env.horizon + 1)
        anchors = 1 if config.bound == "kl" else env.horizon + 1
        model = confidence.estimate(
            state.counts, env.rewards, config.failure_probability, anchors=anchors
        )
        candidates = Candidates(
            state.problem.baseline, prefixes, jnp.zeros((env.horizon, env.rewards.shape[-1]))
        )
        family = confidence.kl_bounds if config.bound == "kl" else confidence.anchored_bounds
        found = family(model, env.initial, candidates, config.bonus_scale)
        chain = jax.vmap(
            lambda j: value(mixture.splice(found.optimistic, state.problem.baseline, j))
        )(prefixes)
        lower = jax.vmap(
            lambda policy: confidence.policy_lower(model, env.initial, policy, config.bonus_scale)
        )
        wrong = jnp.sum(found.lower > chain + slack) + (
            found.upper[0] < state.problem.optimal_value - slack
        )
        return wrong + jnp.sum(lower(policies) > jax.vmap(value)(policies) + slack)

    def member(key: jax.Array) -> jax.Array:
        def body(state: Any, _: None) -> tuple:
            state, _ = learner.step(state)
            return state, check(state)

        return jnp.sum(jax.lax.scan(body, learner.init(key), None, length=plans)[1])

    wrong = jax.jit(jax.vmap(member))(jax.random.split(jax.random.key(0), seeds))
    return {
        "plans": seeds * plans,
        "bounds": seeds * plans * (len(policies) + env.horizon + 2),
        "wrong": int(wrong.sum()),
    }


def collect(
    env: TabularMDP, behaviour: Mixture, size: int, keys: jax.Array
) -> tuple[TabularEpisodes, jax.Array]:
    """A dataset of so many episodes for each key, and its counts."""

    def one(key: jax.Array) -> tuple[TabularEpisodes, jax.Array]:
        episodes = tabular.play(env.transitions, env.initial, behaviour, key, size)
        return episodes, tabular.count(episodes, *env.rewards.shape[1:])

    return jax.vmap(one)(keys)


def offline(part: Part, console: Console) -> dict[str, Any]:
    """The baseline learnt from data, and counts that begin with them,
    against the number of episodes in the data."""
    env, seeds = make(part.environment), part.seeds
    policy = 0.9 * tabular.constant(0, env.rewards) + 0.1 / env.rewards.shape[-1]
    value = float(tabular.expected_return(env.transitions, env.rewards, env.initial, policy))
    config = dataclasses.replace(part.config, constraint="absolute", constraint_level=0.9 * value)
    behaviour, found = Mixture(policy, policy, jnp.float32(1.0)), {}
    for size in (30, 300, 1000, 3000, 10_000, 30_000):
        data, counts = jax.jit(functools.partial(collect, env, behaviour, size))(
            jax.random.split(jax.random.key(size), seeds)
        )
        row: dict[str, Any] = {}
        for scale in (1.0, 0.1):
            learn = jax.vmap(
                lambda one, scale=scale: certificate.certify(
                    one,
                    env.rewards,
                    env.initial,
                    config.constraint_level,
                    config.failure_probability,
                    scale,
                )
            )
            given = jax.device_get(jax.jit(learn)(counts))
            row[f"certified/{scale:g}"] = int((given.lower >= config.constraint_level).sum())
            row[f"lower/{scale:g}"] = float(given.lower.mean())
            row[f"enough/{scale:g}"] = float(np.median(given.factor) * size)
        if row["certified/0.1"] == seeds:
            row |= summary(play(env, config, members(seeds), part.episodes, data), env.horizon)
        found[str(size)] = row
        console.note(f"offline: {size} episodes")
    return {"behaviour": value, "threshold": 0.9 * value, "rows": found}


CPU_HOURS_TO_COMPILE = 0.01  # what a part runs
CHECKED = {"num_envs": 20}  # episodes between two plans whose bounds are checked
PARTS = {
    "figure": Part(figure, "tabular/paper", PAPER, 10, 20_000, 0.02),
    "hub": Part(hub, "tabular/hub", HUB, 10, 20_000, 0.02),
    "safety/hub": Part(safety, "tabular/hub", HUB, 20, 100_000, 0.05),
    "safety/paper": Part(safety, "tabular/paper", PAPER, 20, 100_000, 0.05),
    "bounds/hub": Part(bounds, "tabular/hub", HUB.replace(**CHECKED), 5, 20_000, 0.02),
    "bounds/paper": Part(bounds, "tabular/paper", PAPER.replace(**CHECKED), 5, 20_000, 0.02),
    "offline": Part(offline, "tabular/hub", HUB, 10, 50_000, 0.04),
}
KINDS = tuple(dict.fromkeys(map(part_of, PARTS)))


@dataclass(frozen=True)
class Arguments(StudyArguments):
    """StepMix and EpsMix on tabular MDPs."""

    parts: tuple[str, ...] = KINDS
    """What to run; the results of other parts are kept."""


def study(arguments: Arguments) -> Study:
    """The parts that are asked for, and what is written of them."""
    check_choices("part", arguments.parts, KINDS)
    name, fewer = ("stepmix_quick", 10) if arguments.quick else ("stepmix", 1)
    console = Console()
    cells = {
        place: part._replace(
            episodes=part.episodes // fewer, cpu_hours=part.cpu_hours / fewer + CPU_HOURS_TO_COMPILE
        ).cell(console)
        for place, part in PARTS.items()
        if part_of(place) in arguments.parts
    }
    return Study(name, cells, text, draw)


if __name__ == "__main__":
    run_study(study, Arguments)
