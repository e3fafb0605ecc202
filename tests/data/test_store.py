import pytest

from jaxrl.data import store
from jaxrl.errors import JaxrlError


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty store, and an empty working folder."""
    monkeypatch.setenv("JAXRL_DATASETS", str(tmp_path / "datasets"))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def put(name):
    store.root().mkdir(exist_ok=True)
    store.place(name).write_bytes(b"")
    return store.place(name)


def test_names_stand_in_the_store(here):
    assert store.stored() == []
    path = put("bandit-2d")
    assert path == here / "datasets" / "bandit-2d.npz"
    assert store.located("bandit-2d") == path
    path = put("mine")  # which nobody defines
    assert store.located("mine") == path
    assert store.stored() == ["bandit-2d", "mine"]


def test_what_is_not_there_says_how_to_get_it(here):
    with pytest.raises(JaxrlError, match="jaxrl dataset build maze-stitch"):
        store.located("maze-stitch")
    put("bandit-2d")
    with pytest.raises(JaxrlError, match="no dataset bandit2d in .*. Did you mean bandit-2d?"):
        store.located("bandit2d")
    with pytest.raises(JaxrlError, match="minari download mujoco/hopper/medium-v0"):
        store.located("minari:mujoco/hopper/medium-v0")
    with pytest.raises(JaxrlError, match="is named by a word"):
        store.located("")


def test_minaris_datasets(here):
    folder = here / "minari" / "ns" / "toy-v0"
    folder.mkdir(parents=True)
    assert store.located("minari:ns/toy-v0") == folder
    for wrong in ("minari:", "minari:/etc", "minari:../../etc"):
        with pytest.raises(JaxrlError, match="is no Minari dataset"):
            store.located(wrong)


def test_paths_are_left_to_their_readers(here):
    for text in ("data/mine.hdf5", "mine.npz", "../x", str(here / "y")):
        assert str(store.located(text)) == text
    (here / "work" / "toy-v0").mkdir()
    assert str(store.located("toy-v0")) == "toy-v0"  # a folder that is there, and no name
    path = put("toy-v0")
    assert store.located("toy-v0") == path  # a name comes first
    assert str(store.located("./toy-v0")) == "./toy-v0" or store.located("./toy-v0").is_dir()


def test_where_there_is_no_home(monkeypatch):
    monkeypatch.delenv("JAXRL_DATASETS")

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(store.Path, "home", homeless)
    with pytest.raises(JaxrlError, match="set JAXRL_DATASETS to the folder"):
        store.root()
    monkeypatch.setenv("JAXRL_DATASETS", "~/data")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert str(store.root()) == "/home/somebody/data"
