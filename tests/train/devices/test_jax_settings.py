"""JAX's settings: those that change numbers are kept with a run, and named where they differ."""

import json
import os
import subprocess
import sys

import jax
import pytest

from jaxrl.errors import JaxrlError
from jaxrl.train import loop
from jaxrl.train.devices import jax_settings
from jaxrl.train.experiment import versions
from jaxrl.train.files.checkpoint import Checkpoints
from tests.train.tiny import experiment, shared_compilations

TABLES = """
import json
import jax
from jaxrl.train.devices import jax_settings
known = jax_settings.CHANGE_NUMBERS | jax_settings.REFUSE
values = jax.config.values
print(json.dumps({
    "unusual": jax_settings._unusual(known),
    "absent": sorted(set(known) - set(values)),
}))
"""


def test_the_tables_hold_the_usual_values_of_the_installed_jax():
    """A new version of JAX may rename a setting, or have another default: then the table is old."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    done = subprocess.run(
        [sys.executable, "-c", TABLES], env=clean, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == {"unusual": {}, "absent": []}


def test_a_run_keeps_what_changes_its_numbers():
    usual = versions()
    assert not {"jax_enable_x64", "jax_threefry_partitionable"} & usual.keys()
    with jax.enable_x64(True), jax.threefry_partitionable(False):
        changed = versions()
        with jax.default_matmul_precision("highest"), jax.numpy_dtype_promotion("strict"):
            assert jax_settings.others({"versions": changed}) == [
                "jax_default_matmul_precision was None, and is highest now",
                "jax_numpy_dtype_promotion was standard, and is strict now",
            ]
    assert changed == usual | {"jax_enable_x64": "True", "jax_threefry_partitionable": "False"}
    assert jax_settings.others({"versions": changed}) == [
        "jax_enable_x64 was True, and is False now",
        "jax_threefry_partitionable was False, and is True now",
    ]
    assert jax_settings.others({"versions": usual}) == []


def test_who_goes_on_or_evaluates_under_others_is_told(tmp_path, capsys):
    from jaxrl import cli

    folder = tmp_path / "run"
    with shared_compilations():
        loop.train(experiment(), folder)
        with jax.threefry_partitionable(False):
            with pytest.raises(JaxrlError, match=r"jax_threefry_partitionable: \(absent\) -> .Fal"):
                loop.resume(folder)
            assert cli.main(["eval", str(folder), "--episodes", "2", "--quiet"]) == 0
    assert capsys.readouterr().err == (
        f"warning: {folder} was trained under other settings of JAX: jax_threefry_partitionable "
        "was True, and is False now\n"
    )


def test_a_checkpoint_of_other_types_names_the_setting(tmp_path):
    described = {"description": {"versions": {"jax_enable_x64": "True"}}}
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"x": jax.numpy.zeros(2)}, described)
    with pytest.raises(JaxrlError, match="under other settings of JAX .*jax_enable_x64 was True, "):
        checkpoints.restore_latest({"x": jax.ShapeDtypeStruct((3,), jax.numpy.float32)})


def test_what_a_variable_may_have_caused_is_told_with_it(monkeypatch):
    error = TypeError("carry input and carry output must have equal types\nand more")
    assert jax_settings.explanation(error) is None  # what the tests set, they have not in variables
    monkeypatch.setenv("JAX_ENABLE_X64", "1")
    with jax.enable_x64(True):
        told = jax_settings.explanation(error)
        assert jax_settings.explanation(JaxrlError("a request")) is None
        assert jax_settings.explanation(BrokenPipeError()) is None
    assert told == (
        "JAX is not set as usual, which may be the cause: JAX_ENABLE_X64=True. Try without. What "
        "failed: TypeError: carry input and carry output must have equal types"
    )
