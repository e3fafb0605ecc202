"""Runs compared bit for bit: one bit is found, wherever it is; names may change,
numbers may not."""

import contextlib
import shutil
import subprocess
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks import same_bits
from benchmarks.bits import Leaf, compare_runs, pair, read_leaves
from benchmarks.revisions import WORKING_TREE, Revision, copies, hash_of
from benchmarks.same_bits import CASES, DIFFERENT, EQUAL, check_cases, is_wrong, text, verdict
from jaxrl.errors import JaxrlError
from jaxrl.train.files import state_arrays
from jaxrl.train.files.checkpoint import Checkpoints
from jaxrl.train.files.logs import append_metrics, save_evaluations

PARTS = ("state", "policy", "metrics", "evaluations")


def state(name="weights"):
    return {
        name: np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4),
        "count": np.array(7, np.int32),
        "key": jax.random.key(3),
        "nothing": np.zeros((0, 2), np.float32),
    }


POLICY = {"weights": np.ones(5, np.float32)}
ROWS = [{"iteration": row, "loss": 0.1 * row, "kl": None} for row in range(1, 4)]
EVALUATIONS = {"iteration": np.arange(2), "deterministic_returns": np.full((2, 1, 1, 8), 9.5)}


def save_rows(folder, rows, seconds):
    (folder / "metrics.jsonl").unlink(missing_ok=True)
    for row in rows:
        append_metrics(folder, row | {"seconds": seconds * row["iteration"]})


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """The run folder of the old revision."""
    folder = tmp_path_factory.mktemp("old")
    Checkpoints(folder).save(10, {"early": np.zeros(3)}, {})
    Checkpoints(folder).save(20, state(), {})
    Checkpoints(folder).save_best(10, state_arrays.host_leaves(POLICY), {})
    save_rows(folder, ROWS, 1.0)
    save_evaluations(folder, EVALUATIONS)
    return folder


@pytest.fixture
def new(old, tmp_path):
    """That of the new one, which took twice as long."""
    folder = Path(shutil.copytree(old, tmp_path / "new"))
    save_rows(folder, ROWS, 2.0)
    return folder


def alter(folder, part):
    """One bit of one number."""
    if part == "state":
        Checkpoints(folder).save(20, state() | {"weights": one_bit(state()["weights"])}, {})
    elif part == "policy":
        Checkpoints(folder).save_best(
            10, state_arrays.host_leaves({"weights": one_bit(POLICY["weights"])}), {}
        )
    elif part == "metrics":
        save_rows(folder, [ROWS[0], ROWS[1] | {"loss": float(np.nextafter(0.2, 1))}, ROWS[2]], 1.0)
    else:
        returns = one_bit(EVALUATIONS["deterministic_returns"])
        save_evaluations(folder, EVALUATIONS | {"deterministic_returns": returns})


def one_bit(array):
    """The last number with its least bit flipped."""
    changed = np.array(array)
    changed.reshape(-1).view(f"u{array.dtype.itemsize}")[-1] ^= 1
    return changed


def test_what_is_the_same_is_equal_whatever_the_clock_says(old, new):
    parts = compare_runs(old, new)
    assert [parts[part].compared for part in PARTS] == [4, 1, 3, 2]
    assert verdict(parts, 0.0) == EQUAL


@pytest.mark.parametrize("part", PARTS)
def test_one_bit_is_found(old, new, part):
    alter(new, part)
    parts = compare_runs(old, new)
    assert {name: len(found.different) for name, found in parts.items()} == dict.fromkeys(
        PARTS, 0
    ) | {part: 1}
    assert 0 < parts[part].largest < 1e-6
    assert verdict(parts, 0.0) == DIFFERENT
    assert verdict(compare_runs(old, new, 1e-5), 1e-5) == "within 1e-05"


def test_a_whole_number_has_no_tolerance(old, new):
    Checkpoints(new).save(20, state() | {"count": np.array(8, np.int32)}, {})
    parts = compare_runs(old, new, 10.0)
    assert parts["state"].outside == ["count"] and verdict(parts, 10.0) == DIFFERENT


def test_names_may_change_and_that_is_said(old, new):
    Checkpoints(new).save(20, {"policy": state("kernel"), "extra": np.zeros(9, np.float32)}, {})
    parts = compare_runs(old, new)
    assert verdict(parts, 0.0) == EQUAL
    assert parts["state"].renamed["weights"] == "policy.kernel" and len(parts["state"].renamed) == 4
    assert parts["state"].added == ["extra"] and "new: extra" in parts["state"].notes()


