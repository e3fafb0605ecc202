"""What a run leaves behind for people: its summary, its pictures, evaluations of its policies."""

from __future__ import annotations

import errno
import functools
import os
import re
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from jaxrl.analysis.runs import Run, load_run
from jaxrl.config import budget_field
from jaxrl.envs.api import Drawable, Environment
from jaxrl.envs.registry import make
from jaxrl.errors import JaxrlError, RunWarning, check_positive_int, check_seed
from jaxrl.train import resuming
from jaxrl.train.devices import distributed
from jaxrl.train.experiment import Experiment, described_by
from jaxrl.train.files import logs
from jaxrl.train.files.checkpoint import Checkpoints
from jaxrl.train.files.folder import (
    check_writable,
    file_errors,
    read_description,
    refuse_links,
    write_atomically,
)
from jaxrl.train.output.console import Console, human
from jaxrl.train.output.ranked import name_the_winner, score_rows, summarize
from jaxrl.train.output.record import record_episode
from jaxrl.train.player import steered
from jaxrl.train.pretrained import comes_with_jaxrl, located
from jaxrl.train.recorder import record
from jaxrl.train.runner import Diverged, Result
from jaxrl.train.saved import open_policies, open_policy
from jaxrl.train.trust import NOBODY, Trust
from jaxrl.train.turns import read as read_turns
from jaxrl.types import Box, PyTree

if TYPE_CHECKING:
    from jaxrl.analysis.plots import Look


def finish(result: Result, experiment: Experiment, console: Console) -> int:
    """Print how a run ended and draw its curve; returns the exit status, 128 + signal if any."""
    status = 0
    if result.signal and result.evaluated_iteration < result.num_iterations:
        status = 128 + result.signal
    if not distributed.is_first():
        return status
    if not result.trained_iterations and result.signal is None:
        found = budget_field(experiment.config)
        raised = f" (--set {found[0]}=… --force)" if found else ""
        console.note(f"{result.folder} is finished; to train it further, raise its budget{raised}")
    if result.returns:
        rows = score_rows(experiment.settings(), result.returns, result.reference_scores)
        last = result.evaluated_iteration == result.num_iterations
        console.summary(
            rows,
            "final evaluation" if last else f"evaluation at iteration {result.evaluated_iteration}",
        )
        if len(experiment.settings()) > 1:
            name_the_winner([result], (), console)
    if result.trained_iterations:
        unit = "environment steps" if result.unit == "transitions" else result.unit
        speed = f"{human(result.steps_per_second)} {unit}/s"
        console.note(f"training      {speed}, compiled in {result.compile_seconds:.1f} s")
    console.note(f"run folder    {result.folder}")
    newest = Checkpoints(result.folder).newest
    console.note(f"checkpoint    {result.folder / newest.parent.name / newest.name}")
    if result.returns:
        _draw(result.folder, console)
    if result.signal and status:
        stopped = (
            f"stopped by {signal.Signals(result.signal).name} after iteration {result.iteration}"
        )
        console.note(f"{stopped}; go on: jaxrl resume {result.folder}")
    return status


def finish_turns(folder: Path, results: Iterator[Result], console: Console) -> int:
    """Train what is left of a sweep in turn, and print how it ended; returns the exit status."""
    turns = read_turns(folder)
    done = []
    for result in results:
        is_whole = result.evaluated_iteration == result.num_iterations
        if result.signal and not (is_whole and result.folder.name == turns.runs[-1]):
            if distributed.is_first():
                stopped = f"stopped by {signal.Signals(result.signal).name} in {result.folder}"
                console.note(f"{stopped}; go on: jaxrl resume {folder}")
            return 128 + result.signal
        done.append(result)
        if distributed.is_first():
            _draw(result.folder, console)
    finished = {result.folder.name for result in done}
    lost = [name for name in turns.runs if name not in finished]
    if not done:
        raise Diverged(f"all runs in {folder} diverged: no setting has a score.")
    if distributed.is_first():
        summarize(done, turns.varied, console)
        if lost:
            console.note(f"no score      {', '.join(lost)}: diverged")
        console.note(f"run folders   {folder}/…")
    return 0


