"""The backward algorithm from one demonstration, beside fresh starts: episodes until the deep sea
is solved, 10 to 30 steps down.

    python experiments/snapshot_backward.py             # everything: ten minutes of a core
    python experiments/snapshot_backward.py --quick     # two depths, two seeds
    python experiments/snapshot_backward.py --report-only

Of 2^depth sequences of actions one finds the treasure, and the demonstration shows it. Which action
leads on is drawn for each column, so that no constant policy finds it by luck. PPO is the same in
both. A seed has solved the task once half of its stochastic episodes find the treasure from the
environment's own start; what is counted are all episodes before, from wherever they began. Without
a reward on the way, random exploration takes a number of episodes that is exponential in the depth,
and backward starts a polynomial one (Salimans & Chen 2018, arXiv 1812.03381).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    from jaxrl.cli import prepare_process

    prepare_process()  # a CPU core a device; before JAX is imported

import jax
import jax.numpy as jnp
import numpy as np
from harness import Cell, Cells, Study, StudyArguments, picture, run_study, sections, table
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from jaxrl.algos.ppo import PPOConfig, ppo
from jaxrl.analysis.style import MUTED, PALETTE, headline
from jaxrl.config import flatten, override
from jaxrl.data.snapshots import bank_of, demonstrated
from jaxrl.envs.play import play
from jaxrl.envs.registry import make
from jaxrl.envs.suites.tabular import TabularMDP, tabular_mdp
from jaxrl.types import Algorithm, Array, Key

TASK = "tabular/deep-sea"
DEPTHS, QUICK_DEPTHS = (10, 15, 20, 25, 30), (6, 10)
SEEDS, QUICK_SEEDS = 6, 2
ENVIRONMENTS = 8
MOST_EPISODES, QUICK_EPISODES = 10_000, 1_000  # of a seed
SOLVED, EPISODES = 0.5, 16  # the mean return of so many episodes
ITERATIONS_PER_CHUNK = 50
STARTS: dict[str, dict[str, Any]] = {
    "backward": {
        "starts": "snapshots",
        "snapshot_selection": "backward",
        "snapshot_schedule": "constant",
    },
    "fresh": {"starts": "fresh"},
}
SETTINGS = {
    "hidden_sizes": (32,),
    "learning_rate": 3e-3,
    "anneal_learning_rate": False,
    "entropy_coefficient": 0.01,
    # Standardised, the small gain of turning back would count as much as the treasure does.
    "normalize_advantages": "none",
    "gae_lambda": 1.0,
    "gamma": 1.0,
}
SECONDS = 40  # of a core that a cell takes, about: half of them compile
# These programs run for seconds: compile them fast.
CHEAP: dict[str, Any] = {"xla_backend_optimization_level": 0}
RESAMPLES = 10_000


@dataclass(frozen=True)
class Arguments(StudyArguments):
    """The backward algorithm beside fresh starts."""


def study(arguments: Arguments) -> Study:
    """What is to be measured and written."""
    depths = QUICK_DEPTHS if arguments.quick else DEPTHS
    seeds = QUICK_SEEDS if arguments.quick else SEEDS
    most = QUICK_EPISODES if arguments.quick else MOST_EPISODES
    cells = {
        f"{starts}/{depth}": cell(starts, depth, seeds, most)
        for depth in depths
        for starts in STARTS
    }
    name = "snapshot_backward_quick" if arguments.quick else "snapshot_backward"
    return Study(name, cells, text, draw)


def cell(starts: str, depth: int, seeds: int, most: int) -> Cell:
    """The episodes of each seed at a depth."""
    sizes = {"num_envs": ENVIRONMENTS, "num_steps": depth, "minibatch_size": 2 * depth}
    total = {"total_steps": 2 * most * depth}
    config = override(PPOConfig(), sizes | total | SETTINGS | STARTS[starts])
    asked = {
        "environment": TASK,
        "depth": depth,
        "seeds": seeds,
        "most_episodes": most,
        "config": flatten(config),
    }
    return Cell(asked, partial(measure, config, depth, seeds, most), SECONDS / 3600, PPOConfig())


def measure(config: PPOConfig, depth: int, seeds: int, most: int) -> dict[str, Any]:
    """Episodes until each seed has solved it; None for those that have not after `most`."""
    env, right = sea(depth)
    inputs = {}
    if flatten(config)["starts"] == "snapshots":
        shown = demonstrated(env, TASK, {"depth": depth}, right, jax.random.key(0))
        inputs = {"bank": bank_of(shown)}
    algorithm = ppo(env, config, **inputs)
    chunk = jax.jit(jax.vmap(partial(iterations, algorithm, env)), compiler_options=CHEAP)
    keys = jax.vmap(jax.random.key)(jnp.arange(seeds))
    state = jax.jit(jax.vmap(algorithm.init), compiler_options=CHEAP)(keys)
    so_far, found = np.zeros(seeds, int), np.full(seeds, -1)
    while np.any((found < 0) & (so_far < most)):
        state, episodes, solved = chunk(state)
        total = so_far[:, None] + np.cumsum(np.asarray(episodes), axis=1).astype(int)
        newly = (found < 0) & np.asarray(solved).any(axis=1)
        at = np.argmax(np.asarray(solved), axis=1)
        found = np.where(newly, total[np.arange(seeds), at], found)
        so_far = total[:, -1]
    found = np.where(found > most, -1, found)
    return {"episodes": [int(each) if each >= 0 else None for each in found]}


def sea(depth: int) -> tuple[TabularMDP, np.ndarray]:
    """A deep sea whose actions change their meaning from column to column, and the way down."""
    env = make(TASK, depth=depth)
    assert isinstance(env, TabularMDP)
    right = np.random.default_rng(depth).integers(2, size=depth)
    # Of the environment as it is, action 1 leads on.
    meaning = np.stack([1 - right, right], axis=1)
    columns = np.arange(depth)[:, None]
    transitions = np.asarray(env.transitions)[:, columns, meaning]
    rewards = np.asarray(env.rewards)[:, columns, meaning]
    return tabular_mdp(transitions, rewards), right


def iterations(algorithm: Algorithm, env: Any, state: Any) -> tuple[Any, Array, Array]:
    """Some iterations: (state, episodes that ended in each, whether it had solved the task)."""

    def one(state: Any, _: None) -> tuple[Any, tuple[Array, Array]]:
        state, metrics = algorithm.step(state)
        ended = metrics["episode_return"].count
        if "snapshot_return" in metrics:
            ended += metrics["snapshot_return"].count
        return state, (ended, is_solved(algorithm, env, state, jax.random.key(0)))

    state, (episodes, solved) = jax.lax.scan(one, state, None, ITERATIONS_PER_CHUNK)
    return state, episodes, solved


def is_solved(algorithm: Algorithm, env: Any, state: Any, key: Key) -> Array:
    """Whether half of the policy's episodes find the treasure: bool []."""
    policy = algorithm.policy(state)
    played = play(env, algorithm.agent, policy, key, EPISODES, "stochastic")
    return jnp.mean(played.returns) >= SOLVED


