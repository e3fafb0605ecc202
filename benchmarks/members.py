"""Seeds of a run on one core of a CPU: side by side, or one after another.

    python -m benchmarks.members             # a quarter of an hour, most of it compiling
    python -m benchmarks.members --quick     # two cases, two rounds; labelled quick

Side by side, a layer of all seeds is one product. jaxrl takes one seed after another where the
products of one give more than `CACHED` bytes (jaxrl/train/population.py). Here both ways are
compiled whatever the size, in one process, and take turns; what counts is processor time.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

if __name__ == "__main__":
    os.environ |= {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1", "PJRT_NPROC": "1"}

import jax

from benchmarks.report import machine, spread, steps, write
from experiments.harness import markdown, sections, start
from jaxrl.train import population
from jaxrl.train.build import build
from jaxrl.train.experiment import Experiment, RunSettings, default_config, versions
from jaxrl.train.output.console import Console
from jaxrl.train.profile.flops import count
from jaxrl.train.program import Program

WAYS = {"side by side": 2**62, "one by one": 0}  # by the least size that is taken one by one


class Case(NamedTuple):
    """What is trained: so many seeds of an algorithm."""

    algorithm: str
    environment: str
    seeds: int
    settings: dict[str, Any]


def on_policy(num_envs: int, seeds: int = 8, environment: str = "CartPole-v1") -> Case:
    """PPO in so many environments, four minibatches for each rollout of 128 steps."""
    settings = {"num_steps": 128, "num_envs": num_envs, "minibatch_size": 32 * num_envs}
    return Case("ppo", environment, seeds, settings)


def off_policy(environment: str, units: int, batch_size: int = 256, seeds: int = 6) -> Case:
    """TD3 with a gradient step for each transition, after a warm-up that is not timed."""
    settings = {"hidden_sizes": (units, units), "batch_size": batch_size}
    more = {"warm_up": 256, "num_steps": 256, "replay_capacity": 100_000}
    return Case("td3", environment, seeds, settings | more)


CASES = {
    "PPO, 4 environments": on_policy(4),
    "PPO, 4 environments, 64 seeds": on_policy(4, seeds=64),
    "PPO, 16 environments": on_policy(16),
    "PPO, 64 environments": on_policy(64),
    "PPO, 512 environments": on_policy(512),
    "TD3, Pendulum, 32 × 32, batches of 64": off_policy("Pendulum-v1", 32, batch_size=64),
    "TD3, Pendulum, 64 × 64": off_policy("Pendulum-v1", 64),
    "TD3, HalfCheetah, 256 × 256": off_policy("HalfCheetah-v5", 256),
}
QUICK = ("PPO, 4 environments", "PPO, 16 environments")


@dataclass(frozen=True)
class Arguments:
    """Seeds side by side, and one after another."""

    repeats: int = 7
    """Rounds in which both ways take turns."""
    seconds: float = 1.0
    """About how long each takes in a round."""
    quick: bool = False
    """Two cases, two rounds of a tenth of a second; labelled quick."""


def main(arguments: Arguments) -> None:
    """Time every case; print and write what was found after each."""
    if arguments.quick:
        arguments = Arguments(repeats=2, seconds=0.1, quick=True)
    names = QUICK if arguments.quick else tuple(CASES)
    title = "members_cpu1" + ("_quick" if arguments.quick else "")
    record: dict[str, Any] = {
        "machine": machine(),
        "versions": versions(),
        "repeats": arguments.repeats,
        "threshold": population.CACHED,
        "rows": [],
    }
    written = ""
    with steps(len(names)) as begin:
        for name in names:
            begin(name)
            record["rows"].append({"case": name} | measured(CASES[name], arguments))
            written = write(title, record, text(record))
    Console().note(written)


def measured(case: Case, arguments: Arguments) -> dict[str, Any]:
    """Processor time per iteration and seed of both ways, and the ratios of rounds."""
    ways = {name: Training(case, least) for name, least in WAYS.items()}
    iterations = max(1, round(arguments.seconds / max(way.seconds(1) for way in ways.values())))
    rounds = [
        {name: way.seconds(iterations) / iterations / case.seeds for name, way in ways.items()}
        for _ in range(arguments.repeats)
    ]
    return {
        "seeds": case.seeds,
        "product_bytes": ways["one by one"].product_bytes,
        "seconds": {name: spread([each[name] for each in rounds]) for name in WAYS},
        "ratio": spread([each["side by side"] / each["one by one"] for each in rounds]),
    }


class Training:
    """A run that goes on for as many iterations as it is told to."""

    def __init__(self, case: Case, least: int) -> None:
        population.CACHED = least
        config, _ = default_config(case.algorithm, case.environment, use_tuned=False)
        run = RunSettings(num_seeds=case.seeds)
        asked = Experiment(case.algorithm, case.environment, config, run)
        self.program: Program = build(asked.changed(case.settings | {"total_steps": 10**9}))
        self.state, _ = self.program.chunk(self.program.init(), 2)
        traced = self.program.traced_chunk(self.program.abstract_state())
        self.product_bytes = count(traced).product_bytes  # of all seeds where they are side by side

    def seconds(self, iterations: int) -> float:
        """The processor time that they take."""
        begun = time.process_time()
        self.state, _ = jax.block_until_ready(self.program.chunk(self.state, iterations))
        return time.process_time() - begun


def text(record: dict[str, Any]) -> str:
    """The times in Markdown."""
    lines = [
        {
            "training": row["case"],
            "seeds": row["seeds"],
            "product of a seed, KiB": f"{row['product_bytes'] / 1024:,.0f}",
            **{
                f"{way}, ms": f"{1e3 * row['seconds'][way]['median']:.2f}" for way in row["seconds"]
            },
            "ratio [least, greatest]": "{median:.2f} [{min:.2f}, {max:.2f}]".format(**row["ratio"]),
            "chosen": chosen(row, record["threshold"]),
        }
        for row in record["rows"]
    ]
    note = (
        f"Processor time per iteration and seed on one core, medians of {record['repeats']} "
        "rounds, and the ratios of rounds. jaxrl takes one seed after another above "
        f"{record['threshold'] // 1024} KiB. By jax {record['versions']['jax']}."
    )
    return sections(markdown(lines), note)


def chosen(row: dict[str, Any], threshold: int) -> str:
    """The way that jaxrl takes."""
    return "one by one" if row["product_bytes"] > threshold else "side by side"


if __name__ == "__main__":
    start(main, Arguments)
