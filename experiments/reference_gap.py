"""Why PPO on HalfCheetah earns more here than CleanRL publishes for the same hyperparameters.

    python experiments/reference_gap.py          # four variants, three seeds: some 15 CPU-minutes
    python experiments/reference_gap.py --quick  # a trial: some minutes, nearly all compiling
    python experiments/reference_gap.py --steps 1000000 --seeds 10

CleanRL's ppo_continuous_action (at fe8d8a0) differs from `reference` of mujoco_ppo.py in two things
that decide what is learnt. Both are switched on here, alone and together:

    ends        the time limit counts as the end: nothing is bootstrapped from what follows
    normalises  Gymnasium's NormalizeObservation and NormalizeReward, as CleanRL wraps them: renewed
                on every step, also within a rollout, and clipped to ±10

Returns are those of training, with stochastic actions, as CleanRL publishes them: undiscounted and
unscaled, over the last tenth of the run.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":
    from jaxrl.cli import prepare_process

    prepare_process()  # a CPU core a device; before JAX is imported

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from harness import Cell, Cells, Study, check_choices, run_study, sections, table
from mujoco_ppo import TASKS
from mujoco_ppo import experiment as reference
from training import TrainingArguments, request, train_or_resume

from jaxrl.analysis.runs import Run, load_run
from jaxrl.analysis.statistics import mean_interval
from jaxrl.config import configuration, override
from jaxrl.core import moments
from jaxrl.core.moments import Moments
from jaxrl.core.shards import Shards
from jaxrl.envs.api import Environment
from jaxrl.envs.registry import make
from jaxrl.envs.starts.api import Draw, Starts, StartsConfig
from jaxrl.envs.starts.fresh import Bank, Fresh
from jaxrl.train.experiment import Experiment, RunSettings
from jaxrl.train.output.console import Console
from jaxrl.types import Array, Key, PyTree, Space, Timestep, Transition

TASK = "HalfCheetah-v5"
VARIANTS = {
    "reference": {},
    "both": {"ends": True, "normalises": True},
    "ends": {"ends": True},
    "normalises": {"normalises": True},
}
GAMMA = 0.99
CPU_SECONDS_PER_TRANSITION = 2e-4  # of one seed


class Statistics(NamedTuple):
    """What Gymnasium's two wrappers know of one environment, whichever episode it is in."""

    observations: Moments
    earned: Array  # float32 [], discounted sum of past rewards
    returns: Moments  # of that sum

    @classmethod
    def first(cls, size: int) -> Statistics:
        """Of nothing: mean 0, variance 1, and a count of 1e-4, as in Gymnasium."""
        of_observations, of_returns = (
            Moments(jnp.zeros(shape), jnp.ones(shape), jnp.float32(1e-4)) for shape in ((size,), ())
        )
        return cls(of_observations, jnp.zeros(()), of_returns)


class Lap(NamedTuple):
    """The state of a task, with what the wrappers keep beside it."""

    inner: PyTree
    observation: Array  # as the task shows it
    clock: Array  # int32 [], steps taken in this episode
    statistics: Statistics


class AsInCleanRL(Environment):
    """A task whose time limit is an end, or whose observations and rewards are normalised."""

    env: Environment
    ends: bool = struct.field(pytree_node=False)
    normalises: bool = struct.field(pytree_node=False)

    @property
    def observation_space(self) -> Space:
        """The task's; it knows no bounds."""
        return self.env.observation_space

    @property
    def action_space(self) -> Space:
        """The task's."""
        return self.env.action_space

    @property
    def horizon(self) -> int:
        """The task's."""
        return self.env.horizon

    @property
    def info(self) -> tuple[str, ...]:
        """The reward as the task gives it."""
        return ("reward",)

    def reset(self, key: Key) -> tuple[Lap, Array]:
        """Begin without statistics: `Carried` gives an episode those of the one before."""
        inner, observation = self.env.reset(key)
        clock = jnp.zeros((), jnp.int32)
        return self.show(Lap(inner, observation, clock, Statistics.first(len(observation))))

    def show(self, lap: Lap) -> tuple[Lap, Array]:
        """What the policy sees, by statistics that have seen it too."""
        if not self.normalises:
            return lap, lap.observation
        statistics = lap.statistics
        seen = moments.update(statistics.observations, lap.observation[None])
        lap = lap._replace(statistics=statistics._replace(observations=seen))
        return lap, moments.normalize(seen, lap.observation)

    def step(self, key: Key, state: Lap, action: Array) -> tuple[Lap, Timestep]:
        """One step of the task, as the wrappers hand it on."""
        inner, timestep = self.env.step(key, state.inner, action)
        clock = state.clock + 1
        statistics, reward = self.scaled(state.statistics, timestep)
        lap, observation = self.show(Lap(inner, timestep.observation, clock, statistics))
        over = timestep.terminated | (self.ends & (clock >= self.horizon))
        return lap, Timestep(observation, reward, over, {"reward": timestep.reward})

    def scaled(self, statistics: Statistics, timestep: Timestep) -> tuple[Statistics, Array]:
        """The reward over the deviation of discounted returns, this one's among them, clipped."""
        if not self.normalises:
            return statistics, timestep.reward
        goes_on = 1.0 - timestep.terminated  # and goes on where time was up
        earned = GAMMA * goes_on * statistics.earned + timestep.reward
        returns = moments.update(statistics.returns, earned[None])
        scaled = timestep.reward * jax.lax.rsqrt(returns.variance + 1e-8)
        return statistics._replace(earned=earned, returns=returns), jnp.clip(scaled, -10.0, 10.0)


