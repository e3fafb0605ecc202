"""Every format there and back, files made by the formats' own libraries and by hand, bad files."""

import gc
import json
import pickle

import jax
import numpy as np
import pytest

from jaxrl.data import files, formats
from jaxrl.data.formats import d4rl, minari, own
from jaxrl.data.recorded import broken_off
from jaxrl.data.recording import Recording, header
from jaxrl.envs import registry
from jaxrl.errors import JaxrlError
from tests.data.toys import assert_same, discrete, maze, toy
from tests.train.tiny import PROBE

PLACES = {"own": "toy.npz", "d4rl": "toy.hdf5", "ogbench": "toy-v0.npz", "minari": "toy-v0"}
NEEDS_H5PY = ("d4rl", "minari")


def written(folder, name, recorded):
    if name in NEEDS_H5PY:
        pytest.importorskip("h5py")
    path = folder / PLACES[name]
    formats.write_as(name, path, recorded)
    return path


def refused(path, words):
    with pytest.raises(JaxrlError, match=words):
        formats.read_any(path)


@pytest.fixture
def h5py():
    return pytest.importorskip("h5py")


def test_every_module_is_a_format():
    assert list(formats.formats()) == ["d4rl", "minari", "ogbench", "own", "recording"]


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("make", [toy, maze, discrete])
def test_there_and_back_to_the_last_bit(name, make, tmp_path):
    path = written(tmp_path, name, make())
    assert name == formats.format_of(path).NAME
    assert_same(formats.read_any(path), make())


@pytest.mark.parametrize("first", PLACES)
@pytest.mark.parametrize("second", PLACES)
def test_from_each_format_to_each_other(first, second, tmp_path):
    between = formats.read_any(written(tmp_path, first, maze()))
    (tmp_path / "further").mkdir()
    assert_same(formats.read_any(written(tmp_path / "further", second, between)), maze())


@pytest.mark.parametrize("name", PLACES)
def test_a_format_is_told_by_what_is_in_a_file(name, tmp_path):
    path = written(tmp_path, name, toy())
    other = tmp_path / "nothing.txt"
    path.rename(other)
    assert name == formats.format_of(other).NAME


@pytest.mark.parametrize("error", [OSError(28, "full"), KeyboardInterrupt("full")])
@pytest.mark.parametrize("name", PLACES)
def test_what_is_there_is_replaced_whole_or_not_at_all(name, error, tmp_path, monkeypatch):
    path = written(tmp_path, name, toy())
    written(tmp_path, name, maze())
    assert_same(formats.read_any(path), maze())
    monkeypatch.setattr(files.os, "replace", lambda *_: (_ for _ in ()).throw(error))
    with pytest.raises(type(error), match="full"):
        written(tmp_path, name, toy())
    assert_same(formats.read_any(path), maze())
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    if path.is_dir():
        assert [each.name for each in path.iterdir()] == ["data"]


def test_nothing_else_than_a_dataset_is_replaced(tmp_path):
    folder = tmp_path / "toy-v0"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "thesis.txt").write_text("mine")
    with pytest.raises(JaxrlError, match="is a folder, which no file may take the place of"):
        formats.write_as("own", folder, toy())
    with pytest.raises(JaxrlError, match="`data` of something else than a Minari dataset"):
        formats.write_as("minari", folder, toy())
    assert (folder / "data" / "thesis.txt").read_text() == "mine"


def test_what_stands_beside_minaris_data_stays(tmp_path):
    folder = written(tmp_path, "minari", toy())
    (folder / "notes.txt").write_text("mine")
    written(tmp_path, "minari", maze())
    assert_same(formats.read_any(folder), maze())
    assert sorted(each.name for each in folder.iterdir()) == ["data", "notes.txt"]


@pytest.mark.parametrize("name", ["own", "ogbench", "d4rl"])
def test_flipped_bits_are_refused_or_harmless(name, tmp_path):
    """Nothing but an error in words: where no checksum notices, the numbers are checked ones."""
    path = written(tmp_path, name, toy())
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(100):
        flipped = bytearray(content)
        for place in rng.integers(0, len(content), 3):
            flipped[place] ^= 1 << rng.integers(8)
        path.write_bytes(flipped)
        try:
            formats.read_any(path).check()
        except JaxrlError as error:
            assert str(error)


