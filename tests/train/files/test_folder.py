import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.errors import JaxrlError
from jaxrl.train.files import folder as run_folder
from jaxrl.train.files import logs
from jaxrl.train.files.checkpoint import Checkpoints
from jaxrl.train.files.state_arrays import host_leaves


def test_a_new_run_has_its_description(tmp_path):
    description = {
        "algorithm": "ppo",
        "config": {
            "rate": jnp.float32(2.5e-4),
            "sizes": (64, 64),
            "count": np.int64(3),
            "limit": np.inf,
        },
        "path": Path("data"),
        "flag": np.bool_(True),
        "sweep": {"rate": np.array([0.1, 0.2], np.float32)},
        "nothing": None,
    }
    folder = run_folder.create(tmp_path / "a" / "b", description)
    assert run_folder.read_description(folder) == {
        "algorithm": "ppo",
        "config": {"rate": 2.5e-4, "sizes": [64, 64], "count": 3, "limit": np.inf},
        "path": "data",
        "flag": True,
        "sweep": {"rate": [0.1, 0.2]},
        "nothing": None,
    }
    assert (folder / "checkpoints").is_dir() and (folder / "plots").is_dir()
    assert stat.S_IMODE((folder / "config.json").stat().st_mode) == 0o644
    assert logs.load_evaluations(folder) == {} and logs.read_metrics(folder) == []


def test_float32_is_written_short_and_read_back_to_the_same_bits():
    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32) * np.float32(
        10
    ) ** np.arange(-20, 20).repeat(25)
    values = values.astype(np.float32)
    again = np.array(json.loads(json.dumps(run_folder.plain(values))), np.float32)
    assert np.array_equal(values, again)
    assert run_folder.plain(jnp.bfloat16(0.1)) == pytest.approx(0.1, abs=1e-3)


def test_what_json_cannot_hold_is_refused_by_name_before_anything_is_touched(tmp_path):
    folder = run_folder.create(tmp_path, {"x": 1})
    with pytest.raises(JaxrlError, match=r"description\.config\.layers\[1\] is <built-in function"):
        run_folder.create(folder, {"config": {"layers": [1, len]}}, overwrite=True)
    assert run_folder.read_description(folder) == {"x": 1}


def fill(folder):
    logs.append_metrics(folder, {"iteration": 1, "transitions": 10, "loss": 0.5})
    logs.save_evaluations(folder, {"iteration": [1], "transitions": np.array([10], np.int64)})
    Checkpoints(folder).save(1, {"x": jnp.zeros(2)}, {})
    Checkpoints(folder).save(1, {"x": jnp.zeros(2)}, {})
    Checkpoints(folder).save_best(1, host_leaves({"x": jnp.zeros(2)}), {})
    (folder / "checkpoints" / ".tmp-000000002").mkdir()
    (folder / "plots" / "learning_curve.png").write_text("png")
    (folder / ".config.json.x.tmp").write_text("torn")


def test_an_existing_run_is_refused_unless_overwritten(tmp_path):
    folder = run_folder.create(tmp_path / "run", {"seed": 1})
    fill(folder)
    for path in (
        "notes.txt",
        "checkpoints/mine",
        "checkpoints/notes/a",
        "plots/curve.tex",
        "plots/my.png",
        "data.npz",
    ):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text("mine")
    with pytest.raises(
        JaxrlError, match=r"already holds a run .*`--overwrite` .*`jaxrl resume .*run`"
    ):
        run_folder.create(folder, {"seed": 2})
    assert run_folder.read_description(folder) == {"seed": 1}
    run_folder.create(folder, {"seed": 2}, overwrite=True)
    assert run_folder.read_description(folder) == {"seed": 2}
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert files == [
        "checkpoints/mine",
        "checkpoints/notes/a",
        "config.json",
        "data.npz",
        "notes.txt",
        "plots/curve.tex",
        "plots/my.png",
    ]