def _draw(folder: Path, console: Console) -> None:
    """Draw the curve of a run that has ended, if it can be."""
    try:
        console.note(f"curve         {plot([folder], None)}")
    except Exception as error:  # whatever matplotlib has met: the run is whole without it
        why = "" if isinstance(error, JaxrlError) else f"{type(error).__name__}: "
        warnings.warn(f"no picture was drawn: {why}{error}", RunWarning, stacklevel=3)


def evaluate(
    folder: Path,
    num_episodes: int,
    checkpoint: str,
    seed: int,
    console: Console,
    *,
    member: Sequence[str] = (),
    modes: Sequence[str] = (),
    trust: Trust = NOBODY,
) -> int:
    """Evaluate saved policies on fresh episodes and print a table: of all members, or of some."""
    saved = open_policies(
        located(folder), checkpoint, num_episodes, seed, member=member, modes=modes, trust=trust
    )
    with console.playing() as bar:
        episodes = saved.player.evaluate(saved.policies, saved.iteration, bar.evaluating)
    returns = {mode: np.asarray(played.returns) for mode, played in episodes.items()}
    reference = reference_of(read_description(located(folder))) or saved.env.reference_scores
    rows = score_rows(saved.experiment.settings(), returns, reference)
    console.summary(rows, f"{folder}: {checkpoint} checkpoint, iteration {saved.iteration}")
    return 0


def reference_of(description: dict[str, Any]) -> tuple[float, float] | None:
    """Returns of a random and of an expert policy, as a run's description has them, if it does."""
    match description.get("reference_scores"):
        case [int() | float() as random, int() | float() as expert]:
            return float(random), float(expert)
    return None


def collect(
    folder: Path,
    checkpoint: str,
    num_episodes: int,
    output: Path | None,
    *,
    usual_name: str,
    stride: int,
    seed: int,
    mode: str | None,
    member: Sequence[str],
    overwrite: bool,
    trust: Trust,
    console: Console,
) -> str:
    """Record whole episodes of a saved policy into a file; returns a line on what was written.

    Without an `output` it goes into the run folder, by its usual name.
    """
    path = located(folder)
    read_description(path)  # its errors name the nearest run folders
    target = output or _place(folder) / usual_name
    check_new(target, ".npz", overwrite)
    asked = () if mode is None else (mode,)
    saved = open_policy(path, checkpoint, member=member, modes=asked, trust=trust)
    with console.playing() as bar:
        found = record(saved, num_episodes, stride=stride, seed=seed, each_piece=bar.evaluating)
    data = found.data()
    write_atomically(target, data)
    returns = found.episode_returns
    return (
        f"wrote {target}: {len(found):,} rows of {len(returns)} episodes "
        f"({found.header['played_by']['mode']}, mean return {returns.mean():.1f}), "
        f"{len(data) / 1e6:.1f} MB"
    )


def check_new(target: Path, suffix: str, overwrite: bool, option: str = "--output") -> None:
    """Refuse to write to a file of another kind, to one that is there, or where there is no folder.

    `option` is the one that names it.
    """
    if target.suffix != suffix:
        raise JaxrlError(f"{option.removeprefix('--')} is {target}, but must end in {suffix}.")
    if os.path.lexists(target) and not overwrite:
        raise JaxrlError(f"{target} exists: give another {option}, or --overwrite.")
    with file_errors("write", target):
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
        if not target.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(target.parent))
    check_writable(target)


def _place(folder: Path) -> Path:
    """Where what is made of a run goes unless somebody says otherwise: into its folder."""
    if comes_with_jaxrl(folder):
        raise JaxrlError(f"{folder} is part of jaxrl: say where to write, --output.")
    refuse_links(folder)
    return folder