def test_what_is_no_dataset(tmp_path):
    with pytest.raises(FileNotFoundError):
        formats.read_any(tmp_path / "nowhere")
    text = tmp_path / "text.npz"
    text.write_text("hello")
    refused(text, "no dataset: it is neither .npz, HDF5 nor a Minari folder")
    refused(tmp_path, "no dataset")
    np.savez(tmp_path / "arrays.npz", something=np.zeros(3))
    refused(tmp_path / "arrays.npz", "no dataset of a known format")
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps({"observation": 1}))
    refused(tmp_path / "pickle.npz", "no dataset")
    with pytest.raises(JaxrlError, match="unknown format to write 'owm'. Did you mean own"):
        formats.write_as("owm", tmp_path / "x", toy())
    with pytest.raises(JaxrlError, match="unknown format to write 'recording'"):
        formats.write_as("recording", tmp_path / "x", toy())


@pytest.mark.parametrize("name", ["own", "ogbench", "d4rl"])
def test_a_file_that_is_cut_off(name, tmp_path):
    path = written(tmp_path, name, toy())
    content = path.read_bytes()
    for size in (len(content) // 2, len(content) - 30, 9):
        path.write_bytes(content[:size])
        refused(path, "missing|cannot be read|no dataset")


def with_arrays(path, drop=(), **arrays):
    """An .npz file with some arrays exchanged."""
    with np.load(path) as file:
        kept = {name: file[name] for name in file.files if name not in drop}
    np.savez(path, **(kept | arrays))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"drop": ("reward",)}, "it has no reward"),
        ({"drop": ("observation",)}, "it has no observation"),
        ({"rewards": np.zeros(8)}, "unknown array in the dataset 'rewards'. Did you mean reward"),
        ({"header": np.zeros(3, np.uint8)}, "its header is no JSON"),
        ({"header": own.as_header([1])}, "no JSON object"),
        ({"header": own.as_header({"format": 7})}, "its format is 7, not 1"),
        ({"header": np.asarray([{}], object)}, "Object arrays cannot be loaded"),
        ({"observation": np.asarray([{}] * 8, object)}, "Object arrays cannot be loaded"),
        ({"reward": np.full(8, np.nan, np.float32)}, "reward is nan"),
    ],
)
def test_damaged_files_of_our_own(change, words, tmp_path):
    path = written(tmp_path, "own", toy())
    with_arrays(path, **change)
    refused(path, words)


def test_an_outline_says_how_long_episodes_are_or_is_refused(tmp_path):
    path = written(tmp_path, "own", toy())
    with_arrays(path, length=np.asarray(8))
    with pytest.raises(JaxrlError, match="does not say how long its episodes are"):
        own.outline(path)


def test_an_outline_reads_no_steps(tmp_path):
    path = written(tmp_path, "own", toy())
    with_arrays(path, drop=("observation",), reward=np.asarray([{}], object))
    about, length = own.outline(path)
    assert (about["name"], length.tolist()) == ("toy", [3, 1, 4])


# D4RL: rows 0-2 end in a terminal, 3-5 in a timeout, 6-7 in both at once, 8-9 are unfinished.
ROWS = 10
TERMINALS, TIMEOUTS = [2, 7], [5, 7]


def flat(h5py, path, **arrays):
    """A D4RL file of 10 rows; an array that is given as None is left out."""
    flags = {name: np.zeros(ROWS, np.bool_) for name in ("terminals", "timeouts")}
    flags["terminals"][TERMINALS] = True
    flags["timeouts"][TIMEOUTS] = True
    usual = {
        "observations": np.arange(2.0 * ROWS).reshape(ROWS, 2),
        "actions": np.arange(ROWS, dtype=np.float32).reshape(ROWS, 1),
        "rewards": np.arange(ROWS, dtype=np.float32),
        **flags,
    }
    with h5py.File(path, "w") as file:
        for name, array in (usual | arrays).items():
            if array is not None:
                file[name] = array
    return path


def test_d4rl_with_timeouts(h5py, tmp_path):
    """Rows without a successor go: that of a timeout, and the last one of the file."""
    found = formats.read_any(flat(h5py, tmp_path / "hopper-medium-v2.hdf5"))
    assert found.length.tolist() == [3, 2, 2, 1]
    assert found.reward.tolist() == [0, 1, 2, 3, 4, 6, 7, 8]
    assert np.flatnonzero(found.terminated).tolist() == [2, 6]
    assert np.flatnonzero(found.truncated).tolist() == [4, 6, 7]
    # Of terminals their own observation, of what was cut the observation that was dropped.
    assert found.final_observation[:, 0].tolist() == [4, 10, 14, 18]
    assert found.observation.dtype == np.float32
    assert found.about["reference_scores"] == [-20.272305, 3234.3]
    assert found.about["rows_without_successor"] == 2


def following(**others):
    """The next rows' observations of `flat`; of the rows `rI` others."""
    successors = 2.0 + np.arange(2.0 * ROWS).reshape(ROWS, 2)
    for row, value in others.items():
        successors[int(row[1:])] = value
    return successors