def slope(depths: np.ndarray, episodes: np.ndarray) -> tuple[float, float, float]:
    """The exponent of episodes [depths, seeds] in the depth, and its 95 % interval.

    Least squares of log episodes on log depth; seeds are resampled at each depth.
    """
    across = np.log(depths) - np.log(depths).mean()

    def fitted(logs: np.ndarray) -> np.ndarray:
        return (across @ logs) / (across @ across)

    generator = np.random.default_rng(0)
    seeds = episodes.shape[1]
    places = generator.integers(seeds, size=(len(depths), RESAMPLES, seeds))
    resampled = np.stack(
        [np.log(row)[place].mean(axis=1) for row, place in zip(episodes, places, strict=True)]
    )
    low, high = np.quantile(fitted(resampled), [0.025, 0.975])
    return float(fitted(np.log(episodes).mean(axis=1))), float(low), float(high)


def of_starts(cells: Cells, starts: str) -> dict[int, list[int | None]]:
    """Depth -> episodes of each seed."""
    found = {
        row["depth"]: cells[name]["episodes"]
        for name, row in ((name, cell["asked"]) for name, cell in cells.items())
        if name.startswith(f"{starts}/")
    }
    return dict(sorted(found.items()))


def text(cells: Cells) -> str:
    """The results in Markdown."""
    rows, notes = [], []
    for starts in STARTS:
        found = of_starts(cells, starts)
        for depth, episodes in found.items():
            solved = [each for each in episodes if each is not None]
            rows.append(
                [
                    starts,
                    depth,
                    f"{len(solved)} of {len(episodes)}",
                    f"{np.median(solved):.0f}" if solved else None,
                    f"{min(solved)} … {max(solved)}" if solved else None,
                    f"{2**depth:,}",
                ]
            )
        whole = {depth: each for depth, each in found.items() if None not in each}
        if len(whole) == len(found) > 1:
            exponent, low, high = slope(np.array(list(whole)), np.array(list(whole.values())))
            notes.append(
                f"{starts}: episodes grow as depth^{exponent:.2f}, 95 % interval "
                f"[{low:.2f}, {high:.2f}] over seeds."
            )
        elif found:
            notes.append(f"{starts}: no exponent, since not every seed solved every depth.")
    most = max((cell["asked"]["most_episodes"] for cell in cells.values()), default=0)
    header = ["starts", "depth", "seeds that solve it", "median episodes", "from … to", "sequences"]
    return sections(
        table(header, rows),
        " ".join(notes),
        f"A seed that has not solved it within {most:,} episodes is given up.",
    )


