import sys

import numpy as np
import pytest
from PIL import Image

from jaxrl.config import installed
from jaxrl.data import formats, store
from jaxrl.errors import JaxrlError
from jaxrl.train import api, datasets
from jaxrl.train.inputs import environment_of
from jaxrl.train.trust import NOBODY, Trust
from tests.data.toys import assert_same, maze, toy


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty store, and two definitions that are quick to build."""
    monkeypatch.setenv("JAXRL_DATASETS", str(tmp_path / "datasets"))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    built = {"maze-toy": lambda small: maze(), "toy": lambda small: toy(seed=int(small))}
    monkeypatch.setattr(datasets, "names", lambda: list(built))
    monkeypatch.setattr(datasets, "summary", lambda name: f"A {name}.")
    monkeypatch.setattr(datasets, "build", lambda name, small: built[name](small))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_help(ask):
    for words in ((), ("--help",), ("help",)):
        status, output, _ = ask("dataset", *words)
        assert (status, "jaxrl dataset build" in output) == (0, True)
    for command in ("list", "build", "info", "convert", "plot"):
        assert "usage: jaxrl dataset " + command in ask("dataset", command, "--help")[1]
    status, _, errors = ask("dataset", "lists")
    assert (status, "Did you mean list" in errors) == (2, True)


def test_build_and_list(ask, run):
    output, _ = run("dataset", "list")
    assert "jaxrl dataset build maze-toy" in output
    output, _ = run("dataset", "build", "toy", "--small")
    assert "building toy (1 of 1)" in output
    assert f"8 steps of 3 episodes, mean return {toy(seed=1).episode_returns.mean():.4g}" in output
    assert toy(seed=1).sha256 in output
    assert_same(formats.read_any(store.place("toy")), toy(seed=1))
    status, _, errors = ask("dataset", "build", "toy")
    assert (status, "give --overwrite" in errors) == (2, True)
    output, _ = run("dataset", "build", "all")
    assert "toy is here already" in output and "building maze-toy (1 of 1)" in output
    assert_same(formats.read_any(store.place("maze-toy")), maze())
    assert_same(formats.read_any(store.place("toy")), toy(seed=1))
    run("dataset", "build", "toy", "--overwrite", "--quiet")
    assert_same(formats.read_any(store.place("toy")), toy())
    output, _ = run("dataset", "list")
    assert "jaxrl dataset build" not in output and "0.0 MB" in output


def test_one_bad_file_hides_no_other(run):
    run("dataset", "build", "toy", "--quiet")
    store.place("broken").write_text("no archive")
    output, _ = run("dataset", "list")
    assert "it should be a dataset" in output and "toy" in output


def test_bad_requests(ask, here):
    cases = [
        (("build",), "needs a name"),
        (("build", "toys"), "unknown dataset 'toys'. Did you mean toy"),
        (("info", "nothing-here"), "no dataset nothing-here in"),
        (("info", "toy"), "jaxrl dataset build toy"),
        (("info", "no.npz"), "cannot read no.npz: No such file"),
        (("convert", "toy", "x", "--to", "owm"), "unknown format to write 'owm'. Did you mean own"),
        (("convert", "toy", "minari:x-v0", "--to", "own"), "a place for Minari's format"),
        (("plot", "no.npz"), "cannot read no.npz"),
    ]
    for words, expected in cases:
        status, _, errors = ask("dataset", *words)
        assert (status, expected in errors) == (2, True), (words, errors)
    (here / "bad.npz").write_text("no archive")
    assert "bad.npz: it is no dataset" in ask("dataset", "info", "bad.npz")[2]


def test_info_by_hand(run, here):
    """Rewards 1 … 6 in episodes of 4 and 2 steps: returns 10 and 11, between -3 and 2: TQ 2.7."""
    recorded = maze()
    recorded.reward[:] = np.arange(1, 7)
    recorded.observation[:] = 0
    recorded.action[:3] = 0.5
    formats.write_as("own", here / "six.npz", recorded)
    output, _ = run("dataset", "info", "six.npz")
    facts = {line[:18].strip(): line[18:].strip() for line in output.splitlines()}
    assert facts["steps"] == "6 in 2 episodes"
    assert facts["lengths"] == "2 to 4, mean 3"
    assert facts["returns"] == "10 to 11, mean 10.5"
    assert facts["rewards"] == "1 to 6, mean 3.5"
    assert facts["episodes end"] == (
        "0.0% terminated, 100.0% truncated; 2 terminations before an end"
    )
    assert facts["TQ"] == "2.7000"
    assert facts["normalised return"].startswith("270.00")
    assert facts["state-actions"] == "4 different, 33.33% repeated"
    assert facts["sha256"] == recorded.sha256
    recorded.action[:] = 0.5
    formats.write_as("own", here / "few.npz", recorded)
    output, _ = run("dataset", "info", "few.npz", "--reference", "six.npz")
    assert "SACo              0.2500 of the different ones of six.npz" in output


def test_convert_there_and_back(run, ask, here):
    run("dataset", "build", "maze-toy")
    output, _ = run("dataset", "convert", "maze-toy", "maze.npz", "--to", "ogbench")
    assert "wrote maze.npz: 6 steps of 2 episodes" in output
    status, _, errors = ask("dataset", "convert", "maze-toy", "maze.npz", "--to", "ogbench")
    assert (status, "maze.npz exists" in errors) == (2, True)
    run("dataset", "convert", "maze-toy", "maze.npz", "--to", "ogbench", "--overwrite")
    run("dataset", "convert", "maze.npz", "again", "--to", "own")  # a name: into the store
    assert_same(formats.read_any(store.place("again")), maze())


def test_convert_to_a_place_of_minaris(run, here):
    pytest.importorskip("h5py")
    run("dataset", "build", "toy")
    run("dataset", "convert", "toy", "minari:ns/toy-v0", "--to", "minari")
    assert (here / "minari" / "ns" / "toy-v0" / "data" / "main_data.hdf5").exists()
    assert "ns/toy-v0" in (here / "minari/ns/toy-v0/data/metadata.json").read_text()
    output, _ = run("dataset", "info", "minari:ns/toy-v0")
    assert toy().sha256 in output


def test_what_says_nothing_of_reference_scores(run, here):
    recorded = toy()
    del recorded.about["reference_scores"]
    formats.write_as("own", here / "toy.npz", recorded)
    assert "TQ                unknown" in run("dataset", "info", "toy.npz")[0]
    pytest.importorskip("h5py")
    run("dataset", "convert", "toy.npz", "toy-v0", "--to", "minari")


def test_a_folder_that_one_is_in_is_drawn_beside_itself(run, here, monkeypatch):
    pytest.importorskip("h5py")
    formats.write_as("minari", here / "toy-v0", toy())
    monkeypatch.chdir(here / "toy-v0" / "data")
    for path, picture in ((".", here / "toy-v0" / "data.png"), ("..", here / "toy-v0.png")):
        assert f"wrote {picture}" in run("dataset", "plot", path)[0]
        assert picture.exists()


def test_plot(run, ask, here):
    run("dataset", "build", "toy")
    output, _ = run("dataset", "plot", "toy")
    picture = here / "datasets" / "toy.png"
    assert f"wrote {picture}" in output
    with Image.open(picture) as image:
        assert image.size[0] > image.size[1] > 100
    assert (
        "choose a file name that ends in" in ask("dataset", "plot", "toy", "--output", "x.txt")[2]
    )


def test_code_that_a_dataset_names_is_not_imported_unasked(ask, here, monkeypatch):
    (here / "evil.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(here)
    formats.write_as("own", here / "evil.npz", toy(environment="evil:Env"))
    if installed("h5py"):
        status, _, errors = ask("dataset", "convert", "evil.npz", "out-v0", "--to", "minari")
        assert (status, errors) == (0, "")
    for command in ("info", "plot"):
        assert ask("dataset", command, "evil.npz")[0] == 0
    refused = "dataset evil.npz names its environment as 'evil:Env', which would be imported"
    status, _, errors = ask("train", "bc", "--dataset", "evil.npz")
    assert (status, refused in errors, "--imports evil:Env" in errors) == (2, True, True)
    with pytest.raises(JaxrlError, match=refused):
        api.train("bc", dataset="evil.npz")
    with pytest.raises(JaxrlError, match=refused):
        environment_of("evil.npz", NOBODY)
    assert "evil" not in sys.modules
    for trust in (Trust(trust=True), Trust(imports=("evil:Env",))):
        assert environment_of("evil.npz", trust) == ("evil:Env", {})


def test_a_dataset_that_is_to_name_the_environment_is_itself_named(ask, here):
    (here / "broken.npz").write_text("no archive")
    formats.write_as("own", here / "of-none.npz", toy())
    for name, words in (
        ("broken.npz", "dataset is broken.npz: it is no dataset"),
        ("of-none.npz", "dataset is of-none.npz: it does not say which environment it is of"),
        ("no.npz", "dataset is no.npz: there is no such file in"),
        ("nothing-here", "dataset is nothing-here: there is no dataset nothing-here"),
    ):
        status, _, errors = ask("train", "bc", "--dataset", name)
        assert (status, words in errors) == (2, True), errors