def test_d4rl_with_successors_keeps_every_row(h5py, tmp_path):
    successors = following(r2=104, r5=110, r7=114, r9=118)
    path = flat(h5py, tmp_path / "mine.hdf5", next_observations=successors)
    found = formats.read_any(path)
    assert found.length.tolist() == [3, 3, 2, 2]
    assert np.flatnonzero(found.terminated).tolist() == [2, 7]
    assert np.flatnonzero(found.truncated).tolist() == [5, 7, 9]
    assert found.final_observation[:, 0].tolist() == [104, 110, 114, 118]
    assert found.about["reference_scores"] is None
    assert "rows_without_successor" not in found.about


@pytest.mark.parametrize("how", ["link", "external", "virtual"])
def test_a_stranger_s_file_shows_no_other_file(how, h5py, tmp_path):
    """HDF5 lets a file name others, whatever they are, as where its numbers lie."""
    secret = flat(h5py, tmp_path / "secret.hdf5")
    path = flat(h5py, tmp_path / "x.hdf5", observations=None)
    with h5py.File(path, "a") as file:
        if how == "link":
            file["observations"] = h5py.ExternalLink(str(secret), "/observations")
        elif how == "external":
            where = [(str(secret), 0, 2 * ROWS)]
            file.create_dataset("observations", (ROWS, 2), "uint8", external=where)
        else:
            layout = h5py.VirtualLayout((ROWS, 2), "float64")
            layout[:] = h5py.VirtualSource(str(secret), "observations", (ROWS, 2))
            file.create_virtual_dataset("observations", layout)
    refused(path, "observations lies in another file")
    folder = minari_folder(h5py, tmp_path / "toy-v0", [episode(0)])
    with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
        file["episode_1"] = h5py.ExternalLink(str(secret), "/")
    refused(folder, "episode_1 lies in another file")


def test_d4rl_takes_columns_as_well(h5py, tmp_path):
    column = np.arange(ROWS, dtype=np.float64)[:, None]
    terminals = np.zeros((ROWS, 1))
    terminals[TERMINALS] = 1
    found = formats.read_any(flat(h5py, tmp_path / "x", rewards=column, terminals=terminals))
    assert found.reward.tolist() == [0, 1, 2, 3, 4, 6, 7, 8]
    assert found.reward.dtype == np.float32
    path = flat(h5py, tmp_path / "x", rewards=np.zeros((ROWS, 2)))
    refused(path, r"rewards is \[10, 2\], but must be a number per row")


def test_d4rl_without_timeouts_has_the_time_limit_of_its_name(h5py, tmp_path, monkeypatch):
    task = d4rl.reference_scores.D4RL["kitchen"]._replace(steps=4)
    monkeypatch.setitem(d4rl.reference_scores.D4RL, "kitchen", task)
    path = flat(h5py, tmp_path / "kitchen_microwave-v0.hdf5", timeouts=None)
    found = formats.read_any(path)
    # The terminal of row 2 ends an episode; from row 3 on the fourth step is row 6; then row 7.
    assert found.length.tolist() == [3, 3, 1, 1]
    assert np.flatnonzero(found.truncated).tolist() == [5, 7]
    assert np.flatnonzero(found.terminated).tolist() == [2, 6]


def test_d4rl_without_timeouts_is_cut_where_successors_do_not_fit(h5py, tmp_path):
    observations = np.arange(2.0 * ROWS).reshape(ROWS, 2)
    successors = np.concatenate([observations[1:], [[50, 51]]])
    successors[4] = [70, 71]
    path = flat(h5py, tmp_path / "mine", timeouts=None, next_observations=successors)
    found = formats.read_any(path)
    assert found.length.tolist() == [3, 2, 3, 2]
    assert np.flatnonzero(found.truncated).tolist() == [4, 9]
    assert np.flatnonzero(found.terminated).tolist() == [2, 7]  # as a timeout they would bootstrap
    assert found.final_observation[:, 0].tolist() == [6, 70, 16, 50]
    refused(flat(h5py, tmp_path / "mine", timeouts=None), "nothing in it says where episodes")


def test_d4rls_successors_count_whatever_else_says_where_episodes_end(h5py, tmp_path):
    """Two environments wrote by turns: no row leads to the next one's observation."""
    rows = np.asarray([[0], [10], [1], [11], [2], [12]], np.float32)
    flags = {"terminals": np.asarray([0] * 6), "timeouts": np.asarray([0, 0, 0, 0, 1, 1])}
    usual = {"observations": rows, "actions": rows, "rewards": rows[:, 0]}
    for name, limited in (("x", flags), ("hopper_mine.hdf5", flags | {"timeouts": None})):
        path = flat(h5py, tmp_path / name, next_observations=rows + 1, **usual, **limited)
        found = formats.read_any(path)
        assert found.length.tolist() == [1] * 6
        assert found.final_observation[:, 0].tolist() == [1, 11, 2, 12, 3, 13]
        assert found.truncated.all() and not found.terminated.any()


