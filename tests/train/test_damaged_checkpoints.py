import random
import shutil

import pytest

from jaxrl.errors import JaxrlError
from jaxrl.train.files import state_arrays, verified
from jaxrl.train.files.checkpoint import Checkpoints
from tests.train.states import abstract, assert_same, make_state


def data_files(path):
    return [file for file in path.rglob("*") if file.is_file() and file.parent.name == "d"]


def flip(file, position=-1):
    data = bytearray(file.read_bytes())
    data[len(data) // 2 if position < 0 else position] ^= 4
    file.write_bytes(data)


def flipped_byte(path):
    flip(max(data_files(path), key=lambda file: file.stat().st_size))


def truncated_file(path):
    file = max(data_files(path), key=lambda file: file.stat().st_size)
    file.write_bytes(file.read_bytes()[:-20])


def lost_data(path):
    shutil.rmtree(path / "arrays" / "d")
    shutil.rmtree(path / "arrays" / "ocdbt.process_0", ignore_errors=True)


def lost_manifest(path):
    (path / "manifest.json").unlink()


def lost_metadata(path):
    (path / "arrays" / "_METADATA").unlink()


def torn_manifest(path):
    file = path / "manifest.json"
    file.write_bytes(file.read_bytes()[:100])


def altered_metadata(path):
    file = path / "manifest.json"
    file.write_text(file.read_text().replace('"seconds": 2.0', '"seconds": 9.0'))


def emptied(path):
    shutil.rmtree(path)
    path.mkdir()


@pytest.mark.parametrize(
    "damage",
    [
        flipped_byte,
        truncated_file,
        lost_data,
        lost_manifest,
        lost_metadata,
        torn_manifest,
        altered_metadata,
        emptied,
    ],
)
def test_damage_is_noticed_and_the_one_before_is_used(tmp_path, damage):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, make_state(1), {"seconds": 1.0})
    checkpoints.save(2, make_state(2), {"seconds": 2.0})
    damage(checkpoints.path / "000000002")
    with pytest.raises(JaxrlError, match="no checkpoint can be read:\n.*000000002 is damaged"):
        checkpoints.restore(2, abstract(make_state()))
    iteration, state, metadata, problems = checkpoints.restore_latest(abstract(make_state()))
    assert (iteration, metadata) == (1, {"seconds": 1.0})
    assert_same(state, make_state(1))
    assert len(problems) == 1 and "000000002 is damaged" in problems[0] and "\n" not in problems[0]
    assert checkpoints.iterations() == [1, 2]  # nothing was deleted by looking
    checkpoints.save(2, make_state(3), {})
    assert_same(checkpoints.restore_latest(abstract(make_state())).state, make_state(3))


def test_every_flipped_byte_is_noticed_or_harmless(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, make_state(1), {})
    source, generator = checkpoints.path / "000000001", random.Random(0)
    files = [
        file.relative_to(source)
        for file in source.rglob("*")
        if file.is_file() and file.stat().st_size
    ]
    spare = tmp_path / "spare"
    for file in files * 3:
        shutil.copytree(source, spare, dirs_exist_ok=True)
        flip(spare / file, generator.randrange((spare / file).stat().st_size))
        try:
            manifest, values = verified.read(spare)
        except verified.Damaged:
            continue
        assert_same(
            state_arrays.assemble(spare, manifest, values, abstract(make_state())), make_state(1)
        )


def test_when_nothing_can_be_read_every_problem_is_named(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for iteration in (1, 2):
        checkpoints.save(iteration, make_state(), {})
        lost_manifest(checkpoints.path / f"00000000{iteration}")
    with pytest.raises(
        JaxrlError, match="(?s)000000002 is damaged.*manifest.json.*000000001 is damaged"
    ):
        checkpoints.restore_latest(abstract(make_state()))
    with pytest.raises(JaxrlError, match="holds no checkpoint"):
        Checkpoints(tmp_path / "other").restore_latest(abstract(make_state()))
