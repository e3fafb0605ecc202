"""Deep StepMix on CartPole behind a mediocre baseline: violations of the constraint, and their price in samples.

    python experiments/deep_stepmix.py           # baseline, three methods, five seeds: some fifteen minutes on a core
    python experiments/deep_stepmix.py --quick   # two seeds, a tenth of the measuring episodes
    python experiments/deep_stepmix.py --report-only

Three ways to a good policy: PPO from scratch, PPO that begins with the baseline's weights, and deep StepMix, whose
learner begins from scratch too. The baseline takes its likeliest actions, or samples them as PPO from its weights does.
Before every iteration the policy that is about to collect data plays fresh episodes apart from the training; an
iteration violates the constraint if their mean is below nine tenths of the baseline's.
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
from jaxrl.algos.registry import flatten, override
from jaxrl.analysis.style import INK, MUTED, PALETTE, headline, human, new_figure, save_figure, styled
from jaxrl.core.mixture import Choice
from jaxrl.envs.registry import make
from jaxrl.envs.starts import Fresh
from jaxrl.train.console import Console
from jaxrl.train.experiment import Experiment, RunSettings, versions
from jaxrl.train.inputs import read_actor
from jaxrl.train.report import load_policy
from jaxrl.types import Actor, Algorithm, Key, PyTree

TASK, LEVEL, BUDGET, BASELINE_SEED = "CartPole-v1", 0.9, 2_048_000, 0
BASELINE = {"total_steps": 40_960, "num_envs": 8, "num_steps": 128, "minibatch_size": 256}
SHARED = {"num_envs": 512, "minibatch_size": 2000, "learning_rate": 1e-3}
PPO_SETTINGS = SHARED | {"total_steps": BUDGET, "num_steps": 125}
DEEP_SETTINGS = SHARED | {"total_steps": 2 * BUDGET, "return_high": 500.0}
ACTIONS = ("likeliest", "sampled")
NAMES = {"scratch": "PPO from scratch", "finetuned": "PPO from its weights"}
NAMES |= dict.fromkeys(ACTIONS, "deep StepMix")
COLOURS = dict(zip(NAMES, (PALETTE[1], PALETTE[4], PALETTE[0], PALETTE[0]), strict=True))
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
    settings = RunSettings(seed=BASELINE_SEED, num_evaluations=1)
    train_or_resume(Experiment("ppo", TASK, override(PPOConfig(), BASELINE), settings), folder, console)
    actor, policy, env = read_actor("baseline", folder, TASK), load_policy(folder)[2], make(TASK)
    plain = ppo(env, override(PPOConfig(), PPO_SETTINGS))
    baselines, methods = {}, {}
    for actions in ACTIONS:
        alone = jax.jit(measure(plain, actor, 10 * episodes, actions == "likeliest"))(
            policy, only(0), jax.random.key(0)
        )
        baselines[actions] = {"mean": float(alone.mean()), "deviation": float(alone.std())}
        console.note(f"the baseline earns {alone.mean():.1f} ± {alone.std():.1f} by its {actions} actions")
    runs = {"scratch": (plain, None), "finetuned": (plain, policy)}
    runs |= {actions: (deep_stepmix(env, deep_config(actions), actor), None) for actions in ACTIONS}
    for method, (algorithm, first) in runs.items():
        begun = time.perf_counter()
        actions = method if method in ACTIONS else "likeliest"  # of a baseline that PPO never hands over from
        methods[method] = train(algorithm, actor, first, seeds, episodes, actions)
        console.note(f"{method}: {time.perf_counter() - begun:.0f} s")
    return {
        "task": TASK,
        "seeds": list(range(seeds)),
        "episodes_a_measurement": episodes,
        "baselines": baselines,
        "thresholds": {actions: LEVEL * found["mean"] for actions, found in baselines.items()},
        "methods": methods,
        "settings": {
            "baseline": BASELINE | {"seed": BASELINE_SEED},
            "ppo": flatten(override(PPOConfig(), PPO_SETTINGS)),
            "deep": flatten(override(DeepStepMixConfig(), DEEP_SETTINGS)),
        },
        "versions": versions(TASK),
    }


def deep_config(actions: str) -> DeepStepMixConfig:
    """Behind a baseline that acts so."""
    return override(DeepStepMixConfig(), DEEP_SETTINGS | {"baseline_actions": actions})


def only(step: int) -> Choice:
    """Always to hand over at `step`."""
    step_array = jnp.int32(step)
    return Choice(step_array, step_array, jnp.float32(1.0), jnp.float32(0.0))


def measure(
    algorithm: Algorithm, actor: Actor, episodes: int, deterministic: bool = False, actions: str = "likeliest"
) -> Callable:
    """A function of (policy, choice, key) to the returns [episodes] of a mixture with the baseline `actor`."""
    env = make(TASK)
    vector = GuidedEnv(env, Fresh(env), episodes, baseline=actor, config=deep_config(actions))

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


def train(
    algorithm: Algorithm, actor: Actor, policy: PyTree | None, seeds: int, episodes: int, actions: str = "likeliest"
) -> dict[str, Any]:
    """What the collecting policy of every iteration earns, [seeds, iterations], and the last learner by itself."""
    guided = isinstance(jax.eval_shape(algorithm.init, jax.random.key(0)).vector, Round)
    returns_of, likeliest_of = (measure(algorithm, actor, episodes, each, actions) for each in (False, True))
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
    """A table for each way in which the baseline acts."""
    parts = [
        f"{record['task']}, seeds {record['seeds']}. The collecting policy of each iteration is measured in "
        f"{record['episodes_a_measurement']:,} fresh episodes; those whose mean is below the constraint are counted."
    ]
    for actions, baseline in record["baselines"].items():
        rows = [line(record, method, actions) for method in ("scratch", "finetuned", actions)]
        header = ["method", "transitions", "violating iterations, by seed", "least return"]
        header += ["last learner, sampled", "likeliest", f"transitions to a round of {REACHED:g}, by seed"]
        parts.append(
            f"Baseline by its {actions} actions: {baseline['mean']:.1f} ± {baseline['deviation']:.1f} an episode; "
            f"constraint {record['thresholds'][actions]:.1f}."
        )
        parts.append(markdown(header, rows))
    return "\n\n".join(parts)


def line(record: dict[str, Any], method: str, actions: str) -> list[str]:
    """A method's row in the table of one baseline."""
    found = record["methods"][method]
    returns, samples = np.array(found["returns"]), found["samples_per_iteration"]
    violating = (returns < record["thresholds"][actions]).sum(1).tolist()
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
    """A panel for each way in which the baseline acts."""
    with styled():
        figure = new_figure(9.6, 3.9)
        for place, actions in enumerate(record["baselines"]):
            panel(figure.add_subplot(1, 2, place + 1), record, actions)
        save_figure(figure, path)


def panel(axes: Axes, record: dict[str, Any], actions: str) -> None:
    """Expected return of the collecting policy against transitions: a thin line a seed, a thick one their mean."""
    for method in ("scratch", "finetuned", actions):
        found = record["methods"][method]
        returns = np.array(found["returns"])
        samples = np.arange(returns.shape[1]) * found["samples_per_iteration"]
        axes.plot(samples, returns.T, color=COLOURS[method], lw=0.5, alpha=0.5)
        axes.plot(samples, returns.mean(0), color=COLOURS[method], lw=1.9, label=NAMES[method])
    axes.axhline(record["thresholds"][actions], color=INK, lw=1.1, ls="--", zorder=1, label="constraint")
    axes.axhline(record["baselines"][actions]["mean"], color=MUTED, lw=1.1, ls=":", zorder=1, label="baseline")
    axes.set(xlabel="transitions", ylabel="expected return of the collecting policy", ylim=(0, None), xlim=(0, None))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: human(value)))
    axes.legend(loc="lower right")
    headline(axes, f"Behind a baseline's {actions} actions", f"{record['task']}, {len(record['seeds'])} seeds, mean")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
