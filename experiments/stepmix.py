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
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import stepmix_report
import tyro

from jaxrl.algos.parts.tabular_problem import ROUNDING, threshold_of
from jaxrl.algos.stepmix import StepMix, StepMixConfig, stepmix
from jaxrl.core import tabular
from jaxrl.core.safety import certificate, confidence, mixture
from jaxrl.core.safety.confidence import Candidates
from jaxrl.core.tabular import Mixture, TabularEpisodes
from jaxrl.envs.registry import make
from jaxrl.envs.suites.tabular import TabularMDP
from jaxrl.train.experiment import versions
from jaxrl.train.files.folder import write_atomically
from jaxrl.train.output.console import Console

RESULTS = Path(__file__).parent / "results"
HUB = StepMixConfig(baseline="constant", bonus_scale=0.1)
PAPER = StepMixConfig(baseline="boltzmann", bonus_scale=0.1, know_rewards=False)
PARTS = ("figure", "hub", "safety", "bounds", "offline")
SHARES = ("optimistic_share", "baseline_share", "mixed_share")


@dataclass(frozen=True)
class Arguments:
    """StepMix and EpsMix on tabular MDPs."""

    quick: bool = False
    """A tenth of the episodes; its results are written under another name."""
    parts: tuple[str, ...] = PARTS
    """What to run; the results of other parts are kept."""
    report: Annotated[bool, tyro.conf.arg(name="report-only")] = False
    """Run nothing; write the tables and the picture from the JSON."""


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


def figure(fewer: int, console: Console) -> dict[str, Any]:
    """The paper's figure: average expected return against episodes."""
    env, found = make("tabular/paper"), {}
    for bound, scale in (("kl", 0.1), ("anchored", 0.01)):
        who = members(10, (scale,), (5.0, 10.0))
        for method in ("stepmix", "epsmix", "ucbvi"):
            config = dataclasses.replace(PAPER, method=method, bound=bound)
            runs = play(env, config, who, 20_000 // fewer)
            for eta in (5, 10):
                found[f"{eta}/{bound}/{method}"] = summary(
                    runs, env.horizon, who.inverse_temperature == eta
                )
            console.note(f"figure: {bound} {method}")
    return found


def hub(fewer: int, console: Console) -> dict[str, Any]:
    """Regret of every method on the hub."""
    env, found = make("tabular/hub"), {}
    for method in ("stepmix", "epsmix", "switch", "ucbvi", "baseline"):
        config = dataclasses.replace(HUB, method=method)
        found[method] = summary(play(env, config, members(10), 20_000 // fewer), env.horizon)
        console.note(f"hub: {method}")
    return found


def safety(fewer: int, console: Console) -> dict[str, Any]:
    """Violations of 20 seeds at three scales, over 100,000 episodes."""
    found = {}
    for name, config in (("hub", HUB), ("paper", PAPER)):
        env = make(f"tabular/{name}")
        for method, scales in (
            ("stepmix", (1.0, 0.1, 0.0)),
            ("epsmix", (1.0, 0.1, 0.0)),
            ("ucbvi", (0.1,)),
        ):
            who = members(20, scales)
            runs = play(env, dataclasses.replace(config, method=method), who, 100_000 // fewer)
            for scale in scales:
                found[f"{name}/{method}/{scale:g}"] = summary(
                    runs, env.horizon, who.bonus_scale == scale
                )
            console.note(f"safety: {name} {method}")
    return found


def bounds(fewer: int, console: Console) -> dict[str, Any]:
    """How many bounds at scale 1 are wrong: of every candidate,
    the optimum and 100 random policies, at every plan."""
    found = {}
    for name, usual in (("hub", HUB), ("paper", PAPER)):
        env = make(f"tabular/{name}")
        generator, shape = np.random.default_rng(0), env.rewards.shape
        policies = jnp.asarray(
            generator.dirichlet(np.full(shape[2], 0.3), (100, *shape[:2])), jnp.float32
        )
        for bound, scale in (("kl", 1.0), ("anchored", 1.0), ("kl", 0.0)):
            config = dataclasses.replace(usual, bound=bound, bonus_scale=scale, num_envs=20)
            wrong = count_wrong(env, config, policies, 1000 // fewer)
            found[f"{name}/{bound}/{scale:g}"] = {
                "plans": wrong[0],
                "bounds": wrong[1],
                "wrong": wrong[2],
            }
            console.note(f"bounds: {name} {bound} {scale:g}: {wrong[2]} of {wrong[1]} wrong")
    return found


def count_wrong(
    env: TabularMDP, config: StepMixConfig, policies: jax.Array, plans: int
) -> tuple[int, int, int]:
    """(plans, bounds checked, bounds that are wrong) over 5 seeds."""
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

    wrong = jax.jit(jax.vmap(member))(jax.random.split(jax.random.key(0), 5))
    return 5 * plans, 5 * plans * (len(policies) + env.horizon + 2), int(wrong.sum())


def collect(
    env: TabularMDP, behaviour: Mixture, size: int, keys: jax.Array
) -> tuple[TabularEpisodes, jax.Array]:
    """A dataset of so many episodes for each key, and its counts."""

    def one(key: jax.Array) -> tuple[TabularEpisodes, jax.Array]:
        episodes = tabular.play(env.transitions, env.initial, behaviour, key, size)
        return episodes, tabular.count(episodes, *env.rewards.shape[1:])

    return jax.vmap(one)(keys)


def offline(fewer: int, console: Console) -> dict[str, Any]:
    """The baseline learnt from data, and counts that begin with them,
    against the number of episodes in the data."""
    env, seeds = make("tabular/hub"), 10
    policy = 0.9 * tabular.constant(0, env.rewards) + 0.1 / env.rewards.shape[-1]
    value = float(tabular.expected_return(env.transitions, env.rewards, env.initial, policy))
    config = dataclasses.replace(HUB, constraint="absolute", constraint_level=0.9 * value)
    behaviour, found = (
        Mixture(policy, policy, jnp.float32(1.0)),
        {"behaviour": value, "threshold": 0.9 * value},
    )
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
            row |= summary(play(env, config, members(seeds), 50_000 // fewer, data), env.horizon)
        found[str(size)] = row
        console.note(f"offline: {size} episodes")
    return found


def main(arguments: Arguments) -> None:
    """Run the parts asked for, then write the results."""
    name, fewer = ("stepmix_quick", 10) if arguments.quick else ("stepmix", 1)
    path, console = RESULTS / f"{name}.json", Console()
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    run: dict[str, Callable] = {
        "figure": figure,
        "hub": hub,
        "safety": safety,
        "bounds": bounds,
        "offline": offline,
    }
    for part in () if arguments.report else arguments.parts:
        begun = time.perf_counter()
        results[part] = run[part](fewer, console)
        results[part]["seconds"] = round(time.perf_counter() - begun, 1)
        results["versions"] = versions()
        RESULTS.mkdir(exist_ok=True)
        write_atomically(path, (json.dumps(results) + "\n").encode())
    text = stepmix_report.markdown(results)
    write_atomically(path.with_suffix(".md"), text.encode())
    stepmix_report.draw(results, path.with_suffix(".png"))
    console.note(text)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
