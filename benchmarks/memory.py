"""What PPO holds in memory: an environment's state, and the scratch space of a compiled chunk.

    python -m benchmarks.memory

Both are told by the compiler, for a single device, and hold for a thousandfold budget as well:
every setting is compiled with both budgets, and a difference is an error.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax

from benchmarks.report import device_name, machine, steps, write
from experiments.harness import markdown, start
from jaxrl.algos.ppo import PPOState, ppo
from jaxrl.config import override
from jaxrl.envs.registry import make
from jaxrl.errors import JaxrlError
from jaxrl.train.experiment import default_config, versions
from jaxrl.train.output.console import Console
from jaxrl.train.program import Program

MINIBATCHES = 4
LONGER = 1000
SIZES = ("argument", "output", "temp", "alias")


@dataclass(frozen=True)
class Arguments:
    """Bytes of an environment's state and of a compiled chunk."""

    environments: tuple[str, ...] = ("CartPole-v1", "Breakout-MinAtar")
    """What to train in."""
    num_envs: tuple[int, ...] = (64, 1024, 4096)
    """Numbers of environments, N."""
    num_steps: tuple[int, ...] = (16, 128)
    """Lengths of a rollout, T."""


def main(arguments: Arguments) -> None:
    """Compile every setting with two budgets; print and write the bytes."""
    settings = [
        (name, num_envs, num_steps)
        for name in arguments.environments
        for num_envs in arguments.num_envs
        for num_steps in arguments.num_steps
    ]
    rows = []
    with steps(2 * len(settings)) as begin:
        for name, num_envs, num_steps in settings:
            found = []
            for factor in (1, LONGER):
                begin(f"{name}, N = {num_envs}, T = {num_steps}, {factor} × the budget")
                found.append(measure(name, num_envs, num_steps, factor))
            if found[0] != found[1]:
                raise JaxrlError(
                    f"{name}: {LONGER} × the budget needs {found[1]}, but one budget {found[0]}."
                )
            rows.append(
                {"environment": name, "num_envs": num_envs, "num_steps": num_steps, **found[0]}
            )
    device = jax.devices()[0]
    record = {
        "num_minibatches": MINIBATCHES,
        "same_for_budgets": [1, LONGER],
        "machine": machine(),
        "versions": versions(),
        "rows": rows,
    }
    name = f"memory_{device_name(device.platform, device.device_kind)}"
    Console().note(write(name, record, text(record)))


def measure(environment: str, num_envs: int, num_steps: int, factor: int) -> dict[str, float]:
    """Bytes of one compiled setting, with a budget of `factor` iterations."""
    env, batch = make(environment), num_envs * num_steps
    settings = {
        "num_envs": num_envs,
        "num_steps": num_steps,
        "minibatch_size": batch // MINIBATCHES,
    }
    config = default_config("ppo", environment, use_tuned=False)[0]
    compiled: dict[str, Any] = {}
    program = Program(
        ppo,
        env,
        override(config, settings | {"total_steps": batch * factor}),
        [0],
        compiled=compiled,
    )
    sizes = state_bytes(program.abstract_state(), num_envs)
    jax.block_until_ready(program.chunk(program.init(), 0))
    analysis = compiled["chunk"].memory_analysis()
    return sizes | {
        f"chunk_{name}_bytes": getattr(analysis, f"{name}_size_in_bytes") for name in SIZES
    }


def state_bytes(state: PPOState, num_envs: int) -> dict[str, float]:
    """Bytes of an environment's state, and of the whole training state."""

    def total(tree: Any) -> int:
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))

    own = total(replace(state.vector, starts=()))
    return {"environment_bytes": own / num_envs, "training_state_bytes": total(state)}


def scratch_per_transition(row: dict[str, Any]) -> float:
    """Bytes of the chunk's scratch memory per transition of an iteration."""
    return row["chunk_temp_bytes"] / (row["num_envs"] * row["num_steps"])


def text(record: dict[str, Any]) -> str:
    """The record in Markdown."""
    rows = [
        {
            "environment": row["environment"],
            "N": f"{row['num_envs']:,}",
            "T": row["num_steps"],
            "state of an environment, bytes": f"{row['environment_bytes']:g}",
            "training state, MB": f"{row['training_state_bytes'] / 1e6:.2f}",
            "scratch of the chunk, MB": f"{row['chunk_temp_bytes'] / 1e6:.1f}",
            "scratch per transition, bytes": f"{scratch_per_transition(row):.0f}",
        }
        for row in record["rows"]
    ]
    compiled = f"for one device ({record['versions']['device']}) by jax {record['versions']['jax']}"
    return (
        f"PPO with {record['num_minibatches']} minibatches, as compiled {compiled}. Every number "
        f"is the same for a budget of {LONGER:,} iterations as for one of a single iteration.\n\n"
        f"{markdown(rows)}"
    )


if __name__ == "__main__":
    start(main, Arguments)
