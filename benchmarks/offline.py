"""Speed of offline learning: jaxrl beside PyTorch, and the matrix products alone.

    python -m benchmarks.offline          # everything: some fifteen minutes
    python -m benchmarks.offline --quick  # two rounds of a second; labelled quick

Every contender takes gradient steps on the same random data of Hopper's shape, 100,000 rows, with
the same networks and settings, in a process of its own, on one core, the same for all, with one
thread. Then they take turns, A B C, C B A, …; only one works at a time.

OFQL and Diffusion-QL in PyTorch are `benchmarks/peers/offline_torch.py`: they begin only if their
losses of one batch are jaxrl's. TD3+BC and IQL in PyTorch are d3rlpy's. "bound" does the matrix
products of OFQL's gradient steps alone (benchmarks/peers/offline_bound.py).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.offline_report import text
from benchmarks.report import ROOT
from benchmarks.turns import Case, Contender, Timing, time_all
from benchmarks.workers import environment
from experiments.harness import check_choices, start

SIZES: dict[str, Any] = {"batch_size": 256, "gamma": 0.99, "tau": 0.005}
DEEP = {"hidden_sizes": [256, 256, 256]}
WIDE = {"hidden_sizes": [256, 256]}
OFQL = SIZES | DEEP | {"algorithm": "ofql", "eta": 0.1, "time_width": 64, "ema_start": 0}
OFQL |= {"q_normalization": "dataset"}
DQL = OFQL | {"algorithm": "dql", "eta": 1.0, "time_width": 16, "q_normalization": "other_critic"}


def jaxrl(seeds: int = 1) -> Contender:
    """jaxrl with so many seeds side by side."""
    return Contender("offline_jaxrl", setting={"seeds": seeds})


def torch(setting: dict[str, Any], goal: float) -> Contender:
    """OFQL or Diffusion-QL in PyTorch."""
    return Contender("offline_torch", "torch", setting, goal)


CASES = {
    "ofql": Case(
        "OFQL, 3 × 256",
        OFQL,
        {
            "jaxrl": jaxrl(),
            "PyTorch": torch(OFQL, 3.0),
            "PyTorch's Diffusion-QL": torch(DQL, 3.5),
            "jaxrl, two seeds side by side": jaxrl(seeds=2),
            "bound": Contender("offline_bound", goal=0.75),
        },
    ),
    "dql": Case(
        "Diffusion-QL, 5 steps, 3 × 256",
        DQL,
        {"jaxrl": jaxrl(), "PyTorch": torch(DQL, 1.0)},
    ),
    "td3_bc": Case(
        "TD3+BC, 2 × 256",
        SIZES | WIDE | {"algorithm": "td3_bc"},
        {"jaxrl": jaxrl(), "d3rlpy": Contender("offline_d3rlpy", "torch", goal=4.0)},
    ),
    "iql": Case(
        "IQL, 2 × 256",
        SIZES | WIDE | {"algorithm": "iql"},
        {"jaxrl": jaxrl(), "d3rlpy": Contender("offline_d3rlpy", "torch", goal=4.0)},
    ),
    "acting": Case(
        "batches of actions, 2,500 observations, 3 × 256",
        DEEP | {"algorithm": "ofql", "observations": 2500},
        {
            "jaxrl": Contender("offline_acting"),
            "OFQL, 1 observation": Contender("offline_acting", setting={"observations": 1}),
            "OFQL, 64 observations": Contender("offline_acting", setting={"observations": 64}),
            "Diffusion-QL": Contender("offline_acting", setting={"algorithm": "dql"}),
            "FQL": Contender("offline_acting", setting={"algorithm": "fql"}),
        },
    ),
}


@dataclass(frozen=True)
class Arguments(Timing):
    """Speed of offline learning: jaxrl beside PyTorch, and the matrix products alone."""

    cases: tuple[str, ...] = tuple(CASES)
    """What to time."""


def main(arguments: Arguments) -> None:
    """Time every contender of every case; print and write the results."""
    check_choices("case", arguments.cases, CASES)
    cases = [CASES[name] for name in arguments.cases]
    with tempfile.TemporaryDirectory() as folder:
        prepare = partial(with_references, Path(folder))
        time_all(cases, arguments, "offline", text, prepare)


def with_references(folder: Path, case: Case) -> Case:
    """The case, in which PyTorch is told where jaxrl's losses of one batch are."""
    contenders = dict(case.contenders)
    for name, each in case.contenders.items():
        if each.module != "offline_torch":
            continue
        path = folder / f"{each.setting['algorithm']}.npz"
        command = [sys.executable, "-m", "benchmarks.peers.offline_reference"]
        arguments = [json.dumps(case.setting | each.setting), str(path)]
        subprocess.run([*command, *arguments], env=environment(ROOT), cwd=folder, check=True)
        contenders[name] = each._replace(setting=each.setting | {"reference": str(path)})
    return case._replace(contenders=contenders)


if __name__ == "__main__":
    start(main, Arguments)
