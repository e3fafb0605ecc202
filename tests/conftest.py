"""What every test runs under: silent broadcasting and reused keys are errors,
compilations cached, devices eight."""

import dataclasses
import gc
import importlib
import inspect
import os
import pathlib
import pkgutil
import signal
import tempfile

# Before the first import of JAX, so that child processes share the cache too.
CACHE = pathlib.Path(
    os.environ.get("JAXRL_TEST_CACHE", pathlib.Path(tempfile.gettempdir()) / "jaxrl-test-cache")
)
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
# Compiling is most of what the tests cost, and hardly any program runs for long.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# A shell's background jobs are born deaf to Ctrl-C, nohup's to hanging up; so would be the commands
# that tests stop.
for each, usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(each) == signal.SIG_IGN:
        signal.signal(each, usual)
# On a CPU, devices are whatever one takes for them; tests/devices needs these, and to the others
# they cost nothing.
os.environ["JAX_NUM_CPU_DEVICES"] = "8"

import jax  # noqa: E402
import pytest  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

# Before the first import of jaxrl: the functions of jaxrl/core check the types and shapes that
# they are given and return, wherever a test has them called or traced.
install_import_hook("jaxrl.core", "beartype.beartype")

import jaxrl.core  # noqa: E402

# A pytree is also made of what is no array: of shapes, by `jax.eval_shape`, and of any leaf.
for module in pkgutil.walk_packages(jaxrl.core.__path__, "jaxrl.core."):
    for made in vars(importlib.import_module(module.name)).values():
        if dataclasses.is_dataclass(made):
            made.__init__ = inspect.unwrap(made.__init__)

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