def test_a_time_limit_is_counted_from_where_successors_cut(h5py, tmp_path, monkeypatch):
    task = d4rl.reference_scores.D4RL["hopper"]._replace(steps=3)
    monkeypatch.setitem(d4rl.reference_scores.D4RL, "hopper", task)
    path = tmp_path / "hopper.hdf5"
    flat(h5py, path, timeouts=None, next_observations=following(r2=104, r3=70, r7=114))
    found = formats.read_any(path)
    # Row 3 is cut, and from row 4 on the third step is row 6.
    assert found.length.tolist() == [3, 1, 3, 1, 2]
    assert np.flatnonzero(found.terminated).tolist() == [2, 7]
    assert found.final_observation[:, 0].tolist() == [104, 70, 14, 114, 20]


@pytest.mark.parametrize(
    ("successor", "broken"),
    [
        (1.0, False),
        (1.0 + 5e-7, False),  # rounding
        (1.0 + 5e-6, True),
        (np.nan, True),
    ],
)
def test_which_successors_are_no_next_observations(successor, broken):
    observation = np.asarray([[[0.0, 3e8]], [[1.0, 3e8]]], np.float32)
    said = np.asarray([[[successor, 3e8 + 32]], [[7.0, 7.0]]], np.float32)
    assert broken_off(observation, said).tolist() == [broken, False]
    assert broken_off(observation[:1], said[:1]).tolist() == [False]


def test_whole_numbers_are_no_next_observations_unless_equal():
    observation = np.asarray([[0], [2**30], [2**30 + 1]], np.int32)
    assert broken_off(observation, np.roll(observation, -1, 0)).tolist() == [False] * 3
    assert broken_off(observation, observation).tolist() == [True, True, False]
    with pytest.raises(JaxrlError, match=r"next_observations are \[3, 2\], but observations are"):
        broken_off(observation, np.zeros((3, 2)))


def test_d4rls_antmazes_go_on_after_the_goal(h5py, tmp_path):
    for name in ("antmaze-large-play-v2", "Ant_maze_hardest-maze_noisy_sparse_fixed"):
        found = formats.read_any(flat(h5py, tmp_path / name))
        assert found.length.tolist() == [5, 2, 1]
        assert np.flatnonzero(found.terminated).tolist() == [2, 6]
        assert np.flatnonzero(found.truncated).tolist() == [4, 6, 7]
        assert found.reward.tolist() == [0, 1, 2, 3, 4, 6, 7, 8]
    for name in ("giant-maze.hdf5", "my-antmaze.hdf5", "antmazes.hdf5"):  # none of D4RL's
        assert formats.read_any(flat(h5py, tmp_path / name)).length.tolist() == [3, 2, 2, 1]


def test_an_episode_of_which_nothing_is_known(h5py, tmp_path):
    """An episode of one row, whose successor is no row's, vanishes."""
    timeouts = np.zeros(ROWS, np.bool_)
    timeouts[[3, 5]] = True
    found = formats.read_any(flat(h5py, tmp_path / "x", timeouts=timeouts))
    assert found.length.tolist() == [3, 1, 2, 1]
    assert found.reward.tolist() == [0, 1, 2, 4, 6, 7, 8]
    every = np.ones(ROWS, np.bool_)
    path = flat(h5py, tmp_path / "x", timeouts=every, terminals=~every)
    refused(path, "successor of every step in it is unknown")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"rewards": None}, "it has no rewards: it has actions, observations"),
        ({"rewards": np.zeros(3)}, "rewards has 3 rows, but observations have 10"),
        ({"rewards": np.full(ROWS, np.nan)}, "reward is nan in row 0"),
        ({"actions": np.full((ROWS, 1), np.inf)}, "action is inf"),
        ({"observations": np.asarray([b"a"] * ROWS)}, "observations is of"),
        (
            {"terminals": np.zeros(ROWS), "timeouts": np.zeros(ROWS)},
            "no episode ends in it: no terminal and no timeout",
        ),
        ({"actions": np.full(ROWS, 2**40)}, "actions holds whole numbers beyond 32 bits"),
        ({name: np.zeros((0, 1)) for name in d4rl.ARRAYS}, "no step in it"),
    ],
)
def test_bad_d4rl_files(arrays, words, h5py, tmp_path):
    refused(flat(h5py, tmp_path / "x.hdf5", **arrays), words)


