"""Throughput of training against the number of devices and of environments.

    python -m benchmarks.scaling                 # every device there is: CPU cores, or accelerators
    python -m benchmarks.scaling --environments CartPole-v1 Breakout-MinAtar --num-envs 2048 4096
    python -m benchmarks.scaling --algorithms td3 sac --environments Pendulum-v1 --num-envs 1 4096
    python -m benchmarks.scaling --environments HalfCheetah-v5 --backend mjx --num-envs 2048

TD3 and SAC take a gradient step for each transition, so that one rate counts both.

Efficiency is the rate on d devices over d times the rate on one, for the same number of
environments. Layouts of one size are timed in turn, round by round, so that a drift of the machine
meets all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

if __name__ == "__main__":
    from jaxrl.cli import prepare_process

    prepare_process()  # a CPU core a device; before JAX is imported

import jax
from matplotlib.axes import Axes

from benchmarks.report import RESULTS, device_name, machine, spread, steps, write
from experiments.harness import markdown, picture, start
from jaxrl.analysis.style import headline
from jaxrl.errors import JaxrlError
from jaxrl.train.build import build
from jaxrl.train.experiment import Experiment, RunSettings, default_config, versions
from jaxrl.train.output.console import Console

# Of one rollout: longer ones of few environments, shorter ones of many.
MOST_TRANSITIONS = 2**24
ITERATIONS = 1_000_000  # the budget, so that an annealed learning rate stays what it is
# Of TD3 and SAC: so many gradient steps an iteration, and iterations that int32 can count.
MOST_UPDATES, MOST_ITERATIONS = 4096, 100_000


@dataclass(frozen=True)
class Arguments:
    """Environment steps per second of training, by devices and environments."""

    algorithms: tuple[Literal["ppo", "td3", "sac"], ...] = ("ppo",)
    """What to train."""
    backend: str = ""
    """Physics of the environments, of those that have several; their own default unless given."""
    environments: tuple[str, ...] = ("CartPole-v1",)
    """What to train in."""
    num_envs: tuple[int, ...] = (512, 2048, 16_384, 131_072)
    """Numbers of environments, N."""
    num_steps: int = 128
    """Steps of a rollout, T; shorter where N · T would exceed 16 million."""
    minibatches: tuple[int, ...] = (4,)
    """Numbers of minibatches that a rollout of PPO is cut into."""
    repeats: int = 5
    """Rounds."""
    seconds: float = 2.0
    """About how long a timed run lasts."""
    label: str = ""
    """Ends the name of the results, which otherwise replace the last ones of this device."""


def main(arguments: Arguments) -> None:
    """Time every setting; print and write the rates."""
    counts = [2**k for k in range(len(jax.devices()).bit_length()) if 2**k <= len(jax.devices())]
    settings = [
        (algorithm, name, num_envs, minibatches)
        for algorithm in arguments.algorithms
        for name in arguments.environments
        for num_envs in arguments.num_envs
        for minibatches in (arguments.minibatches if algorithm == "ppo" else (None,))
    ]
    rows = []
    with steps(len(settings)) as begin:
        for algorithm, name, num_envs, minibatches in settings:
            what = f"{algorithm}, {name}, N = {num_envs:,}"
            begin(f"{what}, on {', '.join(map(str, counts))} devices")
            try:
                sizes = sizes_of(minibatches, num_envs, arguments.num_steps)
                rows += measure(algorithm, name, sizes, counts, arguments)
            # The largest may not fit, and takes nothing else with it.
            except (jax.errors.JaxRuntimeError, JaxrlError) as error:
                Console().note(f"{what}: {str(error).splitlines()[0][:200]}")
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


def sizes_of(minibatches: int | None, num_envs: int, num_steps: int) -> dict[str, Any]:
    """What an iteration is of, and a budget that lasts; `minibatches` are of PPO alone."""
    most = MOST_UPDATES if minibatches is None else MOST_TRANSITIONS
    num_steps = max(1, min(num_steps, most // num_envs))
    batch = num_envs * num_steps
    sizes = {"num_envs": num_envs, "num_steps": num_steps}
    if minibatches is None:
        return sizes | {"total_steps": batch * MOST_ITERATIONS, "warm_up": 0}
    return sizes | {"total_steps": batch * ITERATIONS, "minibatch_size": batch // minibatches}


def measure(
    algorithm: str,
    environment: str,
    sizes: dict[str, Any],
    counts: list[int],
    arguments: Arguments,
) -> list[dict[str, Any]]:
    """Rates of one size on each number of devices that it can be dealt to, in rounds."""
    batch = sizes["num_envs"] * sizes["num_steps"]
    options = {"backend": arguments.backend} if arguments.backend else {}
    config, _ = default_config(algorithm, environment, use_tuned=False)
    runs = {}
    for count in counts:
        if sizes["num_envs"] % count == 0:
            run = RunSettings(mesh=(f"env={count}",))
            experiment = Experiment(
                algorithm, environment, config, run, environment_options=options
            )
            runs[count] = prepared(experiment.changed(sizes))
    iterations = {count: max(1, round(arguments.seconds / run(1))) for count, run in runs.items()}
    samples: dict[int, list[float]] = {count: [] for count in runs}
    for _ in range(arguments.repeats):
        for count, run in runs.items():
            samples[count].append(iterations[count] * batch / run(iterations[count]))
    alone = samples[counts[0]]
    return [
        {
            "algorithm": algorithm,
            "environment": environment,
            "num_envs": sizes["num_envs"],
            "num_steps": sizes["num_steps"],
            "minibatches": batch // sizes["minibatch_size"] if algorithm == "ppo" else None,
            "devices": count,
            "steps_per_second": spread(rates),
            "efficiency": spread(
                [rate / (count * one) for rate, one in zip(rates, alone, strict=True)]
            ),
        }
        for count, rates in samples.items()
    ]


def prepared(experiment: Experiment) -> Callable[[int], float]:
    """A compiled and warmed-up program, as a function from iterations to seconds."""
    program = build(experiment)
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
                **({"algorithm": row["algorithm"]} if "algorithm" in row else {}),
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
    """A panel for each algorithm in each environment."""
    drawn: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        drawn.setdefault((row["algorithm"], row["environment"]), []).append(row)
    panels = [partial(panel, rows=found) for found in drawn.values()]
    picture(path, panels, 5.0, 3.6, columns=len(panels))


def panel(axes: Axes, rows: list[dict[str, Any]]) -> None:
    """Rates against environments: a line for each number of devices,
    its least and greatest as a band."""
    for count in dict.fromkeys(row["devices"] for row in rows):
        line = [row for row in rows if row["devices"] == count]
        sizes = [row["num_envs"] for row in line]
        rates = [row["steps_per_second"] for row in line]
        label = f"{count} device{'s' if count > 1 else ''}"
        (drawn,) = axes.plot(sizes, [rate["median"] for rate in rates], marker="o", label=label)
        low, high = [rate["min"] for rate in rates], [rate["max"] for rate in rates]
        axes.fill_between(sizes, low, high, color=drawn.get_color(), alpha=0.2)
    axes.set(xscale="log", xlabel="environments", ylabel="environment steps per second")
    axes.set_ylim(bottom=0)
    axes.legend()
    trained = f"{rows[0]['algorithm'].upper()} on {rows[0]['environment']}"
    headline(axes, trained, "band: least to greatest round")


if __name__ == "__main__":
    start(main, Arguments)
