"""One start of PPO up to its first compiled chunk, as `jaxrl train` starts:
benchmarks/compile_time.py times it.

    python -m benchmarks.first_chunk ENVIRONMENT BEGUN

BEGUN is when the process was started, in seconds of `time.time`. Prints one line of JSON. Nothing
is imported that training does not import.
"""

from __future__ import annotations

import json
import sys
import time

from jaxrl.cli import prepare_process


def main(environment: str, begun: float) -> None:
    """Import, build, compile, and run a chunk of no iterations."""
    prepare_process()
    import jax

    from jaxrl.train.build import build
    from jaxrl.train.experiment import Experiment, default_config

    imported = time.time()
    program = build(Experiment("ppo", environment, default_config("ppo", environment)[0]))
    state = program.init()
    init_seconds = program.compile_seconds
    jax.block_until_ready(program.chunk(state, 0))
    seconds = {
        "first_chunk": time.time() - begun,
        "import": imported - begun,
        "compile_init": init_seconds,
        "compile_chunk": program.compile_seconds - init_seconds,
    }
    sys.stdout.write(json.dumps({"seconds": seconds, "platform": jax.default_backend()}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