# OGBench: trajectories of 2 and 3 steps, the task solved in the first step of the second one.
STATES = np.arange(7, dtype=np.float32)[:, None]
OGBENCH = {
    "observations": STATES,
    "actions": 10 * STATES,
    "terminals": np.asarray([0, 0, 1, 0, 0, 0, 1], np.bool_),
    "rewards": np.asarray([-1, -1, -9, 0, -1, -1, -9], np.float32),
    "masks": np.asarray([1, 1, 0, 0, 1, 1, 0], np.float32),
    "qpos": STATES,
}


def saved_npz(path, **arrays):
    """An OGBench file; an array that is given as None is left out."""
    found = {name: each for name, each in (OGBENCH | arrays).items() if each is not None}
    np.savez_compressed(path, **found)
    return path


def test_ogbench_has_a_row_more_than_steps(tmp_path):
    found = formats.read_any(saved_npz(tmp_path / "pointmaze-large-stitch-v0.npz"))
    assert found.length.tolist() == [2, 3]
    assert found.observation[:, 0].tolist() == [0, 1, 3, 4, 5]
    assert found.action[:, 0].tolist() == [0, 10, 30, 40, 50]
    assert found.final_observation[:, 0].tolist() == [2, 6]
    assert found.reward.tolist() == [-1, -1, 0, -1, -1]  # of the state, not of the successor
    assert found.terminated.tolist() == [False, False, True, False, False]
    assert found.truncated.tolist() == [False, True, False, False, True]


def test_ogbenchs_arrays_as_it_loads_them(tmp_path):
    """Regular form: the last rows are dropped, terminals have moved, successors are there."""
    rows = [0, 1, 3, 4, 5]
    arrays = {name: array[rows] for name, array in OGBENCH.items()}
    arrays["terminals"] = np.asarray([0, 1, 0, 0, 1], np.float32)
    arrays["next_observations"] = STATES[[1, 2, 4, 5, 6]]
    np.savez(tmp_path / "train.npz", **arrays)
    found = formats.read_any(tmp_path / "train.npz")
    whole = formats.read_any(saved_npz(tmp_path / "whole.npz"))
    assert found.sha256 == whole.sha256
    # Where a row leads elsewhere than to the next one, it is cut.
    arrays["next_observations"] = STATES[[1, 2, 6, 5, 6]]
    np.savez(tmp_path / "train.npz", **arrays)
    found = formats.read_any(tmp_path / "train.npz")
    assert found.length.tolist() == [2, 1, 2]
    assert found.final_observation[:, 0].tolist() == [2, 6, 6]
    assert np.flatnonzero(found.truncated).tolist() == [1, 2, 4]


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"rewards": None}, "no rewards and masks, .*-singletask-"),
        ({"masks": None}, "no rewards and masks, .*-singletask-"),
        ({"valids": np.ones(7)}, "compact form"),
        ({"rewards": np.zeros(5)}, "arrays do not have as many rows: .* rewards .5"),
        ({"rewards": np.zeros((7, 2))}, r"rewards is \[7, 2\]"),
        ({"terminals": np.zeros(7)}, "last trajectory has no end"),
        ({"terminals": np.asarray([0, 0, 1, 1, 0, 0, 1])}, "trajectory 1 has length 0"),
        ({"rewards": np.full(7, np.nan)}, "reward is nan"),
        ({"actions": np.full((7, 1), np.nan)}, "action is nan in row 0"),
    ],
)
def test_bad_ogbench_files(arrays, words, tmp_path):
    refused(saved_npz(tmp_path / "x.npz", **arrays), words)


def test_the_invalid_row_of_ogbench_may_be_anything(tmp_path):
    actions = 10 * STATES
    actions[2] = np.nan
    assert len(formats.read_any(saved_npz(tmp_path / "x.npz", actions=actions))) == 5


def space(kind="Box", **more):
    return json.dumps({"type": kind, **more})


def minari_folder(h5py, folder, episodes, **metadata):
    """A Minari dataset by hand: `episodes` are dicts, in the order in which they are written."""
    data = folder / "data"
    data.mkdir(parents=True)
    with h5py.File(data / "main_data.hdf5", "w") as file:
        for episode in episodes:
            number = episode.pop("id")
            group = file.create_group(f"episode_{number}")
            group.attrs["id"] = number
            for name, array in episode.items():
                group[name] = array
    known = {
        "total_steps": 1,
        "total_episodes": len(episodes),
        "data_format": "hdf5",
        "observation_space": space(shape=[1], dtype="float64"),
        "action_space": space("Discrete", n=3, start=0),
        "dataset_id": "ns/toy-v0",
    }
    (data / "metadata.json").write_text(json.dumps(known | metadata))
    return folder


def episode(number, steps=2, **arrays):
    return {
        "id": number,
        "observations": number + np.arange(steps + 1.0)[:, None] / 10,
        "actions": np.arange(steps, dtype=np.int64),
        "rewards": np.full(steps, float(number)),
        "terminations": np.arange(steps) == steps - 1,
        "truncations": np.zeros(steps, np.bool_),
    } | arrays