@contextmanager
def drawing(target: Path, action: str = "write") -> Iterator[None]:
    """Errors in what `jaxrl.analysis` reads or draws, as those of a user's request."""
    try:
        with file_errors(action, target):
            yield
    except JaxrlError:
        raise
    except ValueError as error:
        raise JaxrlError(str(error)) from error


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """What runs have recorded; warns of what nothing vouches for."""
    for index, folder in enumerate(folders):
        if comes_with_jaxrl(folder):
            raise JaxrlError(
                f"{folder} is part of jaxrl, a policy without the records of its training: "
                f"evaluate it (jaxrl eval {folder}) or film it (jaxrl render {folder} --output "
                "FILE.gif)."
            )
        description = read_description(folder)  # its errors name the nearest run folders
        if folder.resolve() in [other.resolve() for other in folders[:index]]:
            raise JaxrlError(f"{folder} is given twice.")
        _say_what_is_not_vouched_for(folder, description)
    with drawing(folders[0], "read"):
        return [load_run(folder) for folder in folders]


def plot(
    folders: Sequence[Path],
    output: Path | None,
    kind: str | None = None,
    labels: Sequence[str] | None = None,
    look: Look | None = None,
) -> Path:
    """Draw runs; unless a kind is given, one run's curve, a sweep's result, or a comparison."""
    from jaxrl.analysis import plots, versus

    look = look or plots.USUAL
    place = output.parent if output else _place(folders[0]) / "plots"
    check_writable(output or place / "learning_curve.png")
    runs = read_runs(folders)
    first = runs[0]
    drawable = 0 < len(first.sweep) <= 2 or first.is_sampled
    kind = kind or ("final" if len(runs) == 1 and drawable else "curve")
    _check_drawn(runs, kind, labels, look)
    target = output or place / _picture(kind, len(runs), look)
    with drawing(target):
        if kind == "profile":
            return versus.plot_profiles(runs, target, labels, look)
        if kind == "improvement":
            return versus.plot_improvement(runs, target, labels, look)
        if kind == "final":
            return plots.plot_sweep(runs[0], target, look)
        if len(runs) > 1:
            return plots.plot_comparison(runs, target, labels, look)
        return plots.plot_learning_curve(runs[0], target, look, labels[0] if labels else None)


def _picture(kind: str, num_runs: int, look: Look) -> str:
    """What a picture is called that nobody names: that of a metric replaces no curve of returns."""
    curve = "comparison" if num_runs > 1 else "learning_curve"
    name = {"curve": curve, "final": "sweep"}.get(kind, kind)
    words = re.findall(r"[A-Za-z0-9_]+", look.metric or "")
    return f"{'-'.join([name, *words])}.png"


def _check_drawn(runs: Sequence[Run], kind: str, labels: Sequence[str] | None, look: Look) -> None:
    """Refuse runs that such a picture cannot show together, and options that it would not read."""
    sweeps = [run.folder for run in runs if len(run.settings) > 1]
    if sweeps and len(runs) > 1:
        raise JaxrlError(f"{sweeps[0]} is a sweep: draw it by itself, jaxrl plot {sweeps[0]}.")
    if kind == "final" and len(runs) > 1:
        raise JaxrlError(f"--kind final draws one sweep, but {len(runs)} runs are given.")
    if labels and len(labels) != len(runs):
        raise JaxrlError(
            f"--labels is {' '.join(labels)}, but must be a name for each of {len(runs)} runs."
        )
    if labels and (sweeps or kind == "final"):
        raise JaxrlError(
            f"--labels is {' '.join(labels)}, but a sweep's settings are called by their values."
        )
    for name, value in (("x", look.x), ("smooth", look.smooth)):
        if value is not None and kind != "curve":
            raise JaxrlError(
                f"--{name} is {value}, but is read with --kind curve only; this is --kind {kind}."
            )


