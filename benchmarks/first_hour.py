"""The first hour of five new users, in fresh environments: what the pages say is typed, timed.

    python benchmarks/first_hour.py
    python benchmarks/first_hour.py --quick
    python benchmarks/first_hour.py --users notebook --budget 20000

The commands are read from the pages; only budgets are cut (`--budget`). Users of a checkout get a
clone of the last commit, the others the wheel that is built of it. It needs git, and nothing of
jaxrl. The first step that fails shows what it printed, and ends the script with status 1.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
THIS = f"{sys.version_info.major}.{sys.version_info.minor}"
SECONDS_PER_STEP = 1800
# What a shell may have set, and a new user has not.
FOREIGN = ("PYTHON", "JAX", "XLA", "VIRTUAL_ENV", "MPLBACKEND", "MAKE", "PYENV_VERSION")


@dataclass
class Step:
    """One thing that a user types."""

    documented: str  # as the page has it
    command: str  # as it was run
    seconds: float
    status: int


@dataclass
class User:
    """A new user: a folder, and an environment on PATH once it is installed."""

    name: str
    python: str  # 3.12
    installer: str
    folder: Path
    budget: int
    uv: str | None
    wheel: Path
    steps: list[Step] = field(default_factory=list)
    path: str = ""

    def run(
        self, documented: str, command: str = "", stop: Path | None = None, status: int = 0
    ) -> None:
        """Run a command, as it is documented unless given otherwise; end the script if it fails.

        `stop` is a file: once it has a line, the command gets a Ctrl-C.
        """
        command = command or documented
        print(f"  {self.name:<11} {command.splitlines()[0][:100]}", flush=True)
        began = time.perf_counter()
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.Popen(
                ["bash", "-c", command],
                **{"cwd": self.folder, "env": self._environment(), "stdout": output},
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                ended = _wait(process, stop)
            finally:
                if process.poll() is None:  # the script itself was stopped
                    os.killpg(process.pid, signal.SIGKILL)
            seconds = time.perf_counter() - began
            self.steps.append(Step(documented, command, round(seconds, 1), ended))
            print(f"  {'':<11} {seconds:.1f} s", flush=True)
            if ended != status:
                output.seek(0)
                print(output.read())
                raise SystemExit(f"{self.name}: {command!r} ended with {ended}")

    def small(self, documented: str, more: str = "") -> None:
        """Run a command with a budget that is cut, and options that the page does not have."""
        command = documented
        for option in ("--total-steps", "--total-updates"):
            found = re.search(rf"{option} (\d+)", command)
            if found and int(found[1]) > self.budget:
                command = command.replace(found[0], f"{option} {self.budget}")
        if re.match(r"jaxrl (train|sweep) ", command) and "--total-" not in command:
            unit = "updates" if "--dataset" in command else "steps"
            command += f" --total-{unit} {self.budget}"
        self.run(documented, f"{command} {more}".strip())

    def make(self, documented: str, arguments: str = "") -> None:
        """Run a target of make, with this user's Python, with uv or without it."""
        own = f"PYTHON={shlex.quote(interpreter(self.python))} UV={self.uv or ''}"
        self.run(documented, f"{documented} {own} {arguments}".strip())

    def install(self, *more: str) -> None:
        """A fresh environment with the wheel, with pip or uv."""
        python = shlex.quote(interpreter(self.python))
        wanted = shlex.join([str(self.wheel), *more])
        constraints = f"-c {ROOT / 'constraints.txt'}"
        if self.installer == "uv" and self.uv:
            self.run("uv venv", f"{self.uv} venv --python {python} .venv")
            self.run(
                "uv pip install jaxrl",
                f"{self.uv} pip install --python .venv/bin/python {constraints} {wanted}",
            )
        else:
            self.run("python -m venv .venv", f"{python} -m venv .venv")
            self.run(
                "pip install jaxrl", f".venv/bin/python -m pip install -q {constraints} {wanted}"
            )
        self.activate()
        self.run("jaxrl --version", "jaxrl --version && jaxrl envs minatar")

    def activate(self) -> None:
        """What `source .venv/bin/activate` does."""
        self.path = f"{self.folder / '.venv' / 'bin'}:"

    def script(self, documented: str, code: str) -> None:
        """Run Python, in one process."""
        path = self.folder / f"cells_{len(self.steps)}.py"
        path.write_text(code)
        self.run(documented, f"python {path.name}")

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        cache = {"XDG_CACHE_HOME": str(self.folder / "cache"), **download_caches()}
        return kept | cache | {"PATH": self.path + kept["PATH"]}


