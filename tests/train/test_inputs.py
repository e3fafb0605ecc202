"""What algorithms are given from disk: read where an option names a path, refused in the user's words."""

import numpy as np
import pytest

from jaxrl.algos.ppo import ppo
from jaxrl.algos.stepmix import StepMixConfig, stepmix
from jaxrl.config import override
from jaxrl.errors import JaxrlError
from jaxrl.train.experiment import default_config
from jaxrl.train.inputs import read_inputs
from jaxrl.train.trust import NOBODY


def test_nothing_is_read_where_no_option_names_a_path():
    assert read_inputs(stepmix, StepMixConfig(), "tabular/paper", NOBODY) == {}
    assert read_inputs(ppo, default_config("ppo", "CartPole-v1")[0], "CartPole-v1", NOBODY) == {}


def test_episodes_come_from_a_file_of_arrays(tmp_path):
    states, actions = np.arange(8).reshape(4, 2), np.arange(6).reshape(3, 2)
    np.savez(tmp_path / "episodes.npz", states=states, actions=actions)
    config = override(StepMixConfig(), {"dataset": str(tmp_path / "episodes.npz")})
    found = read_inputs(stepmix, config, "tabular/paper", NOBODY)
    assert list(found) == ["dataset"] and found["dataset"].value.states.dtype == np.int32
    np.testing.assert_array_equal(found["dataset"].value.states, states)
    np.testing.assert_array_equal(found["dataset"].value.actions, actions)


@pytest.mark.parametrize("content", [None, b"no archive", {"states": np.zeros((4, 2))}])
def test_a_file_that_holds_no_episodes_is_named(tmp_path, content):
    path = tmp_path / "episodes.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        np.savez(path, **content)
    with pytest.raises(
        JaxrlError, match=r"dataset is .*episodes.npz, but should be an .npz file of states and actions"
    ):
        read_inputs(stepmix, override(StepMixConfig(), {"dataset": str(path)}), "tabular/paper", NOBODY)