def test_minari_episodes_are_in_the_order_of_their_ids(h5py, tmp_path):
    """HDF5 lists names: episode_10 would be before episode_2."""
    folder = minari_folder(h5py, tmp_path / "toy-v0", [episode(n) for n in (0, 2, 10, 1)])
    for path in (folder, folder / "data", folder / "data" / "main_data.hdf5"):
        found = formats.read_any(path)
        assert found.episode_returns.tolist() == [0, 2, 4, 20]
    assert found.final_observation[:, 0].tolist() == pytest.approx([0.2, 1.2, 2.2, 10.2])
    assert (found.observation.dtype, found.action.dtype) == (np.float32, np.int32)
    assert found.about["name"] == "ns/toy-v0"
    assert found.about["minari_action_space"] == space("Discrete", n=3, start=0)


def test_minari_metadata(h5py, tmp_path):
    known = json.dumps({"id": "CartPole-v1", "kwargs": {}})
    scores = {"ref_min_score": 10, "ref_max_score": 500}
    folder = minari_folder(h5py, tmp_path / "a-v0", [episode(0)], env_spec=known, **scores)
    about = formats.read_any(folder).about
    assert (about["environment"], about["reference_scores"]) == ("CartPole-v1", [10.0, 500.0])
    unknown = json.dumps({"id": "Nowhere-v3", "kwargs": {}})
    about = formats.read_any(
        minari_folder(h5py, tmp_path / "b-v0", [episode(0)], env_spec=unknown)
    ).about
    assert (about["environment"], about["minari_env_spec"]) == ("", unknown)
    assert about["reference_scores"] is None


@pytest.mark.parametrize(
    "described",
    [
        space("MultiDiscrete", nvec=[2, 2], start=[0, 0], dtype="int64"),
        space("MultiBinary", n=2),
        space("MultiBinary", n=[2]),
    ],
)
def test_vectors_of_whole_numbers_are_one_array(described, h5py, tmp_path):
    actions = np.asarray([[0, 1], [1, 1]], np.int8)
    whole = episode(0, actions=actions)
    found = formats.read_any(
        minari_folder(h5py, tmp_path / "toy-v0", [whole], action_space=described)
    )
    assert found.action.tolist() == actions.tolist() and found.action.dtype == np.int32
    assert minari._shape(described) == (2,)  # of a row, where Arrow has them flat


def test_an_unfinished_minari_episode_is_cut(h5py, tmp_path):
    neither = episode(0, terminations=np.zeros(2, np.bool_))
    found = formats.read_any(minari_folder(h5py, tmp_path / "a-v0", [neither, episode(1)]))
    assert found.truncated.tolist() == [False, True, False, False]
    assert found.terminated.tolist() == [False, False, False, True]


@pytest.mark.parametrize(
    ("episodes", "metadata", "words"),
    [
        ([], {}, "no episode in it"),
        ([episode(0, steps=0)], {}, "episode 0 has length 0"),
        ([episode(0, rewards=np.zeros(3))], {}, "episode 0 has 3 observations, but must have 4"),
        ([episode(0, actions=np.zeros(3))], {}, "episode 0 has 3 actions, but must have 2"),
        ([episode(0, rewards=np.full(2, np.inf))], {}, "reward is inf in row 0"),
        ([episode(0)], {"total_episodes": 2}, "1 of its 2 episodes are there"),
        ([episode(0)], {"data_format": "zarr"}, "its data_format is 'zarr'"),
        (
            [episode(0)],
            {"observation_space": space("Dict")},
            "its observation_space is a Dict, .* as it is collected .*FlattenObservation",
        ),
        (
            [episode(0)],
            {"action_space": space("Tuple")},
            "its action_space is a Tuple, .* collect actions that are one array",
        ),
        (
            [episode(0)],
            {"observation_space": space("Text")},
            "its observation_space is a Text, .*: collect it as one of these",
        ),
        ([episode(0)], {"action_space": space("Discrete", n=2, start=1)}, "begins at 1"),
        (
            [episode(0)],
            {"action_space": space("MultiDiscrete", nvec=[2, 3], start=[0, 1])},
            r"begins at \[0, 1\], but must begin at 0",
        ),
        ([episode(0)], {"action_space": "{"}, "is no JSON"),
        ([episode(0)], {"ref_min_score": [], "ref_max_score": 1}, "cannot be read as minari: Type"),
    ],
)
def test_bad_minari_folders(episodes, metadata, words, h5py, tmp_path):
    copies = [dict(each) for each in episodes]
    refused(minari_folder(h5py, tmp_path / "toy-v0", copies, **metadata), words)


