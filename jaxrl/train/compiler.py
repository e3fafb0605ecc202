"""What the compiler is told besides: on a GPU, that loops of unknown length belong into graphs."""

from __future__ import annotations

import os

import jax

# What of a program is launched as a CUDA graph. By default loops are not, and each round of one
# whose length is only known as it runs waits for the host to read whether it goes on; PPO on an
# H200 took 1.6 times as long (benchmarks/NOTES.md).
GRAPHS = "xla_gpu_enable_command_buffer"
IN_GRAPHS = "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,DYNAMIC_SLICE_FUSION,CONDITIONAL,WHILE"


def compile_program(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    """The compiled program; a version of XLA that does not know the options gets none."""
    options = options_for(jax.default_backend(), os.environ.get("XLA_FLAGS", ""))
    if not options:
        return lowered.compile()
    try:
        return lowered.compile(compiler_options=options)
    except jax.errors.JaxRuntimeError as error:
        if GRAPHS not in str(error):
            raise
        return lowered.compile()


def options_for(platform: str, flags: str) -> dict[str, str | bool]:
    """Options on a platform ("cpu", "gpu", "tpu"), besides the user's own `flags` (XLA_FLAGS)."""
    return {GRAPHS: IN_GRAPHS} if platform == "gpu" and GRAPHS not in flags else {}
