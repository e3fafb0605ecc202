"""Workers that may use one core and one thread of it; to be called before JAX is imported."""

from __future__ import annotations

import json
import os
import sys

# Of XLA, of OpenMP (PyTorch), of OpenBLAS (NumPy).
ONE = ("JAX_NUM_CPU_DEVICES", "PJRT_NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def keep_to_one_core() -> None:
    """Stay on the core that the setting names, if the system can pin processes."""
    core = json.loads(sys.argv[1])["core"]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    os.environ |= dict.fromkeys(ONE, "1")
