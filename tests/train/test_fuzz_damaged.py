"""Damaged run folders: each is served with a word about what is lost,
or refused by the file and the field."""

import contextlib
import functools
import importlib.metadata
import io
import json
import random
import shutil
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from jaxrl import cli
from jaxrl.algos.registry import algorithm_names, load
from jaxrl.analysis import plots, records, style
from jaxrl.config import check, field_names, override
from jaxrl.errors import JaxrlError
from jaxrl.train import loop
from jaxrl.train.files import state_arrays
from jaxrl.train.files.checkpoint import Checkpoints
from jaxrl.train.files.verified import file_digests, read
from jaxrl.train.player import Player
from jaxrl.train.program import Program
from tests.train.test_loop import Stopping
from tests.train.tiny import experiment, shared_compilations

SEED = 30
PER_EPISODE = [
    f"{mode}_{what}" for mode in ("deterministic", "stochastic") for what in ("returns", "lengths")
]
STOPPED = 20  # with one evaluation to come
# What stands in the place of a value: of another type, or beyond what anybody would write.
ODD = {
    "removed": ...,
    "null": None,
    "a number": -1.5,
    "a text": "wurst",
    "a list": [1, "x", None],
    "an object": {"wurst": [1]},
    "a switch": True,
    "nested deep": json.loads("[" * 300 + "]" * 300),
    "huge": 10**400,
    "long": "9" * 5000,
    "not a number": float("nan"),
    "infinite": float("inf"),
    "empty": "",
    "control codes": "\x1b[2J\x07\r",
    "no list": [],
    "no object": {},
}
# Other values that config.json could have held from the beginning.
EDITS = {
    "algorithm": "reinforce",
    "environment": "probe/two-step",
    "config.gamma": 0.5,
    "config.num_envs": 8,
    "config.num_steps": 4,
    "config.total_steps": 4000,
    "config.hidden_sizes": [8],
    "config.learning_rate": 1,
    "run.seed": 7,
    "run.num_seeds": 2,
    "run.num_evaluations": 3,
    "run.evaluation_episodes": 8,
    "run.modes": ["stochastic"],
    "sweep": {"gamma": [0.5, 0.9]},
    "versions.jax": "0.1",
    "samples_per_step": 64,
    "num_iterations": 48,
    "format": 1,
}
# May differ from one session to the next: no loss, whatever it says.
FREE = ("layout", "history", "run.devices", "run.mesh")
READ_BY = {
    "config.json": ("resume", "eval", "last", "plot"),
    "metrics.jsonl": ("resume", "plot"),
    "evaluations.npz": ("resume", "plot"),
    "checkpoints": ("resume", "last"),
    "best-": ("resume", "eval"),
}
COMMANDS = {
    "resume": ("resume",),
    "eval": ("eval", "--episodes", "4"),
    "last": ("eval", "--episodes", "4", "--checkpoint", "last"),
    "plot": ("plot",),
}


class Case(NamedTuple):
    """A damage, what has to be named, and whether anything is lost by it
    (None: it may pass for whole)."""

    name: str
    damage: Callable[[Path], object]
    file: str
    field: str = ""
    lost: bool | None = True


