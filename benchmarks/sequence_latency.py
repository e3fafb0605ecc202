"""How long one action takes of Decision Transformer and Decision Mamba, by the steps they read.

    python -m benchmarks.sequence_latency            # four contexts; a minute or two
    python -m benchmarks.sequence_latency --quick    # two short contexts; labelled quick

Policies of first weights, of Hopper's shape, 128 numbers per token, three layers, act on one
observation at a time, as `jaxrl.load(...).act(observation)` does: NumPy in, NumPy out. The mode
`target` reads a window of `context` steps anew for each action; `recurrent` goes on from a memory
and reads one. Times are of single calls, in turns.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.report import core_count, device_name, machine, spread, steps, write
from experiments.harness import markdown, sections, start
from jaxrl.algos.registry import load
from jaxrl.config import override
from jaxrl.envs.registry import make
from jaxrl.train.acting import LoadedAgent
from jaxrl.train.experiment import versions
from jaxrl.train.output.console import Console

ENVIRONMENT = "Hopper-v5"  # whose episodes have 1,000 steps
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "Decision Transformer": ("decision_transformer", {}),
    "Mamba": ("decision_mamba", {"branches": "coarse", "mixer": "ssd"}),
    "Decision Mamba": ("decision_mamba", {"mixer": "ssd"}),
}


@dataclass(frozen=True)
class Arguments:
    """How long one action takes, by model, mode and context."""

    contexts: tuple[int, ...] = (20, 100, 500, 1000)
    """Steps that are read at once."""
    calls: int = 100
    """Actions of each, in turns."""
    label: str = ""
    """Ends the name of the results, which otherwise replace the last ones of this device."""
    quick: bool = False
    """Contexts of 5 and 20, ten calls; labelled quick."""


def main(arguments: Arguments) -> None:
    """Time every model and mode at every context; print and write the results."""
    if arguments.quick:
        arguments = dataclasses.replace(arguments, contexts=(5, 20), calls=10, label="quick")
    rows: list[dict[str, Any]] = []
    with steps(len(arguments.contexts)) as begin:
        for context in arguments.contexts:
            begin(f"{context} steps")
            rows += timed(agents(context), context, arguments.calls)
    device = jax.devices()[0]
    title = f"sequence_latency_{device_name(device.platform, device.device_kind)}"
    title += f"_{arguments.label}" if arguments.label else ""
    record = {"machine": machine(), "versions": versions(), "calls": arguments.calls, "rows": rows}
    Console().note(write(title, record, text(record)))


def agents(context: int) -> dict[tuple[str, str], LoadedAgent]:
    """(model, mode): an agent of first weights, which is told a return to act for."""
    env, found = make(ENVIRONMENT), {}
    for title, (name, settings) in MODELS.items():
        spec = load(name)
        agent = spec.agent(env, override(spec.config_class(), settings | {"context": context}))
        policy = agent.init(jax.random.key(0))
        known = {"return_scale": jnp.float32(1000.0), "target": jnp.float32(3000.0)}
        policy = dataclasses.replace(policy, **known)
        for mode in agent.modes:
            found[title, mode] = LoadedAgent(env, agent, policy, mode)
    return found


def timed(
    loaded: dict[tuple[str, str], LoadedAgent], context: int, calls: int
) -> list[dict[str, Any]]:
    """Seconds of one action of each, in turns; what comes first compiles, and is left out."""
    observation = np.zeros(make(ENVIRONMENT).observation_space.shape, np.float32)
    seconds: dict[tuple[str, str], list[float]] = {name: [] for name in loaded}
    for agent in loaded.values():
        agent.act(observation)
    for _ in range(calls):
        for name, agent in loaded.items():
            begun = time.perf_counter()
            agent.act(observation)
            seconds[name].append(time.perf_counter() - begun)
    return [
        {"model": model, "mode": mode, "context": context, "seconds": spread(found)}
        for (model, mode), found in seconds.items()
    ]


def text(record: dict[str, Any]) -> str:
    """The times in Markdown: a line per model and mode, a column per context."""
    lines: dict[tuple[str, str], dict[str, Any]] = {}
    for row in record["rows"]:
        name = (row["model"], row["mode"])
        line = lines.setdefault(name, dict(zip(("model", "mode"), name, strict=True)))
        milliseconds = {key: 1e3 * row["seconds"][key] for key in ("median", "min")}
        line[f"{row['context']} steps"] = "{median:.2f} [{min:.2f}]".format(**milliseconds)
    where = f"{record['machine']['processor']}, {core_count(record['machine'])}"
    note = (
        f"Milliseconds per action, medians of {record['calls']} calls in turns [least]. By jax "
        f"{record['versions']['jax']} on {where}."
    )
    return sections(markdown(list(lines.values())), note)


if __name__ == "__main__":
    start(main, Arguments)
