"""What an algorithm asks of the devices that share it; on several of them: tests/devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.core.shards import SINGLE, Shards
from jaxrl.errors import JaxrlError


def test_one_shard_changes_nothing():
    key, value = jax.random.key(3), jnp.arange(3.0)
    assert (
        SINGLE.own(key) is key
        and SINGLE.mean(value) is SINGLE.sum(value) is value
        and SINGLE.split("num_envs", 7) == 7
    )


def test_shards_average_and_have_keys_of_their_own():
    shards = Shards("env", 4)
    values, keys = jax.vmap(
        lambda x: (
            shards.mean({"x": x}) | {"sum": shards.sum(x)},
            jax.random.key_data(shards.own(jax.random.key(0))),
        ),
        axis_name="env",
    )(jnp.arange(4.0))
    np.testing.assert_allclose(values["x"], 1.5)
    np.testing.assert_allclose(jax.vmap(shards.sum, axis_name="env")(jnp.arange(4.0)), 6.0)
    assert len(np.unique(np.asarray(keys), axis=0)) == 4


def test_what_does_not_divide_is_refused():
    assert Shards("env", 4).split("num_envs", 8) == 2
    with pytest.raises(
        JaxrlError, match="num_envs is 6, but must be a multiple of the 4 devices that share it"
    ):
        Shards("env", 4).split("num_envs", 6)
