"""Command lines with a mistake in them: each is served,
or refused by a message that names the mistake."""

import functools
import random
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import tyro

from jaxrl import cli
from jaxrl.errors import JaxrlError
from jaxrl.train.population import Population
from tests.train.tiny import ARGUMENTS, PROBE

SEED = 20
NEW, RUN = "new/run", "finished"  # the folder of a new run, and the copy of a finished one

# How a value can be wrong for each kind of option. Of those in NO, every one is refused; of those
# in ODD some are.
NO = {
    "int": [
        "1.5",
        "1e-3",
        "abc",
        "",
        "nan",
        "inf",
        "-inf",
        "1e400",
        "9" * 40,
        "∞",
        "0x10",
        "1,000",
        "True",
    ],
    "float": ["abc", "", "1,5", "🦊", "--", "1e", "nan"],
    "choice": ["wurst", "", "R6", "Best", "ключ"],
    "path": [""],
    "sweep": [
        "gama=0.9",
        "gamma",
        "=1",
        "gamma=",
        "gamma=high",
        "num_envs=4..8",
        "num_envs=4,4",
        "gamma=0.9..0.99",
        "gamma=0.9,,1",
        "ключ=1",
        "gamma=nan",
    ],
    "settings": [
        "gama=0.9",
        "gamma",
        "=1",
        "gamma=",
        "gamma=high",
        "gamma=nan",
        "gamma=[1]",
        "num_envs=1.5",
        "ключ=1",
    ],
    "env-options": ["size", "size=3", "=3", "size=", "🦊=1", "environment_id=2"],
    "member": ["seed", "=2", "seed=", "seed=1,seed=2"],
    "env": [
        "CartPole",
        "os:system",
        "no.such:Env",
        "jaxrl.envs.suites.probe:Nope",
        "a:b:c",
        ":",
        "a b:C",
        "../x:y",
        "builtins:exec",
    ],
    "mesh": ["env", "env=x", "env=0", "rows=2", "env=4096"],
}
ODD = {
    "int": ["-1", "0", "1e18", "-1e18", "3", "7", "1e3", str(2**31), str(2**63 - 1)],
    "float": ["inf", "-inf", "-1", "0", "1e400", "1e-320", "2"],
    "choice": [],
    "path": ["ключ/🦊", "x" * 300, "/proc/no/such", "new\nline", "-"],
    "sweep": ["gamma=1", "gamma=0.9,0.9", "learning_rate=inf", "clip-epsilon=0.1"],
    "settings": [
        "gamma=0.5",
        "gamma=1e999",
        "total_steps=1e3",
        "total_steps=1000000",
        "hidden_sizes=[]",
        "hidden-sizes=8",
    ],
    "env-options": [],
    "member": ["seed=0", "seed=9", "gamma=0.9", "seed=x"],
    "env": ["", " ", "probe/two-step", "-", "жук"],
    "mesh": ["env=1", "env=2,seed=1", "seed=1"],
}

TRAINING = {
    "total-steps": "int",
    "num-envs": "int",
    "num-steps": "int",
    "minibatch-size": "int",
    "hidden-sizes": "int",
    "learning-rate": "float",
    "gamma": "float",
    "clip-epsilon": "float",
    "target-kl": "float",
    "starts": "choice",
    "activation": "choice",
    "normalize-advantages": "choice",
    "seed": "int",
    "num-seeds": "int",
    "num-evaluations": "int",
    "evaluation-episodes": "int",
    "devices": "int",
    "mesh": "mesh",
    "env": "env",
    "env-options": "env-options",
    "folder": "path",
    "sinks": "choice",
    "scale-from": "int",
    "scale-rule": "choice",
    "processes": "int",
    "process-id": "int",
    "config": "path",
}
SAVED = {"checkpoint": "choice", "seed": "int", "member": "member"}
OPTIONS = {
    "train": TRAINING,
    "sweep": TRAINING | {"over": "sweep", "samples": "int"},
    "resume": {
        "set": "settings",
        "devices": "int",
        "mesh": "mesh",
        "sinks": "choice",
        "processes": "int",
    },
    "eval": SAVED | {"episodes": "int"},
    "plot": {"output": "path", "smooth": "int"},
    "render": SAVED | {"output": "path"},
    "envs": {"suite": "choice"},
}
BASES = {
    "train": ["train", "ppo", *ARGUMENTS, "--folder", NEW],
    "sweep": ["sweep", "ppo", *ARGUMENTS, "--folder", NEW, "--over", "learning_rate=1e-3,1e-2"],
    "resume": ["resume", RUN],
    "eval": ["eval", RUN, "--episodes", "4"],
    "plot": ["plot", RUN],
    "render": ["render", RUN],
    "envs": ["envs", "cart"],
}
COUNTS = {"train": 140, "sweep": 60, "resume": 60, "eval": 60, "plot": 30, "render": 40, "envs": 30}


