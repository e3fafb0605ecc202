"""What a memory costs PPO: steps per second with a GRU and with a Mamba layer, beside none.

    python -m benchmarks.memories                  # a quarter of an hour, both cores idle otherwise
    python -m benchmarks.memories --sizes 64 --repeats 2

Each trains in a process of its own, which compiles once per size and stays alive; they are timed in
turns. Rollouts have 128 steps, which a memory reads one after the other in learning too.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from benchmarks.report import device_name, machine, steps, write
from benchmarks.throughput import SETTINGS
from benchmarks.workers import Job, take_turns
from experiments.harness import check_choices, markdown, start
from jaxrl.errors import check_positive_int
from jaxrl.train.output.console import Console

NUM_STEPS = 128
MEMORIES: dict[str, dict[str, Any]] = {
    "none": {},
    "gru": {"memory": "gru", "memory_size": 64},
    "mamba": {"memory": "mamba", "memory_size": 64},
    "mamba of heads": {"memory": "mamba", "memory_size": 64, "mixer": "ssd"},
}


@dataclass(frozen=True)
class Arguments:
    """Steps per second of PPO with and without a memory."""

    sizes: tuple[int, ...] = (4, 64, 1024)
    """Numbers of environments."""
    memories: tuple[str, ...] = tuple(MEMORIES)
    """What is timed."""
    repeats: int = 5
    """Timings of each."""
    seconds: float = 3.0
    """About how long one timing takes."""


def main(arguments: Arguments) -> int:
    """Time every size; print the table, and write the results."""
    check_choices("memory", arguments.memories, MEMORIES)
    check_positive_int("repeats", arguments.repeats)
    record: dict[str, Any] = {
        "settings": SETTINGS | {"num_steps": NUM_STEPS},
        "memories": MEMORIES,
        "repeats": arguments.repeats,
        "machine": machine(),
        "device": {"platform": "cpu", "kind": "cpu"},
        "rows": [],
    }
    turns = len(arguments.sizes) * len(arguments.memories) * (1 + arguments.repeats)
    with steps(turns) as begin:
        for num_envs in arguments.sizes:
            setting = SETTINGS | {"num_envs": num_envs, "num_steps": NUM_STEPS}
            setting |= {"seconds": arguments.seconds}
            jobs = {
                name: Job(sys.executable, "jaxrl_ppo", setting | MEMORIES[name])
                for name in arguments.memories
            }
            found = take_turns(
                jobs, arguments.repeats, lambda text, n=num_envs: begin(f"{n} environments, {text}")
            )
            for name, result in found.items():
                record["versions"] = result.pop("versions", record.get("versions"))
                record["device"] = result.pop("device", record["device"])
                record["rows"].append({"num_envs": num_envs, "memory": name} | result)
            device = device_name(record["device"]["platform"], record["device"]["kind"])
            written = write(f"memories_{device}", record, text(record))
    Console().note(written)
    return int(any("error" in row for row in record["rows"]))


def text(record: dict[str, Any]) -> str:
    """The record in Markdown."""
    lines = []
    for row in record["rows"]:
        line = {"environments": f"{row['num_envs']:,}", "memory": row["memory"]}
        if "error" in row:
            lines.append(line | {"steps per second": "FAILED"})
            continue
        rate = row["steps_per_second"]
        without = next(
            each["steps_per_second"]["median"]
            for each in record["rows"]
            if each["num_envs"] == row["num_envs"] and each["memory"] == record["rows"][0]["memory"]
        )
        lines.append(
            line
            | {
                "steps per second": f"{rate['median']:,.0f}",
                "least, most": f"{rate['min']:,.0f}, {rate['max']:,.0f}",
                "of the first": f"{rate['median'] / without:.2f}",
                "startup, seconds": f"{row['startup_seconds']:.0f}",
            }
        )
    about = record["settings"]
    return (
        f"PPO on {about['environment']}, {about['num_steps']} steps per rollout, "
        f"{about['num_minibatches']} minibatches, {about['num_epochs']} epochs, memories of 64 "
        f"units ({record['machine']['processor']}).\n\n{markdown(lines)}"
    )


if __name__ == "__main__":
    start(main, Arguments)