def test_a_folder_with_other_files_is_used_as_it_is(tmp_path):
    for path in ("train.py", "plots/mine.png", "checkpoints/mine/weights"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("mine")
    for overwrite in (False, True):
        run_folder.create(tmp_path, {"x": 1}, overwrite)
        (tmp_path / "config.json").unlink()
    assert (tmp_path / "plots/mine.png").exists() and (
        tmp_path / "checkpoints/mine/weights"
    ).exists()


def test_checkpoints_without_a_config_are_a_run_too(tmp_path):
    Checkpoints(tmp_path).save(1, {"x": jnp.zeros(2)}, {})
    with pytest.raises(JaxrlError, match="already holds a run .checkpoints/000000001"):
        run_folder.create(tmp_path, {})


def test_paths_that_cannot_be_used_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(
            JaxrlError, match="cannot use the run folder .*file.*: .* not a folder: choose another"
        ):
            run_folder.create(path, {})
    with pytest.raises(JaxrlError, match="cannot write .*absent/config.json: No such file"):
        run_folder.write_atomically(tmp_path / "absent" / "config.json", b"")


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_a_folder_without_permission_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(JaxrlError, match="Permission denied. You may not write there"):
        run_folder.create(tmp_path / "run", {})


def test_a_failed_write_leaves_the_old_file_alone(tmp_path, monkeypatch):
    path = tmp_path / "file"
    run_folder.write_atomically(path, b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        JaxrlError, match="cannot write .*file: No space left on device. The disk is full"
    ):
        run_folder.write_atomically(path, b"new")
    assert [file.name for file in tmp_path.iterdir()] == ["file"] and path.read_bytes() == b"old"


def test_a_missing_run_folder_names_the_nearest(tmp_path):
    for name in ("cartpole-ppo", "cartpole-dqn", "hopper"):
        run_folder.create(tmp_path / name, {})
    with pytest.raises(
        JaxrlError, match="cartpole-pp is not a run folder.* Did you mean .*/cartpole-ppo or"
    ):
        run_folder.read_description(tmp_path / "cartpole-pp")
    with pytest.raises(JaxrlError, match="Runs in .*: cartpole-dqn, cartpole-ppo, hopper."):
        run_folder.read_description(tmp_path / "xyz")
    with pytest.raises(JaxrlError, match="Runs in .*: cartpole-dqn, cartpole-ppo, hopper."):
        run_folder.read_description(tmp_path)
    with pytest.raises(JaxrlError, match="There is no run in .*nowhere either"):
        run_folder.read_description(tmp_path / "nowhere" / "run")


@pytest.mark.parametrize("data", [b'{"a": ', b"", b"\xff\xfe", b"[1]"])
def test_a_damaged_description_is_named(tmp_path, data):
    run_folder.create(tmp_path, {})
    (tmp_path / "config.json").write_bytes(data)
    with pytest.raises(JaxrlError, match="config.json is damaged"):
        run_folder.read_description(tmp_path)


def test_differences_are_readable():
    old = {"config": {"rate": 0.00025, "sizes": [64, 64], "same": np.nan, "gone": 1}, "env": "a"}
    new = {"config": {"rate": 0.001, "sizes": (64, 32), "same": np.nan, "added": None}, "env": "b"}
    assert run_folder.differences(old, new) == [
        "config.rate: 0.00025 -> 0.001",
        "config.sizes: [64, 64] -> [64, 32]",
        "config.gone: 1 -> (absent)",
        "config.added: (absent) -> null",
        'env: "a" -> "b"',
    ]
    assert run_folder.differences(old, old) == []
    assert run_folder.differences({"x": (1, 2)}, {"x": [1, 2]}) == []


def test_metrics_are_strict_json(tmp_path):
    row = {
        "iteration": np.int32(3),
        "transitions": 2**40,
        "loss": jnp.float32(jnp.nan),
        "table": jnp.array([[0.1, jnp.inf], [2, 3]]),
        "plain": [float("nan"), 1.0],
    }
    logs.append_metrics(tmp_path, row)
    text = (tmp_path / "metrics.jsonl").read_text()
    expected = {
        "iteration": 3,
        "transitions": 2**40,
        "loss": None,
        "table": [[0.1, None], [2, 3]],
        "plain": [None, 1],
    }
    assert text.endswith("}\n") and json.loads(text, parse_constant=pytest.fail) == expected
    assert logs.read_metrics(tmp_path) == [expected]


def test_resuming_drops_later_rows_and_a_torn_line(tmp_path):
    logs.truncate_metrics(tmp_path, 3)  # no file yet
    for iteration in range(1, 6):
        logs.append_metrics(tmp_path, {"iteration": iteration, "loss": 0.1})
    path = tmp_path / "metrics.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"iteration": 6, "lo')
    assert [row["iteration"] for row in logs.read_metrics(tmp_path)] == [1, 2, 3, 4, 5]
    logs.truncate_metrics(tmp_path, 5)
    assert path.read_bytes() == whole
    logs.truncate_metrics(tmp_path, 3)
    assert path.read_bytes() == b"".join(whole.splitlines(keepends=True)[:3])
    path.write_bytes(
        whole + b'{"iteration": 1, "loss": 0.1}'
    )  # whole but for its end of line: still torn
    logs.truncate_metrics(tmp_path, 5)
    assert path.read_bytes() == whole


def test_a_row_that_does_not_fit_is_taken_back(tmp_path, monkeypatch):
    logs.append_metrics(tmp_path, {"iteration": 1})
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:5]))
    with pytest.raises(
        JaxrlError, match="cannot write .*metrics.jsonl: No space left on device. The disk is full"
    ):
        logs.append_metrics(tmp_path, {"iteration": 2})
    assert (tmp_path / "metrics.jsonl").read_text() == '{"iteration": 1}\n'