class Case(NamedTuple):
    """A command line, one of the words that a refusal has to name,
    and whether it has to be refused."""

    words: list[str]
    named: tuple[str, ...]
    wrong: bool


class Served(JaxrlError):
    """Raised where a command has passed every check and would begin to compile or to draw."""


def spelt(option: str, value: str, chance: random.Random) -> list[str]:
    """The option and its value in one of the ways to write them."""
    name = "--" + (option if chance.random() < 0.5 else option.replace("-", "_"))
    return [f"{name}={value}"] if chance.random() < 0.5 or value.startswith("-") else [name, value]


def misspelt(name: str, chance: random.Random) -> str:
    """The name with two letters exchanged, or one left out."""
    at = chance.randrange(len(name) - 1)
    return (
        name[:at] + name[at + 1] + name[at] + name[at + 2 :]
        if chance.random() < 0.5
        else name[:at] + name[at + 1 :]
    )


def values(chance: random.Random, command: str) -> Case:
    """A value that is wrong, or may be."""
    option, kind = chance.choice(sorted(OPTIONS[command].items()))
    wrong = not ODD[kind] or chance.random() < 0.6
    value = chance.choice((NO if wrong else ODD)[kind])
    named = [option]
    if kind in ("sweep", "settings", "env-options", "member"):
        named += [value, value.partition("=")[0].replace("-", "_")]
    elif kind != "int" and kind != "float":
        named += [value, repr(value)[1:-1], Path(value).name, value.rpartition(":")[2]]
        named += ["environment"] if kind == "env" and not value.strip() else []
    return Case(
        [*BASES[command], *spelt(option, value, chance)], tuple(filter(str.strip, named)), wrong
    )


def unknown_options(chance: random.Random, command: str) -> Case:
    """An option that is misspelt, made up, or another command's."""
    known = {name for names in OPTIONS.values() for name in names}
    others = sorted((known - set(OPTIONS[command])) | {"farbe", "цвет", "no-such-thing", "x"})
    name = chance.choice(others)
    if chance.random() < 0.5:
        name = misspelt(chance.choice(sorted(OPTIONS[command])), chance)
    wrong = name not in OPTIONS[command] and name not in VALID[command]
    words = [*BASES[command], *spelt(name, "1", chance)]
    return Case(words, (f"--{name}",), wrong)


# What the commands take besides: no mistake there, if a misspelt name hits one.
VALID = {
    name: {"help", "help-all", "h", "output", "quiet", "text", "trust", "imports"}
    for name in OPTIONS
}
VALID["plot"] |= {"kind", "metric", "x", "labels", "size"}


def missing_values(chance: random.Random, command: str) -> Case:
    """An option at the end, without the value that it needs."""
    option = chance.choice(sorted(OPTIONS[command]))
    several = {"hidden-sizes", "mesh", "sinks"}  # none is a number of values too
    return Case([*BASES[command], f"--{option}"], (f"--{option}",), option not in several)


def repeated_options(chance: random.Random, command: str) -> Case:
    """An option twice: the last one counts, but both have to be whole numbers, numbers, …"""
    ints = [name for name, kind in OPTIONS[command].items() if kind in ("int", "choice")]
    option = chance.choice(sorted(ints)) if ints else "output"
    words = [*spelt(option, "1", chance), *spelt(option, "wurst", chance)]
    return Case([*BASES[command], *words], (f"--{option}", "wurst"), bool(ints))


def words_of_position(chance: random.Random, command: str) -> Case:
    """Another word where the command, the algorithm, the folder or nothing belongs."""
    base, at = list(BASES[command]), chance.randrange(3)
    word = chance.choice(
        ["wurst", "жук", "os:system", "no.such:thing", "x" * 300, "a=b", "tra in", "🦊"]
    )
    if at == 0:
        base[0] = word
    elif at == 1 and len(base) > 1:
        base[1] = word
    else:
        base.insert(2, word)
    wrong = not (command == "plot" and at == 2)
    return Case(base, (word,), wrong)


