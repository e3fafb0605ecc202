"""PPO's throughput against the number of devices and of environments.

    python -m benchmarks.scaling                 # every device there is: CPU cores, or accelerators
    python -m benchmarks.scaling --environments CartPole-v1 Breakout-MinAtar --num-envs 2048 4096

Efficiency is the rate on d devices over d times the rate on one, for the same number of
environments. Layouts of one size are timed in turn, round by round, so that a drift of the machine
meets all of them.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    from jaxrl.cli import prepare_process

    prepare_process()  # a CPU core a device; before JAX is imported

import jax
from matplotlib.axes import Axes

from benchmarks.report import RESULTS, device_name, machine, spread, steps, write
from experiments.harness import markdown, picture, start
from jaxrl.analysis.style import headline
from jaxrl.train.build import build
from jaxrl.train.experiment import Experiment, RunSettings, default_config, versions
from jaxrl.train.output.console import Console

# Of one rollout: longer ones of few environments, shorter ones of many.
MOST_TRANSITIONS = 2**24
ITERATIONS = 1_000_000  # the budget, so that an annealed learning rate stays what it is


@dataclass(frozen=True)
class Arguments:
    """Environment steps per second of training, by devices and environments."""

    environments: tuple[str, ...] = ("CartPole-v1",)
    """What to train in."""
    num_envs: tuple[int, ...] = (512, 2048, 16_384, 131_072)
    """Numbers of environments, N."""
    num_steps: int = 128
    """Steps of a rollout, T; shorter where N · T would exceed 16 million."""
    minibatches: tuple[int, ...] = (4,)
    """Numbers of minibatches that a rollout is cut into."""
    repeats: int = 5
    """Rounds."""
    seconds: float = 2.0
    """About how long a timed run lasts."""
    label: str = ""
    """Ends the name of the results, which otherwise replace the last ones of this device."""


def main(arguments: Arguments) -> None:
    """Time every setting; print and write the rates."""
    counts = [2**k for k in range(len(jax.devices()).bit_length()) if 2**k <= len(jax.devices())]
    settings = list(
        itertools.product(arguments.environments, arguments.num_envs, arguments.minibatches)
    )
    rows = []
    with steps(len(settings)) as begin:
        for name, num_envs, minibatches in settings:
            begin(f"{name}, N = {num_envs:,}, on {', '.join(map(str, counts))} devices")
            try:
                rows += measure(name, num_envs, minibatches, counts, arguments)
            except (
                jax.errors.JaxRuntimeError
            ) as error:  # the largest may not fit, and takes nothing else with it
                Console().note(f"{name}, N = {num_envs:,}: {str(error).splitlines()[0][:200]}")
    device = jax.devices()[0]
    label = f"_{arguments.label}" if arguments.label else ""
    title = f"scaling_{device_name(device.platform, device.device_kind)}{label}"
    record = {
        "machine": machine(),
        "versions": versions(),
        "rows": rows,
    }
    written = write(title, record, text(record))
    draw(rows, RESULTS / f"{title}.png")
    Console().note(written)


def measure(
    environment: str, num_envs: int, minibatches: int, counts: list[int], arguments: Arguments
) -> list[dict[str, Any]]:
    """Rates of one size on each number of devices, in rounds."""
    num_steps = max(1, min(arguments.num_steps, MOST_TRANSITIONS // num_envs))
    batch = num_envs * num_steps
    sizes = {
        "num_envs": num_envs,
        "num_steps": num_steps,
        "minibatch_size": batch // minibatches,
        "total_steps": batch * ITERATIONS,
    }
    runs = {count: prepared(environment, sizes, count) for count in counts}
    iterations = {count: max(1, round(arguments.seconds / run(1))) for count, run in runs.items()}
    samples: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(arguments.repeats):
        for count, run in runs.items():
            samples[count].append(iterations[count] * batch / run(iterations[count]))
    alone = samples[counts[0]]
    return [
        {
            "environment": environment,
            "num_envs": num_envs,
            "num_steps": num_steps,
            "minibatches": minibatches,
            "devices": count,
            "steps_per_second": spread(rates),
            "efficiency": spread(
                [rate / (count * one) for rate, one in zip(rates, alone, strict=True)]
            ),
        }
        for count, rates in samples.items()
    ]


def prepared(environment: str, sizes: dict[str, int], devices: int) -> Callable[[int], float]:
    """A compiled and warmed-up program, as a function from iterations to seconds."""
    config = default_config("ppo", environment, use_tuned=False)[0]
    run = RunSettings(mesh=(f"env={devices}",))
    program = build(Experiment("ppo", environment, config, run).changed(sizes))
    state = jax.block_until_ready(program.chunk(program.init(), 1)[0])

    def timed(iterations: int) -> float:
        nonlocal state
        begun = time.perf_counter()
        state, _ = jax.block_until_ready(program.chunk(state, iterations))
        return time.perf_counter() - begun

    return timed


def text(record: dict[str, Any]) -> str:
    """The rates in Markdown."""
    return markdown(
        [
            {
                "environment": row["environment"],
                "environments": f"{row['num_envs']:,}",
                "rollout steps": row["num_steps"],
                "minibatches": row["minibatches"],
                "devices": row["devices"],
                "steps/s": f"{row['steps_per_second']['median']:,.0f}",
                "least … greatest": "{min:,.0f} … {max:,.0f}".format(**row["steps_per_second"]),
                "efficiency": f"{row['efficiency']['median']:.0%}",
            }
            for row in record["rows"]
        ]
    )


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """A panel for each environment."""
    names = dict.fromkeys(row["environment"] for row in rows)
    panels = [partial(panel, rows=rows, environment=name) for name in names]
    picture(path, panels, 5.0, 3.6, columns=len(panels))


def panel(axes: Axes, rows: list[dict[str, Any]], environment: str) -> None:
    """Rates against environments: a line for each number of devices,
    its least and greatest as a band."""
    for count in dict.fromkeys(row["devices"] for row in rows):
        line = [
            row for row in rows if row["environment"] == environment and row["devices"] == count
        ]
        sizes = [row["num_envs"] for row in line]
        rates = [row["steps_per_second"] for row in line]
        label = f"{count} device{'s' if count > 1 else ''}"
        (drawn,) = axes.plot(sizes, [rate["median"] for rate in rates], marker="o", label=label)
        low, high = [rate["min"] for rate in rates], [rate["max"] for rate in rates]
        axes.fill_between(sizes, low, high, color=drawn.get_color(), alpha=0.2)
    axes.set(xscale="log", xlabel="environments", ylabel="environment steps per second")
    axes.set_ylim(bottom=0)
    axes.legend()
    headline(axes, f"PPO on {environment}", "band: least to greatest round")


if __name__ == "__main__":
    start(main, Arguments)