def draw(cells: Cells, path: Path) -> None:
    """Episodes against depth, on logarithmic axes."""
    picture(path, [partial(draw_panel, cells)], 6.4, 4.0)


def draw_panel(cells: Cells, axes: Axes) -> None:
    """Every seed as a dot, medians as a line, and those that were given up at the top."""
    depths = sorted({cell["asked"]["depth"] for cell in cells.values()})
    most = max(cell["asked"]["most_episodes"] for cell in cells.values())
    for starts, colour in zip(STARTS, PALETTE, strict=False):
        found = of_starts(cells, starts)
        middle = {}
        for depth, episodes in found.items():
            solved = [each for each in episodes if each is not None]
            axes.plot([depth] * len(solved), solved, "o", ms=4, mew=0, alpha=0.5, color=colour)
            if len(solved) == len(episodes):
                middle[depth] = np.median(solved)
            if failed := len(episodes) - len(solved):
                axes.plot(depth, 1.6 * most, "x", ms=6, color=colour)
                place = (depth, 1.6 * most)
                axes.annotate(f"{failed}", place, (5, 3), textcoords="offset points", color=colour)
        axes.plot(list(middle), list(middle.values()), color=colour, lw=1.9, label=starts)
    reference = np.array([depth for depth in depths if 2**depth <= 2 * most])
    if len(reference) > 1:
        axes.plot(reference, 2.0**reference, color=MUTED, ls=":", label="2^depth")
    axes.axhline(most, color=MUTED, lw=0.8, ls="--")
    axes.set(xscale="log", yscale="log", xlabel="depth", ylabel="episodes until it is solved")
    axes.set_xticks(depths, [str(depth) for depth in depths])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.legend(loc="center right", bbox_to_anchor=(1.0, 0.62))
    headline(axes, "One demonstration in the deep sea", "× and a number: seeds that were given up")


if __name__ == "__main__":
    run_study(study, Arguments)
