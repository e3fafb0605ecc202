"""Deep StepMix on CartPole behind mediocre baselines: violations of the constraint, and their price in samples.

    python experiments/deep_stepmix.py           # two baselines, three methods, five seeds: twenty minutes on a core
    python experiments/deep_stepmix.py --quick   # two seeds, a tenth of the measuring episodes
    python experiments/deep_stepmix.py --report-only

Three ways to a good policy: PPO from scratch, PPO that begins with the baseline's weights, and deep StepMix, whose
learner begins from scratch too. The baselines are PPO stopped early, one with episodes much alike and one without.
Before every iteration the policy that is about to collect data plays fresh episodes apart from the training; an
iteration violates the constraint if their mean is below nine tenths of the baseline's. What the JSON has is not run
again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter
from published import RESULTS, markdown, train_or_resume, write

from jaxrl.algos.deep_stepmix import DeepStepMixConfig, GuidedEnv, Round, deep_stepmix
from jaxrl.algos.ppo import PPOConfig, ppo
from jaxrl.analysis.style import INK, MUTED, PALETTE, headline, human, new_figure, save_figure, styled
from jaxrl.config import flatten, override
from jaxrl.core.safety.mixture import Choice
from jaxrl.envs.registry import make
from jaxrl.envs.starts.fresh import Fresh
from jaxrl.train.experiment import Experiment, RunSettings, versions
from jaxrl.train.output.console import Console
from jaxrl.train.saved import load_policy
from jaxrl.types import Actor, Algorithm, Key, PyTree

TASK, LEVEL, BUDGET = "CartPole-v1", 0.9, 2_048_000
BASELINE_SEEDS = {"steady": 1, "erratic": 0}
BASELINE = {"total_steps": 40_960, "num_envs": 8, "num_steps": 128, "minibatch_size": 256}
SHARED = {"num_envs": 512, "minibatch_size": 2000, "learning_rate": 1e-3}
PPO_SETTINGS = SHARED | {"total_steps": BUDGET, "num_steps": 125}
DEEP_SETTINGS = SHARED | {"total_steps": 2 * BUDGET, "return_high": 500.0}
NAMES = {"scratch": "PPO from scratch", "finetuned": "PPO from its weights", "deep": "deep StepMix"}
COLOURS = dict(zip(NAMES, (PALETTE[1], PALETTE[4], PALETTE[0]), strict=True))
REACHED = 475.0


@dataclass(frozen=True)
class Arguments:
    """Deep StepMix on CartPole behind a mediocre baseline."""

    quick: bool = False
    """Two seeds and a tenth of the measuring episodes; written under another name."""
    report: Annotated[bool, tyro.conf.arg(name="report-only")] = False
    """Run nothing; write the table and the picture from the JSON."""


def main(arguments: Arguments) -> None:
    """Train the baseline if there is none, run every method, write JSON, table and picture."""
    name = f"deep_stepmix{'_quick' if arguments.quick else ''}"
    console, path = Console(), RESULTS / f"{name}.json"
    if not arguments.report:
        seeds, episodes = (2, 204) if arguments.quick else (5, 2048)
        write(name, run(seeds, episodes, path, console), "")
    record = json.loads(path.read_text())
    write(name, record, text(record))
    draw(record, path.with_suffix(".png"))
    console.note(f"{text(record)}\n\nwrote {path}, .md and .png")


def run(seeds: int, episodes: int, path: Path, console: Console) -> dict[str, Any]:
    """All methods that `path` does not hold yet; what is measured is in undiscounted returns."""
    record: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"baselines": {}, "methods": {}}
    record |= {
        "task": TASK,
        "seeds": list(range(seeds)),
        "episodes_a_measurement": episodes,
        "versions": versions(TASK),
    }
    deep_config = override(DeepStepMixConfig(), DEEP_SETTINGS)
    env, ppo_config = make(TASK), override(PPOConfig(), PPO_SETTINGS)
    record["settings"] = {"baseline": BASELINE, "ppo": flatten(ppo_config), "deep": flatten(deep_config)}
    plain = ppo(env, ppo_config)
    for name, seed in BASELINE_SEEDS.items():
        folder = Path("runs/deep_stepmix") / name
        settings = RunSettings(seed=seed, num_evaluations=1)
        train_or_resume(Experiment("ppo", TASK, override(PPOConfig(), BASELINE), settings), folder, console)
        actor, policy = saved(folder)
        alone = jax.jit(measure(plain, actor, 10 * episodes, True))(policy, only(0), jax.random.key(0))
        found = {"seed": seed, "mean": float(alone.mean()), "deviation": float(alone.std())}
        record["baselines"][name] = found | {"threshold": LEVEL * found["mean"]}
        console.note(f"the {name} baseline earns {alone.mean():.1f} ± {alone.std():.1f}")
        runs = {"scratch": (plain, None), f"{name}/finetuned": (plain, policy)}
        runs[f"{name}/deep"] = (deep_stepmix(env, deep_config, actor), None)
        for method, (algorithm, first) in runs.items():
            if method not in record["methods"]:
                begun = time.perf_counter()
                record["methods"][method] = train(algorithm, actor, first, seeds, episodes)
                console.note(f"{method}: {time.perf_counter() - begun:.0f} s")
                write(path.stem, record, "")
    return record


def saved(folder: Path) -> tuple[Actor, PyTree]:
    """The last policy of a run folder, as a baseline and as first weights (`--baseline` takes the best one)."""
    _, algorithm, policy = load_policy(folder, "last")
    return Actor(lambda observation, key, likeliest: algorithm.act(policy, (), observation, key, likeliest)[0]), policy


def only(step: int) -> Choice:
    """Always to hand over at `step`."""
    step_array = jnp.int32(step)
    return Choice(step_array, step_array, jnp.float32(1.0), jnp.float32(0.0))


def measure(algorithm: Algorithm, actor: Actor, episodes: int, deterministic: bool = False) -> Callable:
    """A function of (policy, choice, key) to the returns [episodes] of a mixture with the baseline `actor`."""
    env = make(TASK)
    vector = GuidedEnv(env, Fresh(env), episodes, baseline=actor, config=override(DeepStepMixConfig(), DEEP_SETTINGS))

    def returns(policy: PyTree, choice: Choice, key: Key) -> jax.Array:
        key_begin, key = jax.random.split(key)
        state = vector.init(key_begin)
        state = vector.begin(state.plan._replace(choice=choice), jax.random.fold_in(key_begin, 1))

        def step(carry: tuple) -> tuple:
            state, key = carry
            key, key_act, key_env = jax.random.split(key, 3)
            keys = jax.random.split(key_act, episodes)
            act = jax.vmap(lambda observation, key: algorithm.act(policy, (), observation, key, deterministic)[0])
            return vector.step(state, act(state.observation, keys), key_env)[0], key

        return jax.lax.while_loop(lambda carry: jnp.any(carry[0].first), step, (state, key))[0].earned[:, -1]

    return returns


def train(algorithm: Algorithm, actor: Actor, policy: PyTree | None, seeds: int, episodes: int) -> dict[str, Any]:
    """What the collecting policy of every iteration earns, [seeds, iterations], and the last learner by itself."""
    guided = isinstance(jax.eval_shape(algorithm.init, jax.random.key(0)).vector, Round)
    returns_of, likeliest_of = (measure(algorithm, actor, episodes, each) for each in (False, True))
    keys = jax.vmap(jax.random.key)(jnp.arange(seeds))

    def begin(key: Key) -> PyTree:
        state = algorithm.init(key)
        return state if policy is None else state._replace(policy=policy)

    def iterate(state: PyTree, key: Key) -> tuple:
        choice = state.vector.plan.choice if guided else only(0)
        seen = returns_of(algorithm.policy(state), choice, key)
        following, _ = algorithm.step(state)
        handover = choice.weight * choice.bold + (1 - choice.weight) * choice.cautious
        return following, (seen.mean(), seen.std() / jnp.sqrt(len(seen)), handover)

    def finish(state: PyTree, key: Key) -> tuple:
        return tuple(each(algorithm.policy(state), only(0), key).mean() for each in (returns_of, likeliest_of))

    state, rows = jax.jit(jax.vmap(begin))(keys), []
    step = jax.jit(jax.vmap(iterate), donate_argnums=0)
    for iteration in range(algorithm.num_iterations):
        state, seen = step(state, jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, 1000 + iteration))
        rows.append(jax.device_get(seen))
    sampled, likeliest = jax.jit(jax.vmap(finish))(state, jax.vmap(lambda key: jax.random.fold_in(key, 999))(keys))
    returns, errors, handovers = (np.stack(each, axis=1).round(3).tolist() for each in zip(*rows, strict=True))
    return {
        "samples_per_iteration": algorithm.samples_per_step,
        "returns": returns,
        "standard_errors": errors,
        "handover_steps": handovers,
        "final_sampled": np.asarray(sampled).tolist(),
        "final_likeliest": np.asarray(likeliest).tolist(),
    }


def text(record: dict[str, Any]) -> str:
    """A table for each baseline."""
    parts = [
        f"{record['task']}, seeds {record['seeds']}. The collecting policy of each iteration is measured in "
        f"{record['episodes_a_measurement']:,} fresh episodes; those whose mean is below the constraint are counted."
    ]
    for name, baseline in record["baselines"].items():
        rows = [line(record, method, name) for method in NAMES]
        header = ["method", "transitions", "violating iterations, by seed", "least return"]
        header += ["last learner, sampled", "likeliest", f"transitions to a round of {REACHED:g}, by seed"]
        parts.append(
            f"The {name} baseline earns {baseline['mean']:.1f} ± {baseline['deviation']:.1f} an episode; constraint "
            f"{baseline['threshold']:.1f}."
        )
        parts.append(markdown(header, rows))
    return "\n\n".join(parts)


def found_of(record: dict[str, Any], method: str, baseline: str) -> dict[str, Any]:
    """What a method did beside a baseline; PPO from scratch knows none."""
    return record["methods"][method if method == "scratch" else f"{baseline}/{method}"]


def line(record: dict[str, Any], method: str, baseline: str) -> list[str]:
    """A method's row in the table of one baseline."""
    found = found_of(record, method, baseline)
    returns, samples = np.array(found["returns"]), found["samples_per_iteration"]
    violating = (returns < record["baselines"][baseline]["threshold"]).sum(1).tolist()
    good = [np.flatnonzero(row >= REACHED) for row in returns]
    reached = [human(float(each[0] * samples)) if len(each) else "–" for each in good]
    final = [f"{np.mean(found[kind]):.1f}" for kind in ("final_sampled", "final_likeliest")]
    total = human(float(samples * returns.shape[1]))
    return [
        NAMES[method],
        total,
        f"{violating} of {returns.shape[1]}",
        f"{returns.min():.1f}",
        *final,
        ", ".join(reached),
    ]


