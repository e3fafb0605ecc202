"""Deep StepMix on CartPole behind a mediocre baseline: violations of the constraint, and their price in samples.

    python experiments/deep_stepmix.py           # baseline, three methods, five seeds: some ten minutes on two cores
    python experiments/deep_stepmix.py --quick   # two seeds, a tenth of the measuring episodes
    python experiments/deep_stepmix.py --report-only

Three ways to a good policy: PPO from scratch, PPO that begins with the baseline's weights, and deep StepMix, whose
learner begins from scratch too. Before every iteration the policy that is about to collect data plays fresh episodes
apart from the training; an iteration violates the constraint if their mean is below nine tenths of the baseline's.
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
from published import RESULTS, markdown, train_or_resume, write

from jaxrl.algos.deep_stepmix import DeepStepMixConfig, GuidedEnv, Round, deep_stepmix
from jaxrl.algos.ppo import Policy, PPOConfig, ppo
from jaxrl.algos.registry import flatten, override
from jaxrl.analysis.style import INK, MUTED, PALETTE, headline, human, label_ends, new_figure, save_figure, styled
from jaxrl.core.mixture import Choice
from jaxrl.envs.registry import make
from jaxrl.envs.starts import Fresh
from jaxrl.train.console import Console
from jaxrl.train.experiment import Experiment, RunSettings, versions
from jaxrl.train.inputs import read_actor
from jaxrl.train.report import load_policy
from jaxrl.types import Actor, Algorithm, Key, PyTree

TASK, LEVEL, BUDGET = "CartPole-v1", 0.9, 2_048_000
BASELINE = {"total_steps": 81_920, "num_envs": 8, "num_steps": 128, "minibatch_size": 256}
SHARED = {"num_envs": 512, "minibatch_size": 2000, "learning_rate": 1e-3}
PPO_SETTINGS = SHARED | {"total_steps": BUDGET, "num_steps": 125}
# The baseline samples its actions as PPO does, so that PPO from its weights begins as good as it is.
DEEP_SETTINGS = SHARED | {"total_steps": 2 * BUDGET, "baseline_actions": "sampled", "return_high": 500.0}
NAMES = {"scratch": "PPO from scratch", "finetuned": "PPO from the baseline", "deep": "deep StepMix"}
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
        write(name, run(seeds, episodes, console), "")
    record = json.loads(path.read_text())
    write(name, record, text(record))
    draw(record, path.with_suffix(".png"))
    console.note(f"{text(record)}\n\nwrote {path}, .md and .png")


def run(seeds: int, episodes: int, console: Console) -> dict[str, Any]:
    """All methods; what is measured is in undiscounted returns."""
    folder = Path("runs/deep_stepmix/baseline")
    settings = RunSettings(seed=1, num_evaluations=1)
    train_or_resume(Experiment("ppo", TASK, override(PPOConfig(), BASELINE), settings), folder, console)
    actor, params = read_actor("baseline", folder, TASK), load_policy(folder)[2].params
    env = make(TASK)
    alone = jax.jit(measure(ppo(env, override(PPOConfig(), PPO_SETTINGS)), actor, 10 * episodes))
    baseline_returns = np.asarray(alone(Policy(params, None), only(env.horizon), jax.random.key(0)))
    threshold = LEVEL * float(baseline_returns.mean())
    console.note(f"the baseline earns {baseline_returns.mean():.1f}, so the constraint is {threshold:.1f}")
    plain = ppo(env, override(PPOConfig(), PPO_SETTINGS))
    deep = deep_stepmix(env, override(DeepStepMixConfig(), DEEP_SETTINGS), actor)
    methods = {}
    for method, algorithm in {"scratch": plain, "finetuned": plain, "deep": deep}.items():
        begun = time.perf_counter()
        first = params if method == "finetuned" else None
        methods[method] = train(algorithm, actor, first, seeds, episodes)
        violations = (np.array(methods[method]["returns"]) < threshold).sum(1)
        console.note(f"{NAMES[method]}: violating iterations {violations}, {time.perf_counter() - begun:.0f} s")
    return {
        "task": TASK,
        "seeds": list(range(seeds)),
        "episodes_a_measurement": episodes,
        "baseline_return": float(baseline_returns.mean()),
        "baseline_deviation": float(baseline_returns.std()),
        "threshold": threshold,
        "methods": methods,
        "settings": {
            "baseline": BASELINE,
            "ppo": flatten(override(PPOConfig(), PPO_SETTINGS)),
            "deep": flatten(override(DeepStepMixConfig(), DEEP_SETTINGS)),
        },
        "versions": versions(TASK),
    }


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


def train(algorithm: Algorithm, actor: Actor, params: PyTree | None, seeds: int, episodes: int) -> dict[str, Any]:
    """What the collecting policy of every iteration earns, [seeds, iterations], and the last learner by itself."""
    guided = isinstance(jax.eval_shape(algorithm.init, jax.random.key(0)).vector, Round)
    returns_of, likeliest_of = (measure(algorithm, actor, episodes, each) for each in (False, True))
    keys = jax.vmap(jax.random.key)(jnp.arange(seeds))

    def begin(key: Key) -> PyTree:
        state = algorithm.init(key)
        return state if params is None else state._replace(policy=state.policy._replace(params=params))

    def iterate(state: PyTree, key: Key) -> tuple:
        choice = state.vector.plan.choice if guided else only(0)
        seen = returns_of(algorithm.policy(state), choice, key)
        following, _ = algorithm.step(state)
        handover = choice.weight * choice.bold + (1 - choice.weight) * choice.cautious
        return following, (seen.mean(), seen.std() / jnp.sqrt(len(seen)), handover)

    def finish(state: PyTree, key: Key) -> tuple:
        policy = algorithm.policy(state)
        return tuple(each(policy, only(0), key).mean() for each in (returns_of, likeliest_of))

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
    """The table."""
    rows = []
    for method, found in record["methods"].items():
        returns, samples = np.array(found["returns"]), found["samples_per_iteration"]
        violating = (returns < record["threshold"]).sum(1)
        deficit = np.maximum(record["threshold"] - returns, 0).sum(1) * samples
        learner = np.array(found["handover_steps"]) == 0
        good = [np.flatnonzero((row >= REACHED) & free) for row, free in zip(returns, learner, strict=True)]
        reached = [human(float(each[0] * samples)) if len(each) else "–" for each in good]
        final = [np.mean(found[kind]) for kind in ("final_sampled", "final_likeliest")]
        cells = [NAMES[method], human(float(samples * returns.shape[1])), f"{violating.tolist()} of {returns.shape[1]}"]
        cells += [f"{returns.min():.1f}", f"{(deficit / samples).mean():.0f}"]
        rows.append([*cells, f"{final[0]:.1f}", f"{final[1]:.1f}", ", ".join(reached)])
    header = ["method", "transitions", "violating iterations, by seed", "least return", "summed shortfall"]
    header += ["final return, sampled", "likeliest", f"transitions to {REACHED:g}, by seed"]
    about = (
        f"{record['task']}: the baseline earns {record['baseline_return']:.1f} ± {record['baseline_deviation']:.1f} an "
        f"episode, the constraint is {record['threshold']:.1f}. Each iteration's collecting policy is measured in "
        f"{record['episodes_a_measurement']:,} fresh episodes; seeds {record['seeds']}."
    )
    return f"{about}\n\n{markdown(header, rows)}"


def draw(record: dict[str, Any], path: Path) -> None:
    """Expected return of the collecting policy against transitions: a thin line a seed, a thick one their mean."""
    with styled():
        figure = new_figure(7.2, 4.0)
        axes, ends = figure.add_subplot(), []
        for method, found in record["methods"].items():
            returns = np.array(found["returns"])
            samples = np.arange(returns.shape[1]) * found["samples_per_iteration"]
            for row in returns:
                axes.plot(samples, row, color=COLOURS[method], lw=0.5, alpha=0.5)
            axes.plot(samples, returns.mean(0), color=COLOURS[method], lw=1.9)
            if method == "deep":
                ends.append((returns[:, -1].mean(), NAMES[method], COLOURS[method]))
            else:
                axes.text(samples[-1], returns[:, -1].mean(), f" {NAMES[method]}", color=COLOURS[method], va="center")
        axes.axhline(record["threshold"], color=INK, lw=1.1, ls="--", zorder=1)
        axes.axhline(record["baseline_return"], color=MUTED, lw=1.1, ls=":", zorder=1)
        ends += [(record["threshold"], "constraint", INK), (record["baseline_return"], "baseline", MUTED)]
        axes.set(xlabel="transitions", ylabel="expected return of the collecting policy", ylim=(0, None))
        axes.xaxis.set_major_formatter(lambda value, _: human(value))
        axes.set_xlim(0, None)
        label_ends(axes, ends)
        headline(axes, f"{record['task']}: learning behind a baseline", f"{len(record['seeds'])} seeds and their mean")
        save_figure(figure, path)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
