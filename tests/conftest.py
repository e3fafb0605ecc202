"""What every test runs under: silent broadcasting and reused keys are errors,
compilations cached, devices eight."""

import gc
import os
import pathlib
import tempfile

# Before the first import of JAX, so that child processes share the cache too.
CACHE = pathlib.Path(
    os.environ.get("JAXRL_TEST_CACHE", pathlib.Path(tempfile.gettempdir()) / "jaxrl-test-cache")
)
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
# On a CPU, devices are whatever one takes for them; tests/devices needs these, and to the others
# they cost nothing.
os.environ["JAX_NUM_CPU_DEVICES"] = "8"

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)

# A compiled program lies in memory mappings of its own. Linux gives a process 65,530, and kills
# what needs more.
MAPPINGS = pathlib.Path("/proc/self/maps")
MOST_MAPPINGS = 40_000


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Between files, drop what was compiled once it is too much for one process;
    it is in the cache on disk."""
    if nextitem is None or nextitem.path == item.path or not MAPPINGS.exists():
        return
    if MAPPINGS.read_bytes().count(b"\n") > MOST_MAPPINGS:
        jax.clear_caches()
        gc.collect()