def test_damaged_minari_folders(h5py, tmp_path):
    folder = minari_folder(h5py, tmp_path / "toy-v0", [episode(0)], observation_space=None)
    main = folder / "data" / "main_data.hdf5"
    with h5py.File(main, "a") as file:
        del file["episode_0/rewards"]
    refused(folder, "episode_0 has no rewards")
    with h5py.File(main, "a") as file:
        del file["episode_0/observations"]
        file["episode_0/observations/camera"] = np.zeros(3)
    refused(folder, "observations are a dictionary or a tuple of camera")
    main.write_bytes(main.read_bytes()[:600])
    refused(folder, "main_data.hdf5 cannot be read")
    (folder / "data" / "metadata.json").unlink()
    refused(folder, "no dataset")


def test_a_minari_file_without_its_folder(h5py, tmp_path):
    folder = minari_folder(h5py, tmp_path / "toy-v0", [episode(0)])
    (folder / "data" / "main_data.hdf5").rename(tmp_path / "alone.hdf5")
    refused(tmp_path / "alone.hdf5", "without the metadata.json beside it")
    with pytest.raises(JaxrlError, match="name ends in its version.* not 'toy'"):
        formats.write_as("minari", tmp_path / "toy", toy())


def test_an_hdf5_file_is_told_by_its_own_names_and_read_itself(h5py, tmp_path):
    folder = minari_folder(h5py, tmp_path / "toy-v0", [episode(0)]) / "data"
    flat(h5py, folder / "hopper-medium-v2.hdf5")  # beside Minari's metadata.json
    assert formats.format_of(folder / "hopper-medium-v2.hdf5").NAME == "d4rl"
    assert formats.read_any(folder / "hopper-medium-v2.hdf5").length.tolist() == [3, 2, 2, 1]
    other = minari_folder(h5py, tmp_path / "other-v0", [episode(7)]) / "data"
    (other / "main_data.hdf5").rename(folder / "other.hdf5")
    assert formats.read_any(folder / "other.hdf5").episode_returns.tolist() == [14]
    assert formats.read_any(folder / "main_data.hdf5").episode_returns.tolist() == [0]
    (tmp_path / "metadata.json").write_text("{}")  # of something else
    assert len(formats.read_any(flat(h5py, tmp_path / "mine.hdf5"))) == 8


