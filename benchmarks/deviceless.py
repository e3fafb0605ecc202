"""What an NVIDIA GPU would run for PPO, without one: kernels by loop, bytes, and a bound by both.

    pip install "jax[cuda13]"        # in an environment of its own; no GPU, no driver
    python -m benchmarks.deviceless --num-envs 2048 1048576

One iteration is compiled for an H200 as XLA describes it, but for choices that it would make by
timing kernels on the card. A kernel is taken to last as long as its operands and results take
through the card's memory, and LAUNCH seconds at least; loops of unknown length count as one round.
Of two programs that were measured too, the sum was 87 and 91 % (benchmarks/NOTES.md): good for
finding what to change, not for claims about speed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from benchmarks.peers.jaxrl_ppo import experiment
from benchmarks.report import write
from benchmarks.throughput import LONG, LONG_ROLLOUTS, SETTINGS, SHORT
from experiments.harness import markdown, start
from jaxrl.errors import JaxrlError
from jaxrl.train.output.console import Console

# Bytes per second that a copy on an H200 was seen to move, and seconds of the smallest kernel
# among many.
BANDWIDTH, LAUNCH = 4.3e12, 1.5e-6
TARGET = """
gpu_device_info {
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: 4800000000000
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: 150000000000
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  cuda_compute_capability { major: 9 feature_extension: ACCELERATED_FEATURES }
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
runtime_version { major: 13 }
device_description_str: "NVIDIA H200"
"""
# Instructions that launch nothing of their own.
FREE = {
    "parameter",
    "constant",
    "get-tuple-element",
    "tuple",
    "bitcast",
    "after-all",
    "opt-barrier",
}
WIDTHS = {"pred": 1, "bf16": 2, "f16": 2, "f32": 4, "s32": 4, "u32": 4, "s64": 8, "u64": 8}


@dataclass(frozen=True)
class Arguments:
    """What an NVIDIA GPU would run for PPO, without one."""

    num_envs: tuple[int, ...] = (2048, 1_048_576)
    """Numbers of environments."""
    kernels: int = 12
    """How many of the longest kernels to print."""


class Kernel(NamedTuple):
    """What is launched `times` per iteration, with the bytes that it reads and writes."""

    name: str
    times: int
    read: int
    written: int

    @property
    def seconds(self) -> float:
        """The bound on all of its launches."""
        return self.times * max((self.read + self.written) / BANDWIDTH, LAUNCH)


def main(arguments: Arguments) -> None:
    """Compile, count, print; write the sums."""
    rows = []
    for num_envs in arguments.num_envs:
        kernels = sorted(launched(compiled_text(num_envs)), key=lambda each: -each.seconds)
        total = sum(kernel.seconds for kernel in kernels)
        rows.append(
            {
                "environments": num_envs,
                "kernels": sum(kernel.times for kernel in kernels),
                "bound, ms": round(1e3 * total, 1),
            }
        )
        longest = [
            {
                "kernel": kernel.name,
                "times": kernel.times,
                "read, MB": round(kernel.read / 1e6, 1),
                "written, MB": round(kernel.written / 1e6, 1),
                "ms": round(1e3 * kernel.seconds, 2),
            }
            for kernel in kernels[: arguments.kernels]
        ]
        Console().note(f"{num_envs} environments\n{markdown(longest)}")
    Console().note(write("deviceless", {"rows": rows}, markdown(rows)))


def compiled_text(num_envs: int) -> str:
    """One iteration of PPO as it is compiled for the GPU: XLA's text."""
    os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")
    import jax
    from jax.experimental import topologies

    from jaxrl.train.build import build
    from jaxrl.train.compiler import options_for

    try:
        target = topologies.get_topology_desc(
            "h200", "cuda", target_config=TARGET, topology="1x1x1"
        )
    except NotImplementedError as error:
        raise JaxrlError('JAX has no compiler for GPUs here: pip install "jax[cuda13]".') from error
    placed = jax.sharding.SingleDeviceSharding(target.devices[0])
    num_steps = LONG if num_envs <= LONG_ROLLOUTS else SHORT
    program = build(experiment(SETTINGS | {"num_envs": num_envs, "num_steps": num_steps}))
    members = program.population
    shapes: Any = (members.env, members.config, members.inputs)
    state = jax.eval_shape(program._init, *shapes, members.keys([0]))
    known = jax.default_backend
    jax.default_backend = lambda: "gpu"  # as the code that asks would find it there
    try:
        jitted = jax.jit(program._chunk, in_shardings=placed, out_shardings=placed)
        lowered = jitted.lower(*jax.eval_shape(lambda x: x, shapes), state, np.int32(1))
        return lowered.compile(compiler_options=options_for("gpu", "")).as_text()
    finally:
        jax.default_backend = known


def launched(text: str) -> Iterator[Kernel]:
    """The kernels of a compiled program, those of loops as often as the loops go round."""
    bodies = instructions(text)
    entry = re.search(r"^ENTRY %?([\w.\-]+)", text, re.MULTILINE)
    assert entry is not None
    yield from _launched(bodies, entry[1], 1)


class Instruction(NamedTuple):
    """A line of a computation."""

    shape: str
    kind: str
    operands: list[str]
    rest: str


def instructions(text: str) -> dict[str, dict[str, Instruction]]:
    """The instructions of every computation, by both of their names."""
    bodies: dict[str, dict[str, Instruction]] = {}
    body: dict[str, Instruction] = {}
    for line in text.splitlines():
        if begun := re.match(r"(?:ENTRY )?%?([\w.\-]+) \(.*\{$", line):
            body = bodies.setdefault(begun[1], {})
        elif found := re.match(
            r"\s+(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*?)\)(.*)", line
        ):
            operands = re.findall(r"%([\w.\-]+)", found[4])
            body[found[1]] = Instruction(found[2], found[3], operands, found[5])
    return bodies


def _launched(bodies: dict[str, dict[str, Instruction]], name: str, times: int) -> Iterator[Kernel]:
    body = bodies[name]
    for each, instruction in body.items():
        if instruction.kind == "while":
            inner = re.search(r"body=%?([\w.\-]+)", instruction.rest)
            rounds = re.search(r'known_trip_count":\{"n":"(\d+)"', instruction.rest)
            assert inner is not None
            yield from _launched(bodies, inner[1], times * (int(rounds[1]) if rounds else 1))
        elif instruction.kind not in FREE and not instruction.kind.endswith("-done"):
            if "dynamic-update-slice" in each or "dynamic_update_slice" in each:
                yield Kernel(each, times, 0, 0)  # in place: a slice, not the whole
                continue
            shapes = [body[name].shape for name in instruction.operands if name in body]
            read = sum(size(shape) for shape in shapes if not shape.startswith("("))
            yield Kernel(each, times, read, size(instruction.shape))


def size(shape: str) -> int:
    """The bytes of a shape as XLA writes it, f32[64,4]{1,0}, or of a tuple of them."""
    total = 0
    for kind, dimensions in re.findall(r"(\w+)\[([\d,]*)\]", shape):
        total += WIDTHS.get(kind, 0) * int(np.prod([int(n) for n in dimensions.split(",") if n]))
    return total


if __name__ == "__main__":
    start(main, Arguments)