def test_another_shape_under_the_same_name_is_a_difference(old, new):
    Checkpoints(new).save(20, state() | {"weights": np.zeros((4, 4), np.float32)}, {})
    assert verdict(compare_runs(old, new), 0.0) == DIFFERENT


def test_a_column_that_is_no_longer_there_is_a_difference(old, new):
    save_evaluations(
        new, {"iteration": np.arange(2), "returns": EVALUATIONS["deterministic_returns"]}
    )
    assert verdict(compare_runs(old, new), 0.0) == DIFFERENT


def test_fewer_rows_are_a_difference(old, new):
    save_rows(new, ROWS[:-1], 1.0)
    found = compare_runs(old, new)["metrics"]
    assert found.compared == 3 and len(found.different) == 1


def test_keys_are_read_as_their_data(old):
    found = {leaf.path: leaf for leaf in read_leaves(old / "checkpoints" / "000000020")}
    np.testing.assert_array_equal(found["key"].value, jax.random.key_data(jax.random.key(3)))
    assert found["nothing"].value.shape == (0, 2)


def test_a_moved_leaf_is_known_by_the_end_of_its_path_not_by_its_numbers():
    bias, kernel = np.zeros(4, np.float32), np.ones(4, np.float32)
    old = [Leaf("actor.bias", "float32", bias), Leaf("actor.scale", "float32", kernel)]
    new = [Leaf("policy.scale", "float32", bias), Leaf("policy.bias", "float32", kernel)]
    assert pair(old, new).renamed == {"actor.bias": "policy.bias", "actor.scale": "policy.scale"}


def test_the_table_tells_what_did_not_run():
    revision = {"label": "1a2b"}
    record = {
        "revisions": {"old": revision, "new": revision},
        "iterations": 20,
        "versions": {"jax": "1", "device": "cpu"},
        "cases": {
            "StepMix": {
                "error": "1a2b: error: no such option",
                "verdict": same_bits.FAILED,
                "notes": [],
            }
        },
    }
    assert "| StepMix | DID NOT RUN |" in text(record) and "- 1a2b: error: no such option" in text(
        record
    )
    assert is_wrong(record["cases"]["StepMix"])


def test_cases_that_cannot_run_are_refused_before_anything_starts():
    check_cases(tuple(CASES))
    with pytest.raises(JaxrlError, match="StepMiks"):
        check_cases(("StepMiks",))
    with pytest.raises(JaxrlError, match="needs 'baseline' before it"):
        check_cases(("deep StepMix", "baseline"))


def test_copies_hold_a_commit_and_what_is_not_committed(tmp_path, monkeypatch):
    def git(*words):
        own = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", *own, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    (tmp_path / ".gitignore").write_text("ignored\n")
    (tmp_path / "code.py").write_text("old")
    git("add", ".")
    git("commit", "-m", "first")
    monkeypatch.setattr("benchmarks.revisions.ROOT", tmp_path)
    with copies("HEAD", WORKING_TREE) as (old, new):
        assert new.tree == old.tree and new.label == old.commit[:10]
    (tmp_path / "code.py").write_text("new")
    (tmp_path / "more.py").write_text("more")
    (tmp_path / "ignored").write_text("no")
    with copies("HEAD", WORKING_TREE) as (old, new):
        assert (old.path / "code.py").read_text() == "old" and (
            new.path / "code.py"
        ).read_text() == "new"
        assert sorted(path.name for path in new.path.iterdir()) == [
            ".gitignore",
            "code.py",
            "more.py",
        ]
        assert (
            new.label == f"{old.commit[:10]} with changes"
            and new.described()["commit"] == old.commit
        )
    assert not old.path.exists()
    with pytest.raises(JaxrlError, match="'nowhere' is no revision"):
        hash_of("nowhere")


@pytest.mark.parametrize(
    ("found", "status"), [(EQUAL, 0), ("within 1e-05", 0), (DIFFERENT, 1), (same_bits.FAILED, 1)]
)
def test_the_exit_status_says_whether_all_is_as_it_must_be(monkeypatch, tmp_path, found, status):
    case = {"error": "none", "verdict": found, "notes": []}
    revision = Revision("HEAD", "c", "t", tmp_path / "0")
    monkeypatch.setattr(
        same_bits, "copies", lambda *names: contextlib.nullcontext((revision, revision))
    )
    monkeypatch.setattr(
        same_bits, "compare_all", lambda bench, names, begin: dict.fromkeys(names, case)
    )
    assert same_bits.main(same_bits.Arguments("HEAD", cases=("StepMix",))) == status