def as_in_cleanrl(task: str = TASK, ends: bool = False, normalises: bool = False) -> AsInCleanRL:
    """The environment by its import path."""
    return AsInCleanRL(make(task), ends, normalises)


class Carried(Fresh):
    """Fresh episodes that go on with the statistics of those before."""

    def draw(
        self, state: Bank, key: Key, ended: Array, seen: Transition | None, reached: PyTree | None
    ) -> tuple[Bank, Draw]:
        """The task's own reset, shown by the statistics that the episode before has left."""
        bank, draw = super().draw(state, key, ended, seen, reached)
        if reached is not None:
            begun = draw.state._replace(statistics=reached.statistics)
            begun, observation = jax.vmap(self.env.show)(begun)
            draw = dataclasses.replace(draw, state=begun, observation=observation)
        return bank, draw


@configuration
class CarriedConfig(StartsConfig):
    """Fresh episodes that go on with the statistics of those before."""

    def make(self, env: Environment, shards: Shards) -> Starts:  # type: ignore[override]
        """The same on every device."""
        del shards
        return Carried(env)


@dataclass(frozen=True)
class Arguments(TrainingArguments):
    """PPO on HalfCheetah as CleanRL has it, step by step."""

    variants: tuple[str, ...] = tuple(VARIANTS)
    """What to train; the table shows every variant that has been trained."""
    steps: int = 300_000
    """Transitions of each seed; the learning rate goes to zero over them."""
    seeds: int = 3
    """Seeds, in one program."""


def study(arguments: Arguments) -> Study:
    """What is to be trained and written."""
    check_choices("variant", arguments.variants, VARIANTS)
    name = "reference_gap_quick" if arguments.quick else "reference_gap"
    steps, seeds = (8192, 2) if arguments.quick else (arguments.steps, arguments.seeds)
    cells = {}
    for variant in arguments.variants:
        trained = experiment(VARIANTS[variant], steps, seeds)
        folder = arguments.runs / name / variant
        hours = steps * seeds * CPU_SECONDS_PER_TRANSITION / 3600
        measure = partial(trained_returns, trained, folder)
        cells[variant] = Cell(request(trained), measure, hours, type(trained.config)())
    return Study(name, cells, text)


def experiment(options: dict[str, bool], steps: int, seeds: int) -> Experiment:
    """A variant; what Gymnasium's wrappers do PPO then leaves alone."""
    trained = reference(TASK, "reference", quick=False)
    settings: dict[str, Any] = {"total_steps": steps, "gamma": GAMMA}
    if options.get("normalises"):
        settings |= {"normalize_observations": False, "scale_rewards": False}
        settings |= {"starts": "reference_gap:CarriedConfig"}
    return dataclasses.replace(
        trained,
        environment="reference_gap:as_in_cleanrl",
        environment_options={"task": TASK, **options},
        config=override(trained.config, settings),
        # Evaluations begin without statistics, and are not looked at.
        run=RunSettings(num_seeds=seeds, num_evaluations=1, evaluation_episodes=1),
    )


def trained_returns(trained: Experiment, folder: Path) -> dict[str, Any]:
    """Training returns of each seed: over the last tenth, and at each tenth on the way."""
    train_or_resume(trained, folder, Console())
    run = load_run(folder)
    curve = tenths(run, trained.run.num_seeds)
    return {
        "task": TASK,
        "transitions": run.metrics[-1]["transitions"],
        "seed_scores": curve[-1],
        "curve": curve,
    }


def tenths(run: Run, seeds: int) -> list[list[float]]:
    """The mean return of the episodes in each tenth of a run, [10, seeds].

    The task's rewards are averaged over all steps: an episode is `horizon` of them.
    """
    transitions, reward = run.metric("env_reward")
    returns = reward.reshape(len(transitions), seeds) * make(TASK).horizon
    tenth = np.ceil(10 * transitions / transitions[-1]).astype(int)
    return [returns[tenth == place].mean(0).tolist() for place in range(1, 11)]


def text(cells: Cells) -> str:
    """The variants side by side in Markdown."""
    lines = []
    for variant in VARIANTS:
        if variant in cells:
            scores = np.asarray(cells[variant]["seed_scores"])
            low, high = mean_interval(scores)
            half = np.mean(cells[variant]["curve"][4])
            each = ", ".join(f"{score:.0f}" for score in sorted(scores))
            score = f"{scores.mean():.0f} [{low:.0f}, {high:.0f}]"
            lines.append([variant, score, each, f"{half:.0f}"])
    header = ["variant", "training return [95 %]", "each seed", "mean at half time"]
    published = TASKS[TASK].cleanrl
    steps = {cell["transitions"] for cell in cells.values()}
    note = (
        f"{TASK}, {', '.join(f'{each:,}' for each in sorted(steps))} transitions per seed. CleanRL "
        f"publishes {published[0]} ± {published[1]} after a million on v4."
        if published
        else ""
    )
    return sections(table(header, lines), note)


if __name__ == "__main__":
    run_study(study, Arguments)
