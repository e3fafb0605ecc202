import logging
import os
import random
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

from jaxrl.errors import JaxrlError
from jaxrl.train.files import checkpoint
from jaxrl.train.files.checkpoint import Checkpoints
from jaxrl.train.files.state_arrays import host_leaves
from tests.train.states import abstract, assert_same, make_state


def test_a_state_comes_back_bit_for_bit_with_its_structure(tmp_path):
    state = make_state()
    Checkpoints(tmp_path).save(7, state, {"seconds": np.float32(1.5), "best": -np.inf})
    iteration, restored, metadata, problems = Checkpoints(tmp_path).restore_latest(abstract(state))
    assert (iteration, metadata, problems) == (7, {"seconds": 1.5, "best": -np.inf}, [])
    assert_same(restored, state)
    assert isinstance(restored.optimiser[1][0], optax.ScaleByAdamState)
    assert jax.random.bits(restored.keys[1, 2]) == jax.random.bits(state.keys[1, 2])
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(restored.params))


def test_a_restored_state_can_be_donated_and_goes_on_as_the_original(tmp_path):
    step = jax.jit(lambda s: jax.tree.map(lambda x: x * 1.5, s), donate_argnums=0)
    state = {"a": jnp.arange(4096.0), "b": jnp.ones((64, 64))}
    Checkpoints(tmp_path).save(0, state, {})
    restored = Checkpoints(tmp_path).restore_latest(abstract(state)).state
    assert_same(step(step(restored)), step(step(state)))
    assert step._cache_size() == 1


def test_leaves_go_where_the_abstract_state_says(tmp_path):
    device = jax.devices()[-1]
    sharding = NamedSharding(
        jax.make_mesh((1,), ("data",), devices=[device]), PartitionSpec("data")
    )
    state = jax.device_put(
        {"x": jnp.arange(4.0), "k": jax.random.split(jax.random.key(0), 4)}, sharding
    )
    Checkpoints(tmp_path).save(0, state, {})
    restored = Checkpoints(tmp_path).restore_latest(state).state
    assert restored["x"].sharding == sharding and restored["k"].sharding == sharding
    assert_same(restored, state)
    plain = Checkpoints(tmp_path).restore_latest(jax.eval_shape(lambda: make_like(state))).state
    assert isinstance(plain["x"].sharding, SingleDeviceSharding) and not plain["x"].committed


def make_like(tree):
    return {
        "x": jnp.zeros(tree["x"].shape),
        "k": jax.random.split(jax.random.key(0), tree["k"].shape),
    }


def test_the_newest_are_kept_and_an_abandoned_future_is_dropped(tmp_path):
    checkpoints, state = Checkpoints(tmp_path, keep=2), {"x": jnp.zeros(2)}
    for iteration in (0, 5, 10):
        checkpoints.save(iteration, state, {})
    assert checkpoints.iterations() == [5, 10]
    checkpoints.save(7, {"x": jnp.ones(2)}, {})  # resumed from 5
    assert checkpoints.iterations() == [5, 7]
    checkpoints.save(7, {"x": jnp.full(2, 2.0)}, {})  # the same iteration once more
    assert checkpoints.restore(7, abstract(state)).state["x"].tolist() == [2, 2]
    assert sorted(path.name for path in checkpoints.path.iterdir()) == ["000000005", "000000007"]
    with pytest.raises(JaxrlError, match="no checkpoint of iteration 6. Saved: 5, 7"):
        checkpoints.restore(6, abstract(state))


def test_the_best_is_kept_beside_the_newest(tmp_path):
    checkpoints, state = Checkpoints(tmp_path, keep=1), {"x": jnp.zeros(2)}
    with pytest.raises(JaxrlError, match="holds no checkpoint"):
        checkpoints.restore_best(abstract(state))
    checkpoints.save(3, {"x": jnp.ones(2)}, {})
    checkpoints.save_best(3, host_leaves({"x": jnp.ones(2)}), {"score": 1.0})
    for iteration in (4, 5):
        checkpoints.save(iteration, state, {})
    assert checkpoints.iterations() == [5]
    assert checkpoints.restore_best(abstract(state))[::2] == (3, {"score": 1.0})
    for _ in range(2):  # again, as after a resume
        checkpoints.save_best(5, host_leaves(state), {})
    assert checkpoints.restore_best(abstract(state)).iteration == 5
    assert len(list(checkpoints.path.glob("best-*"))) == 1


def test_another_configuration_is_told_from_damage(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, make_state(), {})
    with pytest.raises(
        JaxrlError, match=r"another configuration: it holds params\.dense\.bias float32\[5\], where"
    ):
        checkpoints.restore_latest(abstract(make_state(width=6)))
    larger = (abstract(make_state()), jax.ShapeDtypeStruct((2,), jnp.float32))
    Checkpoints(tmp_path / "tuple").save(1, (make_state(),), {})
    with pytest.raises(
        JaxrlError, match=r"it holds no further leaf, where .* needs 1 float32\[2\]"
    ):
        Checkpoints(tmp_path / "tuple").restore_latest(larger)
    other = abstract(make_state().replace(key=jax.random.key(0, impl="rbg")))
    with pytest.raises(
        JaxrlError, match=r"key key<fry>\[\], where this configuration needs key key<rbg>\[\]"
    ):
        checkpoints.restore_latest(other)


