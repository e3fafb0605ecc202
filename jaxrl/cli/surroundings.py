"""Why something failed that was nobody's request: files in the way, packages, JAX's own settings.

Nothing is imported here that needs more than Python's core: it may be an import that has failed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import traceback
from collections.abc import Iterator


def why(error: Exception) -> str | None:
    """A cause in the user's surroundings, in words; None if none is known: it is a bug then."""
    if found := _shadow(error):
        name, path = found
        return (
            f"{path} is imported in place of {name}, for Python searches the folder that you work "
            f"in first: rename the file, or work elsewhere ({_first_line(error)})."
        )
    if isinstance(error, OSError) and error.filename is not None:
        return f"cannot use {os.fsdecode(error.filename)}: {error.strerror}."
    if isinstance(error, ModuleNotFoundError) and error.name:
        from_elsewhere = error.name.partition(".")[0] != "jaxrl"
        if from_elsewhere:
            return (
                f"the package {error.name} is missing or incomplete ({error}). Install jaxrl anew, "
                f"with what it needs: {_reinstall_command()}"
            )
    if "jax" in sys.modules:
        from jaxrl.train.devices.jax_settings import explanation

        if cause := explanation(error):
            return cause
    if variable := _variable(error):
        return (
            f"the environment variable {variable} is {os.environ[variable]!r}: unset it, or give "
            f"it another value ({_first_line(error)})."
        )
    if _is_of_jax_settings(error):
        return f"JAX does not begin: {error}."
    return None


def refused_xla_flags() -> str | None:
    """Why XLA would end this process at the first use of a device: flags that it does not know.

    It exits then, and no Python sees it. So another process tries, which takes a fifth of a second:
    only where XLA_FLAGS is set, and JAX is not in use here yet.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if not flags.strip() or "jax" in sys.modules:
        return None
    tried = subprocess.run(
        [sys.executable, "-P", "-c", "from jaxlib import xla_client; xla_client.make_cpu_client()"],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    # What else is wrong, as a package that cannot be imported, is said where it happens.
    if tried.returncode == 0 or "Traceback" in tried.stderr or not tried.stderr.strip():
        return None
    said = re.sub(r"^[A-Z]\d{4} .*?\] ", "", tried.stderr.strip().splitlines()[0])
    return (
        f"the environment variable XLA_FLAGS is {flags!r}, with which XLA ends every process "
        f"({said}): unset it, or correct it."
    )


def _reinstall_command() -> str:
    """As `jaxrl.config.install_command`, which may be what cannot be imported."""
    import importlib.util

    if importlib.util.find_spec("pip"):
        return f"{sys.executable} -m pip install --force-reinstall jaxrl"
    return f"uv pip install --python {sys.executable} --reinstall jaxrl"


def _variable(error: Exception) -> str | None:
    """The environment variable that an error complains of, as MuJoCo's of MUJOCO_GL; if it is set.

    A name without an underscore may be any word.
    """
    if not isinstance(error, ValueError | RuntimeError | ImportError):
        return None
    words = re.findall(r"[A-Z][A-Z0-9]*_[A-Z0-9_]+", str(error))
    return next((word for word in words if word in os.environ), None)


def _shadow(error: BaseException) -> tuple[str, str] | None:
    """(name, path) of a file in the working folder that has the name of a package or of Python's.

    It was imported, or has failed to be.
    """
    try:
        folder = os.getcwd()
    except OSError:  # which was removed
        return None
    for path in (*_files(error), *_before_packages(error, folder)):
        place, file = os.path.split(os.path.abspath(path))
        name = file.removesuffix(".py")
        if name == "__init__":
            place, name = os.path.split(place)
        # Frames of Python's own are named as <frozen importlib._bootstrap>, in no folder.
        if place == folder and name.isidentifier() and name != "jaxrl" and _is_taken(name):
            return name, path
    return None


def _is_taken(name: str) -> bool:
    """Whether a module of this name belongs to Python or to an installed package."""
    if name in sys.stdlib_module_names:
        return True
    import importlib.metadata  # after those of Python's own, which it needs

    return name in importlib.metadata.packages_distributions()


def _files(error: BaseException | None) -> Iterator[str]:
    """The files of the modules that were imported, and of those that an error has passed."""
    while error is not None:
        for frame in traceback.extract_tb(error.__traceback__):
            yield frame.filename
        error = error.__cause__ or error.__context__
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if isinstance(path, str):
            yield path


def _before_packages(error: BaseException, folder: str) -> list[str]:
    """The Python files of the working folder, if an import failed and packages are found after it.

    An extension that fails to import something names no file.
    """
    if not isinstance(error, ImportError) or folder not in sys.path:
        return []
    later = sys.path[sys.path.index(folder) + 1 :]
    if not any(path.endswith("-packages") for path in later):
        return []
    return [os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".py")]


def _is_of_jax_settings(error: Exception) -> bool:
    """Whether JAX refuses the value of one of its variables, which it does when it is imported."""
    frames = traceback.extract_tb(error.__traceback__)
    configuration = os.path.join("jax", "_src", "config.py")
    return isinstance(error, ValueError) and frames[-1].filename.endswith(configuration)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or ["without a message"]
    return f"{type(error).__name__}: {lines[0]}"