@pytest.fixture(scope="module", autouse=True)
def shared():
    """Programs compile once, and are traced once; pictures are read for and not drawn."""
    traced: dict = {}

    def once(owner, name):
        original = getattr(owner, name)

        def function(self):
            compiled = self.population.compiled
            key = (name, id(compiled))
            if key not in traced:
                traced[key] = (original(self), compiled)  # held, so that no other dict gets its id
            return traced[key][0]

        return function

    def draw(run, path, look, *label):
        for setting in range(len(run.settings)):
            plots.curve_of(run, setting, "", "black", look)
        return style.write_bytes(path, repr(run.settings).encode())

    version = functools.cache(importlib.metadata.version)  # it reads the disk each time
    with shared_compilations(), pytest.MonkeyPatch.context() as patch:
        for owner, name in ((Program, "abstract_state"), (Player, "abstract_policies")):
            patch.setattr(owner, name, once(owner, name))
        patch.setattr(importlib.metadata, "version", version)
        for name in ("plot_learning_curve", "plot_sweep"):
            patch.setattr(plots, name, draw)
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A finished run, the same one stopped halfway, and a sweep."""
    place = tmp_path_factory.mktemp("runs")
    sweep = {"learning_rate": [1e-3, 1e-2]}
    loop.train(experiment(), place / "whole")
    loop.train(experiment(), place / "begun", console=Stopping(STOPPED))
    loop.train(experiment(sweep=sweep, num_seeds=2), place / "sweep")
    return place


def set_field(path: str, value):
    """Write `value` into config.json at "name" or "group.name"."""

    def damage(folder):
        file = folder / "config.json"
        description = json.loads(file.read_text())
        put(description, path, value)
        file.write_text(json.dumps(description))

    return damage


def put(found, path, value):
    *groups, name = path.split(".")
    for group in groups:
        found = found[int(group)] if isinstance(found, list) else found[group]
    name = int(name) if isinstance(found, list) else name
    if value is not ...:
        found[name] = value
    elif isinstance(found, dict):
        found.pop(name, None)
    else:
        del found[name]


def whole_file(name, change):
    """Change the bytes of a file; None makes it a folder, and ... removes it."""

    def damage(folder):
        file = folder / name
        data = change(file.read_bytes()) if callable(change) else change
        file.unlink()
        if data is None:
            file.mkdir()
        elif data is not ...:
            file.write_bytes(data)

    return damage


def lines(change):
    return lambda data: b"".join(change(data.splitlines(keepends=True)))


def flip(position):
    return lambda data: (
        data[: int(position * len(data))]
        + bytes([data[int(position * len(data))] ^ 4])
        + data[int(position * len(data)) + 1 :]
    )


def file_cases(name, changes, lost=True):
    return [
        Case(f"{name}: {what}", whole_file(name, change), name, lost=lost)
        for what, change in changes.items()
    ]


TORN = {
    "torn": lambda data: data[: len(data) // 2],
    "empty": b"",
    "binary": bytes(range(256)),
    "missing": ...,
    "a folder": None,
}


def config_cases(rng):
    """Every field with three odd values, each group as well; other values; the file as a whole."""
    description = json.loads((config_cases.folder / "config.json").read_text())
    paths = [*description, "history"]
    paths += [
        f"{group}.{name}" for group in ("config", "run", "versions") for name in description[group]
    ]
    paths += [
        "run.wurst",
        "config.wurst",
        "sweep.gamma",
        "environment_options.wurst",
        "inputs.wurst",
    ]
    cases = []
    for path in paths:
        for kind in rng.sample(sorted(ODD), 1):
            named = "" if kind == "nested deep" else path.split(".")[-1]
            lost = None if path in FREE or _is_as_it_was(description, path, ODD[kind]) else True
            cases.append(
                Case(f"{path}: {kind}", set_field(path, ODD[kind]), "config.json", named, lost)
            )
    for path, value in EDITS.items():
        cases.append(
            Case(f"{path}: edited", set_field(path, value), "config.json", path.split(".")[-1])
        )
    whole = TORN | {
        "a list": b"[1]",
        "a number": b"3",
        "deep": b"[" * 10**5,
        "deep too": b"[" * 500 + b"]" * 500,
    }
    return cases + file_cases("config.json", whole)


def _is_as_it_was(description, path, value):
    """Whether a field already is what it is set to; one that is absent may be removed."""
    found = description
    for name in path.split("."):
        found = found.get(name, ...) if isinstance(found, dict) else ...
    return found is value or (
        value is not ... and json.dumps(found, default=str) == json.dumps(value)
    )


def metrics_cases(rng):
    torn = {"a torn last line": lambda data: data + b'{"iteration": 12, "tra'}
    rows = {
        "a row torn": lines(lambda rows: [*rows[:4], rows[4][:9], *rows[5:]]),
        "a row cut short": lines(lambda rows: [*rows[:4], rows[4][:9] + b"\n", *rows[5:]]),
        "the middle missing": lines(lambda rows: rows[:3] + rows[6:]),
        "the beginning missing": lines(lambda rows: rows[2:]),
        "the end missing": lines(lambda rows: rows[:-2]),
        "a row twice": lines(lambda rows: rows[:3] + rows[2:]),
        "two rows exchanged": lines(lambda rows: [rows[1], rows[0], *rows[2:]]),
        **{f"flipped at {place:.2f}": flip(place) for place in (rng.random() for _ in range(4))},
    }
    odd = [
        '{"iteration": "x"}',
        '{"iteration": -1}',
        "[]",
        "null",
        '{"iteration": 1e400}',
        "{}",
        "[" * 10**5,
    ]
    odd += [
        '{"iteration": 3, "transitions": [1]}',
        '{"iteration": true}',
        '{"iteration": ' + "9" * 5000 + "}",
    ]
    for text in odd:
        rows[f"a row {text[:30]}"] = lines(
            lambda rows, text=text: [*rows[:4], text.encode() + b"\n", *rows[5:]]
        )
    return file_cases("metrics.jsonl", torn, lost=None) + file_cases("metrics.jsonl", rows | TORN)


def evaluations(change):
    """Write other arrays into evaluations.npz."""

    def data(old):
        with np.load(io.BytesIO(old)) as archive:
            arrays = change({name: archive[name] for name in archive.files})
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        return buffer.getvalue()

    return data


def each(change, *names):
    return evaluations(
        lambda found: {n: change(v) if n in names or not names else v for n, v in found.items()}
    )


def without(name):
    return evaluations(
        lambda found: {each: values for each, values in found.items() if each != name}
    )


def one_more(values, index):
    values = values.copy()
    values[index] += 1
    return values


def cut(place):
    return lambda data: data[: int(place * len(data))]


def evaluations_cases(rng):
    changed = {
        "objects": each(lambda values: values.astype(object), "deterministic_returns"),
        "texts": each(lambda values: values.astype(str), "stochastic_returns"),
        "complex": each(lambda values: values + 1j, "deterministic_returns"),
        "float iterations": each(np.float64, "iteration"),
        "iterations fall": each(lambda values: values[::-1], "iteration"),
        "iterations negative": each(np.negative, "iteration"),
        "flat": each(np.ravel, "deterministic_returns"),
        "scalars": each(lambda values: values.ravel()[0]),
        "none": each(lambda values: values[:0]),
        "other modes": evaluations(
            lambda found: {n.replace("stochastic", "best"): v for n, v in found.items()}
        ),
        "the first mode gone": evaluations(
            lambda found: {n: v for n, v in found.items() if n not in PER_EPISODE[:2]}
        ),
        "no mode": evaluations(
            lambda found: {n: v for n, v in found.items() if n not in PER_EPISODE}
        ),
        "a strange name": evaluations(
            lambda found: found | {"\x1b[2J_returns": found["deterministic_returns"]}
        ),
        "no evaluation": evaluations(lambda found: found | {"wurst": found["iteration"]}),
        "a measure of words": evaluations(
            lambda found: found | {"measure_x": found["iteration"].astype(str)}
        ),
        "no episodes": each(lambda values: values[..., :0], *PER_EPISODE),
        "fewer episodes": each(lambda values: values[..., :2], *PER_EPISODE),
        "a number changed": each(lambda values: one_more(values, 1), "stochastic_returns"),
        "the last changed": each(lambda values: one_more(values, -1), "deterministic_returns"),
        "transitions changed": each(lambda values: values + 1, "transitions"),
        "another type": each(np.float64, "deterministic_returns"),
        "the first missing": each(lambda values: values[1:]),
        "one array short": each(lambda values: values[:-1], "stochastic_lengths"),
        **{f"without {name}": without(name) for name in (*PER_EPISODE, "iteration")},
        "of another run": lambda _: (evaluations_cases.other / "evaluations.npz").read_bytes(),
        "empty archive": evaluations(lambda _: {}),
        **{f"cut at {place}": cut(place) for place in (0.1, 0.9, 0.99)},
    }
    # A kill before an evaluation is written leaves the same; a flipped byte may be one that says
    # nothing.
    open_ = {"the last missing": each(lambda values: values[:-1])}
    open_ |= {f"flipped at {place:.2f}": flip(place) for place in (rng.random() for _ in range(6))}
    return file_cases("evaluations.npz", changed | TORN) + file_cases(
        "evaluations.npz", open_, lost=None
    )


def newest(folder):
    return Checkpoints(folder).newest


def best(folder):
    (path,) = (folder / "checkpoints").glob("best-*")
    return path


def in_manifest(which, path, value, *, consistent):
    """Write into a manifest; `consistent`: with a checksum that fits what it says now."""

    def damage(folder):
        file = which(folder) / "manifest.json"
        manifest, values = read(file.parent)
        put(manifest, path, value)
        if consistent and isinstance(manifest, dict):
            with contextlib.suppress(
                RecursionError, TypeError, ValueError
            ):  # of leaves that are none
                manifest["sha256"] = state_arrays.digest(manifest, values)
        file.write_text(json.dumps(manifest))

    return damage


def in_arrays(which, change):
    def damage(folder):
        files = [file for file in sorted((which(folder) / "arrays").rglob("*")) if file.is_file()]
        change(which(folder) / "arrays", max(files, key=lambda file: file.stat().st_size))

    return damage


ARRAYS = {
    "flipped": lambda _, file: file.write_bytes(flip(0.5)(file.read_bytes())),
    "torn": lambda _, file: file.write_bytes(file.read_bytes()[:-20]),
    "a file missing": lambda _, file: file.unlink(),
    "missing": lambda arrays, _: shutil.rmtree(arrays),
    "a file": lambda arrays, _: (shutil.rmtree(arrays), arrays.write_text("x")),
    "without metadata": lambda arrays, _: (arrays / "_METADATA").unlink(),
}
COMMON = (
    "iteration",
    "metadata",
    "leaves",
    "files",
    "leaves.0",
    "metadata.description",
    "metadata.wurst",
)
OF_STATE = (
    "seconds",
    "iteration",
    "rows",
    "rows_sha256",
    "evaluated",
    "evaluations_sha256",
    "shape",
)


def checkpoint_cases(rng, which=newest, file="checkpoints", fields=OF_STATE):
    cases = []
    paths = [*COMMON, *(f"metadata.{name}" for name in fields)]
    paths += [f"leaves.0.{name}" for name in ("path", "dtype", "shape", "key")]
    for path in paths:
        for kind in rng.sample(sorted(ODD), 1):
            if path == "leaves.0":
                damage = in_manifest(
                    which, "leaves", [ODD[kind] if ODD[kind] is not ... else 1], consistent=True
                )
            else:
                damage = in_manifest(which, path, ODD[kind], consistent=True)
            cases.append(Case(f"{file} {path}: {kind}", damage, file, lost=None))
    for path in rng.sample(paths, 4):
        cases.append(
            Case(
                f"{file} {path}: no checksum", in_manifest(which, path, "x", consistent=False), file
            )
        )
    cases += [
        Case(f"{file} arrays {what}", in_arrays(which, change), file)
        for what, change in ARRAYS.items()
    ]
    for what, change in TORN.items():
        damage = lambda folder, change=change: whole_file("manifest.json", change)(which(folder))  # noqa: E731
        cases.append(Case(f"{file} manifest {what}", damage, file))
    cases.append(Case(f"{file} missing", lambda folder: shutil.rmtree(which(folder)), file))
    return cases


def best_cases(rng):
    cases = checkpoint_cases(rng, best, "best-", ("scores", "iterations"))
    strange = {"scores": [[1.0, 2.0]], "iterations": [[0, 4]]}

    def of_another(folder):
        shutil.rmtree(best(folder))
        source = best(best_cases.other)
        shutil.copytree(source, folder / "checkpoints" / source.name)

    two = Case("best- of two members", in_two(strange), "best-")
    return [*cases, two, Case("best- of another", of_another, "best-")]


def in_two(strange):
    def damage(folder):
        file = best(folder) / "manifest.json"
        manifest, values = read(file.parent)
        manifest["metadata"] |= strange
        manifest["sha256"] = state_arrays.digest(manifest, values)
        file.write_text(json.dumps(manifest))

    return damage


def lost_folder_cases(_):
    def emptied(folder):
        for path in (folder / "checkpoints").iterdir():
            shutil.rmtree(path)

    def only_best(folder):
        for path in (folder / "checkpoints").glob("0*"):
            shutil.rmtree(path)

    return [
        Case(
            "no checkpoints folder",
            lambda folder: shutil.rmtree(folder / "checkpoints"),
            "checkpoints",
        ),
        Case("no checkpoints", emptied, "checkpoints"),
        Case("only the best", only_best, "checkpoints"),
        Case(
            "everything else", lambda f: (emptied(f), (f / "metrics.jsonl").unlink()), "checkpoints"
        ),
    ]


GROUPS = {
    "config.json": config_cases,
    "metrics.jsonl": metrics_cases,
    "evaluations.npz": evaluations_cases,
    "checkpoints": checkpoint_cases,
    "best-": best_cases,
    "lost": lost_folder_cases,
}


def call(words):
    """(exit status, standard error); whatever is raised is status 1."""
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            status = cli.main([str(word) for word in words])
        except Exception:
            traceback.print_exc()
            status = 1
    return status, errors.getvalue()


def contents(folder):
    """The bytes of every file but pictures and the lock."""
    skip = folder / "plots"
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.parent != skip and path.name != ".lock"
    }


def evaluated(folder):
    """Every evaluation that can be read anywhere in a folder,
    as (iteration, bytes of its returns)."""
    found = set()
    for file in folder.glob("*evaluations.npz"):
        with contextlib.suppress(ValueError, OSError):
            arrays = records.read_evaluations(file)
            returns = records.ranking_returns(arrays)
            found |= {
                (int(at), returns[index].tobytes()) for index, at in enumerate(arrays["iteration"])
            }
    return found


def rows(folder):
    """Every row that can be read anywhere in a folder, without the clock."""
    found = set()
    for file in folder.glob("*metrics.jsonl"):
        if file.is_file():
            found |= {
                json.dumps(row | {"seconds": 0}, sort_keys=True)
                for row in records.read_rows(file).rows
            }
    return found


def scores(folder):
    """The scores of the best checkpoint, if it is whole."""
    with contextlib.suppress(TypeError, KeyError, JaxrlError):
        return np.asarray(Checkpoints(folder).best()[0]["scores"])
    return None


def damaged(folder):
    """The manifests, or the names, of checkpoints that cannot be read."""
    found = set()
    for path in (folder / "checkpoints").glob("*0*"):
        file = path / "manifest.json"
        try:
            whole = json.loads(file.read_bytes())["files"] == file_digests(path / "arrays")
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            whole = False
        if not whole:
            found.add(
                file.read_bytes()
                if file.is_file()
                else path.name.removeprefix("damaged-1-").encode()
            )
    return found


def problem(case, operation, folder):
    """What is wrong with how a command served a damaged folder; None if nothing is."""
    before = contents(folder)
    if operation == "resume":  # of the others, none may change anything
        kept, best_before = (evaluated(folder), rows(folder), damaged(folder)), scores(folder)
    first, *options = COMMANDS[operation]
    status, errors = call([first, folder, *options])
    reads = operation in READ_BY[case.file]
    if status not in (0, 2) or "Traceback" in errors or "\x1b" in errors:
        return f"status {status}: {errors[-1500:]}"
    if status and not (str(folder) in errors and case.file in errors and case.field in errors):
        return f"the refusal names not {case.file} and {case.field or 'its folder'}: {errors[:600]}"
    if not status and reads and case.lost and not (case.file in errors and case.field in errors):
        return f"went on without a word of {case.file} {case.field}: {errors[:600]!r}"
    if status or operation != "resume":
        after = contents(folder)
        changed = [
            name for name in before.keys() | after.keys() if before.get(name) != after.get(name)
        ]
        return f"changed {changed}" if changed else None
    lost = [
        len(old - new)
        for old, new in zip(kept, (evaluated(folder), rows(folder), damaged(folder)), strict=True)
    ]
    if any(lost):
        return (
            f"evaluations, rows and damaged checkpoints that are nowhere any more: {lost}; {errors}"
        )
    best_after = scores(folder)
    if best_before is None or best_after is None or best_before.shape != best_after.shape:
        return None
    if np.any(best_after < best_before):
        return f"the best became worse: {best_before} {best_after}"
    return None


def test_no_setting_of_any_algorithm_breaks_the_check_of_it():
    values = [
        None,
        "wurst",
        {"wurst": [1]},
        10**400,
        float("nan"),
        "",
        [10**400],
        [float("nan")],
        [[1]],
        2**63,
        "\ud800",
    ]
    for name in algorithm_names():
        config = load(name).config_class()
        for field in field_names(config):
            for value in values:
                with contextlib.suppress(JaxrlError):
                    check(override(config, {field: value}))


@pytest.mark.parametrize("group", GROUPS)
def test_damage_is_refused_or_spoken_of(group, runs, tmp_path):
    rng = random.Random(f"{SEED} {group}")
    config_cases.folder, evaluations_cases.other, best_cases.other = (
        runs / "begun",
        runs / "sweep",
        runs / "sweep",
    )
    file = "checkpoints" if group == "lost" else group
    failures, count = [], 0
    for number, case in enumerate(GROUPS[group](rng)):
        source = rng.choice(["begun", "begun", "whole"])
        folder = shutil.copytree(runs / source, tmp_path / f"{number}" / "run")
        case.damage(folder)
        reading = READ_BY[file]
        operation = reading[number % len(reading)]
        found = problem(case, operation, folder)
        count += 1
        if found:
            failures.append(f"[{source} {operation}] {case.name}: {found}")
        shutil.rmtree(folder)
    print(f"{group}: {count} cases")
    print(f"{group}: {count} cases")
    assert not failures, f"{len(failures)} of {count}:\n" + "\n".join(failures)