APPENDING = """
import sys
from jaxrl.train.files.logs import append_metrics
for i in range(10**9):
    append_metrics(sys.argv[1], {"iteration": i, "x": [0.5] * (i % 200)})
    if i == 50:
        print(flush=True)
"""


def test_a_kill_while_appending_tears_at_most_the_last_line(tmp_path):
    command = [sys.executable, "-c", APPENDING, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        child.send_signal(signal.SIGKILL)
    rows = logs.read_metrics(tmp_path)
    assert [row["iteration"] for row in rows] == list(range(len(rows))) and len(rows) > 50
    lines = (tmp_path / "metrics.jsonl").read_bytes().split(b"\n")
    assert len(lines) == len(rows) + 1


def test_evaluations_are_saved_whole_and_cut(tmp_path):
    assert logs.truncate_evaluations(tmp_path, 3) is None and logs.load_evaluations(tmp_path) == {}
    arrays = {
        "iteration": np.array([0, 5, 10], np.int32),
        "transitions": np.array([0, 2**40, 2**41], np.int64),
    }
    for name in ("target=3600_returns", "target=3600_lengths", "a_returns", "a_lengths"):
        arrays[name] = np.random.default_rng(0).standard_normal((3, 1, 2, 4)).astype(np.float32)
    logs.save_evaluations(tmp_path, arrays)
    loaded = logs.load_evaluations(tmp_path)
    assert all(np.array_equal(loaded[name], arrays[name]) for name in arrays)
    assert all(loaded[name].dtype == arrays[name].dtype for name in arrays)
    assert logs.truncate_evaluations(tmp_path, 7) is None
    cut = logs.load_evaluations(tmp_path)
    assert cut["iteration"].tolist() == [0, 5] and cut["target=3600_returns"].shape == (2, 1, 2, 4)
    assert logs.load_evaluations(tmp_path)["transitions"].tolist() == [0, 2**40]
    path = tmp_path / "evaluations.npz"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(JaxrlError, match="evaluations.npz is damaged: it cannot be read"):
        logs.load_evaluations(tmp_path)
    data = path.read_bytes()
    aside = logs.truncate_evaluations(tmp_path, 7)
    assert aside.read_bytes() == data and not path.exists()  # nothing is thrown away