# Options that would do nothing: none is served.
SWEPT = "0.9,0.99"
WITHOUT_EFFECT = {
    "train": [
        ["--scale-rule", "R3"],
        ["--scale-rule=R1"],
        ["--pool-size", "64"],
        ["--mesh", "env=2,env=1"],
        ["--mesh", "seed=1", "seed=1"],
        ["--value-clip-epsilon", "0.2", "--value-coefficient", "0"],
        ["--shared-torso", "--hidden-sizes"],
        ["--activation", "relu", "--hidden-sizes"],
        ["--initial-log-std", "-1"],
        ["--no-train-std"],
        ["--squash-actions"],
        ["--state-dependent-std"],
        ["--starts=pool", "--pool-size=0"],
        ["--learning-rate", "inf"],
        ["--entropy-coefficient", "1e39"],
        ["--process-id", "0"],
        ["--processes", "2"],
    ],
    "sweep": [
        ["--learning-rate", "1e-3"],
        ["--learning_rate=2.5e-4"],
        ["--gamma", "0.9", "--over", f"gamma={SWEPT}"],
        ["--value-coefficient", "0", "--over", f"value_clip_epsilon={SWEPT}"],
    ],
    "resume": [
        ["--set", "total_steps=32", "--force"],
        ["--set", "gamma=0.5", "--force"],
        ["--set", "gamma=0.5", "learning_rate=1e-3", "--force"],
        ["--mesh", "env=1,env=1"],
    ],
    "plot": [
        ["--output", "x.gif"],
        ["--output=x"],
        ["--smooth=1"],
        ["--labels", "a", "b"],
        ["--kind=profile", "--smooth", "2"],
        ["--kind", "profile", "--x=seconds"],
    ],
    "render": [["--output", "x.mp4"], ["--output=x.png"], ["--output", "x"]],
}


def without_effect(command: str) -> Iterator[Case]:
    """Each option that is read only with another one, or not at all as it is given."""
    for words in WITHOUT_EFFECT.get(command, ()):
        parts = [part for word in words for part in word.removeprefix("--").split("=") if part]
        names = [part.removeprefix("no-").replace("-", "_") for part in parts]
        named = tuple({*words, *parts, *names})
        yield Case([*BASES[command], *words], named, True)


MUTATIONS = [
    values,
    values,
    values,
    unknown_options,
    missing_values,
    repeated_options,
    words_of_position,
]


def cases() -> Iterator[Case]:
    """Every command line of this test, always the same."""
    chance = random.Random(SEED)
    for command, count in COUNTS.items():
        yield Case(BASES[command], (), False)
        for _ in range(count):
            yield chance.choice(MUTATIONS)(chance, command)
        yield from without_effect(command)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz") / "finished"
    assert cli.main(["train", "ppo", *ARGUMENTS, "--folder", str(folder), "--quiet"]) == 0
    return folder


@pytest.fixture
def nothing_is_served(monkeypatch):
    def served(*_, **__):
        raise Served("served")

    monkeypatch.setattr(Population, "call", served)
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", served)
    monkeypatch.setattr("jaxrl.train.output.report.record_episode", served)
    # The parser tokenises the source of each class for its help, again and again: half of the time
    # of this test.
    tokens = tyro._docstrings._ClassTokenization
    monkeypatch.setattr(tokens, "make", staticmethod(functools.cache(tokens.make)))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("XLA_FLAGS", "")


def contents(folder) -> dict[str, int]:
    """Every file and folder, with the time it was changed."""
    paths = (path for path in folder.rglob("*") if path.name != ".lock")
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in paths}


def says(message: str, word: str) -> bool:
    """Whether a message has this word or phrase in it,
    however it was folded and whichever dash it has."""
    text, word = (part.replace("│", " ").replace("_", "-") for part in (message, word))
    if word.isascii() and word.replace("-", "").isalnum() and len(word) < 40:
        return bool(re.search(rf"(?<!\w){word}(?!\w)", text))
    return "".join(word.split()) in "".join(text.split())


def complaint(case: Case, status: int, message: str, before: dict, after: dict) -> str | None:
    """What is not as it should be about how a command line was answered."""
    if status not in (0, 2) or "Traceback" in message:
        return f"status {status}: {message}"
    if status == 0 or "error: served" in message or f"cannot draw {PROBE}" in message:
        return f"was served: {message}" if case.wrong else None
    if not any(says(message, word) for word in case.named):
        return f"names none of {case.named}: {message}"
    return None if before == after else f"left {set(after.items()) ^ set(before.items())}"


def test_every_mistake_is_named_and_nothing_is_left_behind(
    finished, nothing_is_served, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    faults, refusals, count, before = [], set(), 0, None
    for case in cases():
        count += 1
        if before is None:
            shutil.copytree(finished, tmp_path / RUN)
            before = contents(tmp_path)
        try:
            status, error = cli.main(case.words), ""
        except BaseException as raised:
            status, error = 1, f"{type(raised).__name__}: {raised}"
        message = capsys.readouterr().err + error
        after = contents(tmp_path)
        if fault := complaint(case, status, message, before, after):
            faults.append(
                f"{[word[:60] for word in (*case.words[:2], '…', *case.words[-3:])]}: {fault}"
            )
        if status == 2 and "error: served" not in message:
            refusals.add(message)
        if before != after:
            before = None
            for path in tmp_path.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    print(f"{count} command lines, {len(refusals)} different refusals")
    assert not faults, f"{len(faults)} of {count}:\n" + "\n".join(faults)
    assert count >= 400 and len(refusals) >= 150