def _say_what_is_not_vouched_for(folder: Path, description: dict[str, Any]) -> None:
    """Warn of records that are missing or altered, and of a description that was edited by hand."""
    vouched = Checkpoints(folder).vouched()
    texts = logs.lost(folder, vouched, vouched.get("iteration", 0)) if vouched else []
    if changes := resuming.edited(description, vouched):
        texts.append(f"{folder}/config.json was changed by hand: {'; '.join(changes)}")
    for text in texts:
        warnings.warn(text, RunWarning, stacklevel=3)


class Film(NamedTuple):
    """How an episode becomes a film."""

    steps: int | None = None
    frames_per_second: float = 30.0
    width: int | None = None

    def check(self) -> None:
        """Refuse films of nothing."""
        if self.steps is not None:
            check_positive_int("steps", self.steps)
        if not 1 <= self.frames_per_second <= 50:
            raise JaxrlError(
                f"frames_per_second is {self.frames_per_second:g}, but must lie between 1 and 50."
            )
        if self.width is not None and self.width < 40:
            raise JaxrlError(f"width is {self.width}, but must be at least 40 pixels.")


def render(
    folder: Path,
    checkpoint: str,
    seed: int,
    output: Path | None,
    *,
    console: Console,
    mode: str | None = None,
    member: Sequence[str] = (),
    trust: Trust = NOBODY,
    film: Film | None = None,
) -> Path:
    """Draw one episode of a saved policy: of a population, that of `member` or of the best.

    It acts in the `mode` that is given, or else in the first of those that the run evaluates.
    """
    from jaxrl.analysis import video

    film = film or Film()
    check_seed(seed)
    path = located(folder)
    experiment = Experiment.from_description(read_description(path), path, trust)
    name = experiment.environment
    with described_by(path):
        env = make(name, **experiment.environment_options)
    target = output or _place(folder) / "plots" / "episode.gif"
    check_writable(target)
    if isinstance(env, Drawable):
        every, rate = video.pace(env.seconds, film.frames_per_second)
    else:
        every, rate = video.pace(1 / video.FRAMES_PER_SECOND, film.frames_per_second)
    with _drawn_by(env, name) as draw:  # refuses what cannot be drawn, before anything is compiled
        asked = () if mode is None else (mode,)
        saved = open_policy(path, checkpoint, member=member, modes=asked, trust=trust)
        chosen = saved.player.modes[0]
        policy = steered(saved.agent, saved.policies, chosen)
        with console.playing() as bar:
            frames, rewards = record_episode(
                saved.env,
                saved.agent,
                policy,
                jax.random.key(seed),
                chosen.name,
                each_piece=bar.evaluating,
            )
        earned = np.cumsum(rewards) - rewards  # before each frame
        with drawing(target):
            images = draw(jax.tree.map(lambda values: values[: film.steps : every], frames))
            images = video.narrowed(images, film.width)
            captioned = video.caption(images, earned[: film.steps : every], name, every)
            return video.write_gif(captioned, target, rate)


@contextmanager
def _drawn_by(
    env: Environment, name: str
) -> Iterator[Callable[[dict[str, PyTree]], list[np.ndarray]]]:
    """What draws the frames of an episode: the environment itself, or `jaxrl.analysis.video`."""
    from jaxrl.analysis import video

    if isinstance(env, Drawable):
        with env.painter() as paint:

            def painted(frames: dict[str, PyTree]) -> list[np.ndarray]:
                num_steps = len(jax.tree.leaves(frames)[0])
                return [paint(_at(frames["state"], step)) for step in range(num_steps)]

            yield painted
    elif isinstance(env.observation_space, Box) and video.can_draw(
        name, env.observation_space.shape
    ):
        yield functools.partial(video.draw_frames, name)
    else:
        raise JaxrlError(
            f"jaxrl cannot draw {name}: it draws classic control, grids such as MinAtar, and "
            "MuJoCo tasks."
        )


def _at(states: PyTree, step: int) -> PyTree:
    """The state at one step, of states [T, ...]."""
    return jax.tree.map(lambda values: values[step], states)