def draw(record: dict[str, Any], path: Path) -> None:
    """A panel for each baseline."""
    with styled():
        figure = new_figure(9.6, 3.9)
        for place, name in enumerate(record["baselines"]):
            panel(figure.add_subplot(1, len(record["baselines"]), place + 1), record, name)
        save_figure(figure, path)


def panel(axes: Axes, record: dict[str, Any], name: str) -> None:
    """Expected return of the collecting policy against transitions: a thin line a seed, a thick one their mean."""
    baseline = record["baselines"][name]
    for method, label in NAMES.items():
        found = found_of(record, method, name)
        returns = np.array(found["returns"])
        samples = np.arange(returns.shape[1]) * found["samples_per_iteration"]
        axes.plot(samples, returns.T, color=COLOURS[method], lw=0.5, alpha=0.5)
        axes.plot(samples, returns.mean(0), color=COLOURS[method], lw=1.9, label=label)
    axes.axhline(baseline["threshold"], color=INK, lw=1.1, ls="--", zorder=1, label="constraint")
    axes.axhline(baseline["mean"], color=MUTED, lw=1.1, ls=":", zorder=1, label="baseline")
    axes.set(xlabel="transitions", ylabel="expected return of the collecting policy", ylim=(0, None), xlim=(0, None))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: human(value)))
    axes.legend(loc="lower right")
    spread = f"{baseline['mean']:.0f} ± {baseline['deviation']:.0f} an episode"
    headline(axes, f"Behind the {name} baseline", f"{record['task']}, baseline {spread}; {len(record['seeds'])} seeds")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