def _wait(process: subprocess.Popen, stop: Path | None) -> int:
    """The exit status of a process, which gets a Ctrl-C once `stop` has a line."""
    latest = time.perf_counter() + SECONDS_PER_STEP
    while process.poll() is None:
        if stop and stop.exists() and stop.stat().st_size:
            os.killpg(process.pid, signal.SIGINT)
            stop = None
        if time.perf_counter() > latest:
            os.killpg(process.pid, signal.SIGKILL)
        time.sleep(0.05)
    return process.returncode


def download_caches() -> dict[str, str]:
    """Where pip and uv keep what they have downloaded: users share it, and nothing else."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return {
        "PIP_CACHE_DIR": os.environ.get("PIP_CACHE_DIR", str(home / "pip")),
        "UV_CACHE_DIR": os.environ.get("UV_CACHE_DIR", str(home / "uv")),
    }


def interpreter(version: str) -> str:
    """The path of a Python of that version: this one, one on PATH, or one of pyenv's."""
    if version == THIS:
        return sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    names = [f"python{version}", *map(str, sorted(pyenv.glob(f"{version}.*/bin/python")))]
    for name in names:
        asked = [name, "-c", "import ensurepip, sys; print(sys.executable)"]
        try:
            found = subprocess.run(asked, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            continue
        if found.returncode == 0:
            return found.stdout.strip()
    raise SystemExit(f"there is no Python {version}: tried {', '.join(names)}")


def blocks(page: str, heading: str, language: str = "sh") -> list[str]:
    """The code of a page below a heading: fenced, or with no language indented."""
    text = (ROOT / page).read_text()
    found = re.search(rf"^#+ {re.escape(heading)}$(.*?)(?=^#+ [^#]|\Z)", _hidden(text), _SECTION)
    if not found:
        raise SystemExit(f"{page} has no heading {heading!r}")
    section = text[found.start(1) : found.end(1)]
    if language:
        code = re.findall(rf"^```{language}\n(.*?)^```$", section, _SECTION)
    else:
        prose = re.sub(r"^```.*?^```$", "", section, flags=_SECTION)
        code = ["\n".join(re.findall(r"^    (.+)$", prose, re.MULTILINE))]
    if not any(code):
        raise SystemExit(f"{page} shows no {language or 'indented'} code below {heading!r}")
    return code


_SECTION = re.MULTILINE | re.DOTALL


def _hidden(text: str) -> str:
    """The text, as long as before, in which no line of code looks like a heading."""
    return re.sub(r"^```.*?^```$", lambda code: code[0].replace("#", " "), text, flags=_SECTION)


def commands(page: str, heading: str, language: str = "sh") -> list[str]:
    """The lines below a heading, without comments."""
    lines = "\n".join(blocks(page, heading, language)).replace("\\\n", " ").splitlines()
    return [line for line in (re.sub(r"\s+#.*", "", each).strip() for each in lines) if line]


def checkout(user: User) -> str:
    """Clone and train, as the README begins; the command that tests, which comes next there."""
    clone, train, test = commands("README.md", "Two commands", "")
    user.run(clone, clone.replace("<this repository>", str(ROOT)).partition(" && ")[0])
    user.folder /= "jaxrl"
    user.make(train, f"ARGS='--total-steps {user.budget}'")
    user.activate()
    return test


def student(user: User) -> None:
    """The README's two commands in a clone, without uv, and the quickstart."""
    test = checkout(user)
    for command in commands("docs/quickstart.md", "Look"):
        user.run(command)
    for command in commands("docs/quickstart.md", "Evaluate"):
        user.run(command)
    user.make(test, "ARGS='-n 0 tests/test_packaging.py'")


def phd_student(user: User) -> None:
    """An algorithm of one's own: begun, checked, trained, swept, stopped, resumed, played."""
    user.install("gymnasium", "pandas")
    new, check, train, sweep = commands("docs/add-your-algorithm.md", "Add your algorithm")
    name = check.split()[-1]
    user.run(new)
    user.run(check)
    user.small(train)
    user.small(sweep)
    folder = "runs/mine"
    stopped = user.folder / folder / "metrics.jsonl"
    user.run(train, f"{train} --folder {folder}", stop=stopped, status=130)
    trusted = f"--imports {name}"
    user.run("jaxrl resume RUN", f"jaxrl resume {folder} {trusted}")
    user.run("jaxrl eval RUN", f"jaxrl eval {folder} {trusted}")
    user.run("jaxrl render RUN", f"jaxrl render {folder} {trusted}")
    user.run("jaxrl export RUN", f"jaxrl export {folder} --csv mine.csv")
    (loop,) = blocks("docs/python.md", "Act", "python")
    load = f'import jaxrl\nfrom jaxrl.train.trust import Trust\nagent = jaxrl.load("{folder}", '
    own = re.sub(
        r"^agent = jaxrl\.load\(.*\)$",
        f'{load}trust=Trust(imports=("{name}",)))',
        loop,
        flags=re.MULTILINE,
    )
    user.script("docs/python.md: Act", own)


def researcher(user: User) -> None:
    """Seeds, sweeps, plots, a report, a dataset: the README's commands one after the other."""
    user.install()
    for command in commands("README.md", "On the command line"):
        user.small(command)


def notebook(user: User) -> None:
    """The README's Python, and that of the page for it, as cells of one process each."""
    user.install("gymnasium", "pandas")
    user.script("README.md: In Python", "\n".join(blocks("README.md", "In Python", "python")))
    cells = [
        block
        for heading in ("Train", "Act", "Read what was recorded", "Log, stop and steer")
        for block in blocks("docs/python.md", heading, "python")
    ]
    user.script("docs/python.md: Train … Log, stop and steer", "\n".join(cells))


def other_python(user: User) -> None:
    """A clone on another Python than that of the rest, with uv if there is one."""
    checkout(user)
    first, *_ = commands("README.md", "On the command line")
    user.small(first)


USERS: dict[str, tuple[Callable[[User], None], str, str]] = {
    "student": (student, THIS, "make"),
    "phd": (phd_student, "3.12", "pip"),
    "researcher": (researcher, "3.11", "uv"),
    "notebook": (notebook, "3.13", "pip"),
    "other": (other_python, "3.13", "make, uv"),
}


def tools(folder: Path) -> tuple[Path, str | None]:
    """(the wheel of the last commit, the path of uv if there is one or one can be installed)."""
    python = folder / "tools" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", folder / "tools"], check=True)
    clone = folder / "source"
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    wheel = [python, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", folder, clone]
    subprocess.run(wheel, check=True)
    (built,) = folder.glob("jaxrl-*.whl")
    uv = shutil.which("uv")
    if uv is None:
        asked = subprocess.run([python, "-m", "pip", "install", "-q", "uv"], check=False)
        uv = str(python.with_name("uv")) if asked.returncode == 0 else None
    return built, uv


def write(users: list[User], ended: str, budget: int, output: Path) -> None:
    """The steps as JSON, and as a table."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    record = {
        "machine": {"system": platform.system(), "processor": platform.machine(), "cores": cores},
        "wheel": users[0].wheel.name,
        "budget": budget,
        "ended": ended,
        "users": [
            {
                **{"name": user.name, "python": user.python, "installer": user.installer},
                "minutes": round(sum(step.seconds for step in user.steps) / 60, 1),
                "steps": [dataclasses.asdict(step) for step in user.steps],
            }
            for user in users
        ],
    }
    text = json.dumps(record, indent=1, ensure_ascii=False)
    for private, public in (
        (str(ROOT), "CHECKOUT"),
        (str(users[0].wheel.parent), "USERS"),
        (str(Path.home()), "~"),
    ):
        text = text.replace(private, public)
    output.with_suffix(".json").write_text(text + "\n")
    lines = [
        f"The first hour of new users, on {cores} core{'s' * (cores != 1)}, with budgets cut to "
        f"{budget:,}: `python benchmarks/first_hour.py`. It ended: {ended}.",
        "",
    ]
    for user in json.loads(text)["users"]:
        about = f"Python {user['python']}, {user['installer']}, {user['minutes']} minutes"
        lines += [f"**{user['name']}** ({about})", "", "| typed | seconds |", "|---|---|"]
        lines += [f"| `{step['documented']}` | {step['seconds']} |" for step in user["steps"]]
        lines.append("")
    output.with_suffix(".md").write_text("\n".join(lines))


def main() -> None:
    """Play the users that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--users", nargs="+", choices=USERS, default=list(USERS))
    parser.add_argument("--quick", action="store_true", help="the student alone, on this Python")
    parser.add_argument("--budget", type=int, default=20_000, help="transitions of a training")
    parser.add_argument("--output", type=Path, help="where .json and .md go, without the ending")
    given = parser.parse_args()
    # A shell's background job is born deaf to Ctrl-C, and so would be the commands that get one.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    names = ["student"] if given.quick else given.users
    users: list[User] = []
    with tempfile.TemporaryDirectory(prefix="first-hour-") as temporary:
        folder = Path(temporary)
        wheel, uv = tools(folder)
        if uv is None:
            print("uv can neither be found nor installed: pip is used in its place")
        ended = "stopped before the last step"
        try:
            for name in names:
                play, python, installer = USERS[name]
                own = folder / name
                own.mkdir()
                theirs = uv if "uv" in installer else None
                kind = installer if theirs or "uv" not in installer else f"{installer}: pip"
                users.append(User(name, python, kind, own, given.budget, theirs, wheel))
                play(users[-1])
                shutil.rmtree(own)
            ended = "all steps succeeded"
        except SystemExit as failure:
            ended = str(failure)
            raise
        finally:
            if given.output and users:
                write(users, ended, given.budget, given.output)


if __name__ == "__main__":
    main()
