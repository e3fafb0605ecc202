"""Whether a change leaves the arithmetic of training as it was: the same runs by two revisions,
bit for bit.

    python -m benchmarks.same_bits c807188    # that revision and the working tree: some 15 minutes
    python -m benchmarks.same_bits v0.1 v0.2  # two revisions
    python -m benchmarks.same_bits c807188 --cases "PPO, Hopper" "StepMix"

Each revision is copied into a temporary folder, where its own command line trains every case for 20
iterations. Compared are all leaves of the last training state, the best policy, the rows of
metrics.jsonl but for their seconds, and the evaluations. A state may have leaves more or fewer, or
under other names: that is said, and is no difference. The exit status is 1 if a case differs, or
does not run.

Deep StepMix learns behind a run of the old revision in both, unless the new one cannot read it:
then each has its own, whose bits are compared as well. Behind observation moments 1e-5 is close
enough: the baseline's network is compiled apart from, or into, what surrounds it, and rounds
accordingly.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import tyro

from benchmarks.bits import Comparison, compare_runs
from benchmarks.report import ROOT, machine, steps, write
from benchmarks.revisions import WORKING_TREE, Revision, copies
from benchmarks.venvs import last_line
from experiments.harness import check_choices, markdown, start
from jaxrl.envs.registry import make
from jaxrl.errors import JaxrlError
from jaxrl.train.experiment import versions
from jaxrl.train.output.console import Console

AT_ONCE = 2
ITERATIONS = 20
EVALUATIONS = ("--num-evaluations", "2", "--evaluation-episodes", "8", "--quiet")
EQUAL, DIFFERENT, FAILED = "equal", "DIFFERENT", "DID NOT RUN"


class Case(NamedTuple):
    """A command, and how equal its two runs must be."""

    words: str
    devices: int = 1
    baseline: str = ""  # the case whose run it learns behind
    dataset: bool = False
    tolerance: float = 0.0


def ppo(environment: str, *options: str) -> str:
    """A small PPO: 8 environments, 16 steps, 4 minibatches."""
    sizes = (
        "--num-envs 8 --num-steps 16 --minibatch-size 32 --num-epochs 2 --total-steps "
        f"{8 * 16 * ITERATIONS}"
    )
    return " ".join([f"ppo --env {environment} --no-tuned {sizes}", *options])


def stepmix(environment: str, horizon: int, *options: str) -> str:
    """Rounds of 4 episodes."""
    return " ".join(
        [
            f"stepmix --env {environment} --num-envs 4 --total-steps {4 * horizon * ITERATIONS}",
            *options,
        ]
    )


NORMALIZED = "--normalize-observations"
STATEFUL = f"{NORMALIZED} --scale-rewards --stagger --starts pool --pool-size 32"
SWEEP = "--over learning_rate=1e-3,3e-3 --num-seeds 2"
# A constraint that a few rounds certify, so that the learner acts.
DEEP = (
    "deep_stepmix --env CartPole-v1 --num-envs 64 --num-epochs 1 --total-steps "
    f"{64 * 500 * ITERATIONS} --return-high 500 --constraint absolute --constraint-level 2"
)
CASES = {
    "PPO, CartPole, all that has a state": Case("train " + ppo("CartPole-v1", STATEFUL)),
    "PPO, Pendulum": Case("train " + ppo("Pendulum-v1")),
    "PPO, Hopper": Case("train " + ppo("Hopper-v5")),
    "PPO, two devices": Case("train " + ppo("CartPole-v1", STATEFUL, "--mesh env=2"), devices=2),
    "PPO, sweep": Case("sweep " + ppo("CartPole-v1", SWEEP)),
    "PPO, sweep, two devices": Case(
        "sweep " + ppo("CartPole-v1", SWEEP, "--mesh seed=2"), devices=2
    ),
    "baseline": Case("train " + ppo("CartPole-v1", "--learning-rate 1e-2")),
    "baseline, observation moments": Case(
        "train " + ppo("CartPole-v1", "--learning-rate 1e-2", NORMALIZED)
    ),
    "StepMix": Case("train " + stepmix("tabular/paper", 3, "--bonus-scale 0.01")),
    "EpsMix": Case("train " + stepmix("tabular/paper", 3, "--bonus-scale 0.01 --method epsmix")),
    "StepMix, dataset": Case(
        "train " + stepmix("tabular/hub", 5, "--constraint absolute --constraint-level 0.5"),
        dataset=True,
    ),
    "deep StepMix": Case("train " + DEEP, baseline="baseline"),
    "deep StepMix, observation moments": Case(
        "train " + DEEP, baseline="baseline, observation moments", tolerance=1e-5
    ),
}


@dataclass(frozen=True)
class Arguments:
    """The same runs by two revisions, compared bit for bit."""

    old: tyro.conf.Positional[str]
    """A revision: a hash, a branch, a tag."""
    new: tyro.conf.Positional[str] = WORKING_TREE
    """The revision to compare with it."""
    cases: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = tuple(CASES)
    """What to train; a case of deep StepMix needs that of its baseline.
    Of some cases nothing is written."""


@dataclass(frozen=True)
class Bench:
    """Two revisions, and the folder in which both train."""

    old: Revision
    new: Revision
    folder: Path

    def compare(self, name: str, done: dict[str, Future]) -> dict[str, Any]:
        """Train a case by both revisions, one after the other, and compare;
        `done` holds the cases before it."""
        case, notes = CASES[name], []
        if case.baseline and "error" in done[case.baseline].result():
            return {"error": f"{case.baseline} did not run", "verdict": FAILED, "notes": notes}
        error = self.train(self.old, name, self.old)
        error = error or self.train(self.new, name, self.old)
        if case.baseline and error and "(format" in error:
            notes.append(
                f"the new revision does not read the old one's baseline, and has its own: {error}"
            )
            error = self.train(self.new, name, self.new)
        if error:
            return {"error": error, "verdict": FAILED, "notes": notes}
        parts = compare_runs(self.run(self.old, name), self.run(self.new, name), case.tolerance)
        notes += [f"{part}: {note}" for part, found in parts.items() for note in found.notes()]
        described = {part: asdict(found) for part, found in parts.items()}
        return described | {
            "tolerance": case.tolerance,
            "verdict": verdict(parts, case.tolerance),
            "notes": notes,
        }

    def train(self, revision: Revision, name: str, baseline_of: Revision) -> str | None:
        """Train a case by a revision; the error, if there is one.
        It is given a copy of `baseline_of`'s baseline."""
        case, run = CASES[name], self.run(revision, name)
        run.parent.mkdir(parents=True, exist_ok=True)
        words = case.words.split()
        if case.baseline:
            copy = self.folder / f"{revision.path.name}-behind" / name
            shutil.copytree(self.run(baseline_of, case.baseline), copy, dirs_exist_ok=True)
            words += ["--baseline", str(copy)]
        if case.dataset:
            words += ["--dataset", str(self.dataset)]
        words += [
            *([] if case.devices > 1 else ["--devices", "1"]),
            "--folder",
            str(run),
            *EVALUATIONS,
        ]
        log = run.parent / f"{name}.log"
        with log.open("w") as output:
            command = [sys.executable, "-m", "jaxrl.cli", *words]
            variables = self.variables(revision, case.devices)
            done = subprocess.run(
                command,
                cwd=revision.path,
                env=variables,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        return f"{revision.label}: {last_line(log)}" if done.returncode else None

    def run(self, revision: Revision, name: str) -> Path:
        """The run folder of a case."""
        return self.folder / f"{revision.path.name}-runs" / name

    @property
    def dataset(self) -> Path:
        """Where the episodes for StepMix are."""
        return self.folder / "episodes.npz"

    def variables(self, revision: Revision, devices: int) -> dict[str, str]:
        """The variables of a process: the revision's own code;
        programs that both have are compiled once."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in ("VIRTUAL_ENV", "XLA_FLAGS")
        }
        ours = {
            "PYTHONPATH": str(revision.path),
            "JAX_COMPILATION_CACHE_DIR": str(self.folder / "compiled"),
        }
        if devices > 1:
            ours["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
        return {"JAX_PLATFORMS": "cpu"} | kept | ours


def main(arguments: Arguments) -> int:
    """Compare every case; print the table, write the results,
    and say whether all is as it must be."""
    check_cases(arguments.cases)
    with copies(arguments.old, arguments.new) as (old, new), steps(len(arguments.cases)) as begin:
        folder = old.path.parent / "both"
        folder.mkdir()
        bench = Bench(old, new, folder)
        np.savez(bench.dataset, **episodes("tabular/hub", 3000))
        cases = compare_all(bench, arguments.cases, begin)
        revisions = {"old": old.described(), "new": new.described()}
    record = {
        "revisions": revisions,
        "iterations": ITERATIONS,
        "machine": machine(),
        "versions": versions(),
        "cases": cases,
    }
    Console().note(text(record))
    if arguments.cases == tuple(CASES):
        write("same_bits", record, text(record))
        Console().note(
            f"wrote {(ROOT / 'benchmarks/results/same_bits').relative_to(ROOT)}.json and .md"
        )
    return int(any(is_wrong(case) for case in cases.values()))


def check_cases(names: tuple[str, ...]) -> None:
    """Refuse what is no case, and deep StepMix without its baseline before it."""
    check_choices("case", names, CASES)
    for index, name in enumerate(names):
        baseline = CASES[name].baseline
        if baseline and baseline not in names[:index]:
            raise JaxrlError(f"the case {name!r} needs {baseline!r} before it.")


def compare_all(
    bench: Bench, names: tuple[str, ...], begin: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """Every case's result by name, `AT_ONCE` cases at a time."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        done: dict[str, Future] = {}
        for name in names:
            done[name] = pool.submit(bench.compare, name, done)
        by_future = {future: name for name, future in done.items()}
        for future in as_completed(by_future):
            begin(f"{by_future[future]}: {future.result()['verdict']}")
    return {name: done[name].result() for name in names}


def episodes(environment: str, count: int) -> dict[str, np.ndarray]:
    """Episodes of a tabular problem: action 0, and every tenth time one at random."""
    env, generator = make(environment), np.random.default_rng(0)
    transitions = np.asarray(env.transitions, np.float64)
    states = [np.zeros(count, np.int32)]
    actions = []
    for rows in transitions:
        anything = generator.integers(rows.shape[1], size=count)
        action = np.where(generator.random(count) < 0.1, anything, 0).astype(np.int32)
        sums = np.cumsum(rows[states[-1], action], axis=-1)
        drawn = (generator.random((count, 1)) * sums[:, -1:] >= sums).sum(-1)
        states.append(drawn.astype(np.int32))
        actions.append(action)
    return {"states": np.stack(states), "actions": np.stack(actions)}


def verdict(parts: dict[str, Comparison], tolerance: float) -> str:
    """Whether two runs are equal in everything that was compared; nothing compared is not equal."""
    if any(part.outside or not part.compared for part in parts.values()):
        return DIFFERENT
    return f"within {tolerance:g}" if any(part.different for part in parts.values()) else EQUAL


def is_wrong(case: dict[str, Any]) -> bool:
    """Whether a case is not as it must be."""
    return case["verdict"] in (DIFFERENT, FAILED)


def text(record: dict[str, Any]) -> str:
    """The record in Markdown."""
    labels = {side: revision["label"] for side, revision in record["revisions"].items()}
    lines = [
        f"{record['iterations']} iterations by {labels['old']} and by {labels['new']}, bit for bit "
        f"(jax {record['versions']['jax']}, {record['versions']['device']}).",
        "",
        markdown([row(name, case) for name, case in record["cases"].items()]),
    ]
    for name, case in record["cases"].items():
        said = [case["error"]] if "error" in case else []
        for part in ("state", "policy", "metrics", "evaluations"):
            said += [
                f"{part} differs: {each}" for each in case.get(part, {}).get("different", [])[:5]
            ]
        said += case["notes"]
        lines += ["", f"{name}:", *(f"- {each}" for each in said)] if said else []
    return "\n".join(lines)


def row(name: str, case: dict[str, Any]) -> dict[str, Any]:
    """A case as a row of the table."""
    if "error" in case:
        return {"case": name, "verdict": case["verdict"]}
    leaves = [case["state"], case["policy"]]
    parts = [*leaves, case["metrics"], case["evaluations"]]
    needed = f" (needed: {case['tolerance']:g})" if case["tolerance"] else ""

    def of_compared(part: str) -> str:
        return f"{len(case[part]['different'])} of {case[part]['compared']}"

    return {
        "case": name,
        "leaves": sum(part["compared"] for part in leaves),
        "dropped": sum(len(part["dropped"]) for part in leaves),
        "new": sum(len(part["added"]) for part in leaves),
        "leaves that differ": sum(len(part["different"]) for part in leaves),
        "largest difference": f"{max(part['largest'] for part in parts):.3g}",
        "rows of metrics that differ": of_compared("metrics"),
        "evaluations that differ": of_compared("evaluations"),
        "verdict": case["verdict"] + needed,
    }


if __name__ == "__main__":
    start(main, Arguments)