def test_a_failed_save_leaves_the_older_ones_and_no_rubbish(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, make_state(1), {})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "_sync_tree", full)
    for save in (
        lambda: checkpoints.save(2, make_state(2), {}),
        lambda: checkpoints.save_best(1, host_leaves(make_state(1)), {}),
    ):
        with pytest.raises(
            JaxrlError,
            match=r"cannot save the checkpoint .*00000000\d: No space left .* disk is full",
        ):
            save()
    assert [path.name for path in checkpoints.path.iterdir()] == ["000000001"]
    assert_same(checkpoints.restore_latest(abstract(make_state())).state, make_state(1))


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(
        JaxrlError, match="cannot save the checkpoint .*run/checkpoints.* not a folder"
    ):
        Checkpoints(tmp_path / "run").save(0, {"x": jnp.zeros(2)}, {})


LIMITED = """
import resource, sys, jax.numpy as jnp, jax
from jaxrl.errors import JaxrlError
from jaxrl.train.files.checkpoint import Checkpoints
checkpoints = Checkpoints(sys.argv[1])
checkpoints.save(1, {"x": jnp.ones(10)}, {})
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    checkpoints.save(2, {"x": jax.random.normal(jax.random.key(0), (100_000,))}, {})
except JaxrlError as error:
    assert "000000002" in str(error) and len(str(error)) < 500, str(error)
else:
    raise AssertionError("the save should have failed")
assert [path.name for path in checkpoints.path.iterdir()] == ["000000001"]
assert checkpoints.restore_latest({"x": jnp.zeros(10)}).state["x"].tolist() == [1] * 10
"""


def test_files_that_cannot_grow(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


SAVING = """
import itertools, sys, jax, jax.numpy as jnp
from jaxrl.train.files.state_arrays import host_leaves
from jaxrl.train.files.checkpoint import Checkpoints
checkpoints = Checkpoints(sys.argv[1], keep=1)
for i in itertools.count():
    state = {"a": jnp.full(1000, i), "b": {"c": jnp.full((20, 20), i)}, "key": jax.random.key(i)}
    checkpoints.save(i, state, {"iteration": i})
    if i % 3 == 0:
        checkpoints.save_best(i, host_leaves(state), {"iteration": i})
        checkpoints.save(i, state, {"iteration": i})  # replaces
    print(i, flush=True)
"""


def test_a_kill_at_any_moment_leaves_a_readable_state(tmp_path):
    like = {
        "a": jnp.zeros(1000, jnp.int32),
        "b": {"c": jnp.zeros((20, 20), jnp.int32)},
        "key": jax.random.key(0),
    }
    generator = random.Random(1)
    folders = [tmp_path / str(number) for number in range(3)]
    command = [sys.executable, "-c", SAVING]
    children = [subprocess.Popen([*command, str(path)], stdout=subprocess.PIPE) for path in folders]
    for child, folder in zip(children, folders, strict=True):
        with child:
            assert child.stdout.readline() == b"0\n"
            time.sleep(generator.uniform(0.0, 0.4))
            child.kill()
            reported = [0, *map(int, child.stdout.read().split())]
        checkpoints = Checkpoints(folder, keep=1)
        for restored in (checkpoints.restore_latest(like), checkpoints.restore_best(like)):
            iteration, state, metadata, problems = restored
            assert problems == [] and metadata == {"iteration": iteration}
            assert np.all(state["a"] == iteration) and np.all(state["b"]["c"] == iteration)
            assert jnp.array_equal(
                jax.random.key_data(state["key"]), jax.random.key_data(jax.random.key(iteration))
            )
        assert checkpoints.restore_latest(like).iteration >= reported[-1]
        checkpoints.save(10_000, like, {})
        checkpoints.save_best(10_000, host_leaves(like), {})
        assert {path.name for path in checkpoints.path.iterdir()} == {"000010000", "best-000010000"}


def test_a_kill_between_the_two_renames_of_a_replacement(tmp_path):
    checkpoints, state = Checkpoints(tmp_path), {"x": jnp.ones(2)}
    checkpoints.save(4, state, {})
    os.rename(checkpoints.path / "000000004", checkpoints.path / ".replaced-000000004")
    (checkpoints.path / ".tmp-000000004").mkdir()
    assert checkpoints.iterations() == [4]
    assert_same(checkpoints.restore_latest(abstract(state)).state, state)
    checkpoints.save(5, state, {})
    assert sorted(path.name for path in checkpoints.path.iterdir()) == ["000000004", "000000005"]


def test_orbax_stays_quiet(tmp_path, capfd, caplog):
    level = logging.getLogger("absl").level
    Checkpoints(tmp_path).save(0, make_state(), {})
    Checkpoints(tmp_path).restore_latest(abstract(make_state()))
    assert capfd.readouterr() == ("", "") and not caplog.records
    assert logging.getLogger("absl").level == level
