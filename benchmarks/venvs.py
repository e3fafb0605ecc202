"""Virtual environments for other libraries, whose versions clash with ours: made once,
then found again."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from jaxrl.errors import JaxrlError

# Exact versions: what a table compares with should be the same tomorrow.
# rejax takes the five values of gymnax 0.0.x's `step`, where 1.x gives six.
# SBX is built on Stable-Baselines3, so that both live in one environment.
REQUIREMENTS = {
    "rejax": ("rejax==0.1.3", "gymnax==0.0.9"),
    "sb3": (
        "stable-baselines3==2.9.2",
        "sbx-rl==0.28.0",
        "gymnasium[mujoco]==1.3.0",
        "mujoco==4.0.0",
    ),
    "envpool": ("envpool==1.2.5",),
    "torch": ("torch==2.14.1", "d3rlpy==2.8.1"),
}


def interpreters(
    venvs: Mapping[str, str | None],
    folder: Path,
    missing: dict[str, str],
    begin: Callable[[str], None],
) -> dict[str, str]:
    """The interpreter of every system, by its environment (None: ours);
    what cannot be installed is in `missing`."""
    pythons = {}
    for name, venv in venvs.items():
        own = "its environment, which may take minutes the first time"
        begin(f"{name}: {own if venv else 'our own environment'}")
        try:
            pythons[name] = python_of(venv, folder) if venv else sys.executable
        except JaxrlError as error:
            missing[name] = str(error)
    return pythons


def python_of(name: str, folder: Path) -> str:
    """The interpreter of environment `name` under `folder`,
    which is made if it is not there yet."""
    path = folder.absolute() / name
    python, stamp, log = path / "bin" / "python", path / "requirements.txt", path / "install.log"
    wanted = "\n".join([*REQUIREMENTS[name], own_jax()]) + "\n"
    if stamp.exists() and stamp.read_text() == wanted:
        return str(python)
    path.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        for command in commands(path, python, wanted.split()):
            if subprocess.run(
                command, stdout=output, stderr=subprocess.STDOUT, check=False
            ).returncode:
                raise JaxrlError(f"cannot install {name}: {last_line(log)}")
    stamp.write_text(wanted)
    return str(python)


def commands(path: Path, python: Path, requirements: list[str]) -> list[list[str]]:
    """What makes an environment and fills it: by uv where there is one, else by venv and pip."""
    uv = shutil.which("uv")
    if uv:
        make = [uv, "venv", "--allow-existing", "--python", sys.executable, str(path)]
        return [make, [uv, "pip", "install", "--python", str(python), *requirements]]
    return [
        [sys.executable, "-m", "venv", str(path)],
        [str(python), "-m", "pip", "install", *requirements],
    ]


def own_jax() -> str:
    """JAX in our own version, for the accelerator that ours is for."""
    installed = [
        str(distribution.name).lower() for distribution in importlib.metadata.distributions()
    ]
    found = [
        match[1] for name in installed if (match := re.fullmatch(r"jax-(cuda\d+)-plugin", name))
    ]
    return f"jax{f'[{found[0]}]' if found else ''}=={importlib.metadata.version('jax')}"


def last_line(path: Path) -> str:
    """The last line of a log that says something; of pip's, the last error."""
    lines = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    return (errors or lines or ["no output"])[-1]