def test_arrow_by_hand(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import ipc

    data = tmp_path / "toy-v0" / "data"
    for number in (10, 2, 0):
        (data / str(number)).mkdir(parents=True)
        flat_rows = pyarrow.array(np.arange(12, dtype=np.float32) + number)
        table = pyarrow.table(
            {
                "observations": pyarrow.FixedSizeListArray.from_arrays(flat_rows, 4),
                "actions": pyarrow.array([1, 2, 0], pyarrow.int32()),  # the last row is padding
                "rewards": [float(number), 1.0, 0.0],
                "terminations": [False, True, False],
                "truncations": [False, False, False],
            }
        )
        with ipc.new_file(data / str(number) / "part-0.arrow", table.schema) as writer:
            writer.write_table(table)
    metadata = {
        "total_steps": 6,
        "total_episodes": 3,
        "data_format": "arrow",
        "observation_space": space(shape=[2, 2]),
    }
    (data / "metadata.json").write_text(json.dumps(metadata))
    found = formats.read_any(data.parent)
    assert found.length.tolist() == [2, 2, 2]
    assert found.episode_returns.tolist() == [1, 3, 11]
    assert found.observation[0].tolist() == [[0, 1], [2, 3]]
    assert found.final_observation[1].tolist() == [[10, 11], [12, 13]]
    assert found.action.tolist() == [1, 2] * 3
    part = data / "2" / "part-0.arrow"
    part.write_bytes(part.read_bytes()[:50])
    refused(data.parent, "episode 2 cannot be read")
    part.unlink()
    refused(data.parent, "2 has 0 .arrow files")


def test_minari_reads_what_we_write(tmp_path, monkeypatch):
    theirs = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    (tmp_path / "ns").mkdir()
    recorded = toy(reference_scores=(-1.0, 3.0))
    formats.write_as("minari", tmp_path / "ns" / "toy-v0", recorded)
    loaded = theirs.load_dataset("ns/toy-v0")
    assert (loaded.total_episodes, loaded.total_steps) == (3, 8)
    assert loaded.observation_space.shape == (2,)
    for number, found in enumerate(loaded.iterate_episodes()):
        rows = slice(recorded.starts[number], recorded.ends[number] + 1)
        assert np.array_equal(found.observations[:-1], recorded.observation[rows])
        assert np.array_equal(found.observations[-1], recorded.final_observation[number])
        assert np.array_equal(found.actions, recorded.action[rows])
        assert np.array_equal(found.rewards, recorded.reward[rows])
        assert np.array_equal(found.terminations, recorded.terminated[rows])
        assert np.array_equal(found.truncations, recorded.truncated[rows])
    # The score of a return of 1, half of the way from -1 to 3; Minari's is a hundredth of ours.
    assert theirs.get_normalized_score(loaded, np.asarray([1.0])) == pytest.approx([0.5])


# Minari warns of metadata that are not given, and leaves a folder to the garbage collector.
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
def test_we_read_what_minari_writes(data_format, tmp_path, monkeypatch):
    theirs = pytest.importorskip("minari")
    pytest.importorskip("pyarrow")
    gymnasium = pytest.importorskip("gymnasium")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    env = theirs.DataCollector(gymnasium.make("CartPole-v1"), data_format=data_format)
    returns = []
    for seed in range(12):  # more than ten: episode_10 is before episode_2
        env.reset(seed=seed)
        ended, total = False, 0.0
        env.action_space.seed(seed)
        while not ended:
            _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            ended, total = terminated or truncated, total + reward
        returns.append(total)
    scores = {"ref_min_score": 9.0, "ref_max_score": 500.0}
    theirs_dataset = env.create_dataset("cartpole/random-v0", algorithm_name="random", **scores)
    env.close()
    del env
    gc.collect()
    found = formats.read_any(tmp_path / "cartpole" / "random-v0")
    assert found.episode_returns.tolist() == returns
    assert found.about["environment"] == "CartPole-v1"
    assert found.about["reference_scores"] == [9.0, 500.0]
    for number, each in enumerate(theirs_dataset.iterate_episodes()):
        rows = slice(found.starts[number], found.ends[number] + 1)
        assert np.array_equal(each.observations[:-1], found.observation[rows])
        assert np.array_equal(each.observations[-1], found.final_observation[number])
        assert np.array_equal(each.actions, found.action[rows])
        assert np.array_equal(each.terminations, found.terminated[rows])


def test_what_is_not_installed_is_named_with_its_command(tmp_path, monkeypatch):
    (tmp_path / "x.hdf5").write_bytes(files.HDF5)
    monkeypatch.setattr(files, "installed", lambda package: False)
    refused(tmp_path / "x.hdf5", r"needs h5py: .*jaxrl\[offline\]")


def recorded_by_collect(path, stride=1, step=(0, 1, 2, 0, 1)):
    """A file as `jaxrl collect` writes it: an episode that terminated, and one that was cut."""
    env = registry.make(PROBE)
    rows = len(step)
    state, _ = env.reset(jax.random.key(0))
    columns = {name: np.zeros(rows, np.float32) for name in ("return_so_far", "value")}
    content = Recording(
        header(env, PROBE, {}, stride=stride, played_by={"algorithm": "ppo", "seed": 3}),
        state=jax.tree.map(lambda leaf: np.asarray([leaf] * rows), state),
        observation=np.arange(rows, dtype=np.float32)[:, None],
        action=np.arange(rows, dtype=np.int32),
        next_observation=10 + np.arange(rows, dtype=np.float32)[:, None],
        reward=np.arange(rows, dtype=np.float32),
        terminated=np.asarray([False, False, True, False, False]),
        truncated=np.asarray([False, False, False, False, True]),
        step=np.asarray(step, np.int32),
        episode=np.asarray([0, 0, 0, 1, 1], np.int32),
        **columns,
    ).data()
    path.write_bytes(content)
    return path


def test_what_collect_records_is_a_dataset(tmp_path):
    found = formats.read_any(recorded_by_collect(tmp_path / "mine.npz"))
    assert found.length.tolist() == [3, 2]
    assert found.observation[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert found.final_observation[:, 0].tolist() == [12, 14]
    assert found.reward.tolist() == [0, 1, 2, 3, 4]
    assert np.flatnonzero(found.terminated).tolist() == [2]
    assert np.flatnonzero(found.truncated).tolist() == [4]
    assert (found.about["name"], found.about["environment"]) == ("mine", PROBE)
    assert found.about["source"] == "jaxrl collect: algorithm ppo, seed 3"


def test_recordings_without_some_steps_are_refused(tmp_path):
    path = tmp_path / "mine.npz"
    refused(recorded_by_collect(path, stride=7), "every 7th step .* --stride 1")
    refused(recorded_by_collect(path, step=(1, 2, 3, 0, 1)), "steps do not follow each other")
    refused(recorded_by_collect(path, step=(0, 1, 3, 0, 1)), "steps do not follow each other")
    recorded_by_collect(path)
    with_arrays(path, drop=("action",))
    refused(path, "it has no action")
