"""Operations on pytrees of arrays."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.core import tree


def test_expand_appends_axes_of_length_one():
    assert tree.expand(jnp.ones((2, 3), bool), 4).shape == (2, 3, 1, 1)
    assert tree.expand(jnp.ones(2, bool), 1).shape == (2,)


def test_select_rows_chooses_whole_rows_of_every_leaf():
    mask = jnp.array([True, False, True])
    left = {"a": jnp.array([1, 2, 3]), "b": jnp.ones((3, 2, 2))}
    right = {"a": jnp.array([-1, -2, -3]), "b": jnp.zeros((3, 2, 2))}
    chosen = tree.select_rows(mask, left, right)
    np.testing.assert_array_equal(chosen["a"], [1, -2, 3])
    np.testing.assert_array_equal(chosen["b"].sum((1, 2)), [4, 0, 4])


def test_select_rows_keeps_the_types_of_the_running_state():
    chosen = tree.select_rows(
        jnp.array([True]), jnp.array([1], jnp.int32), jnp.array([0.5], jnp.float32)
    )
    assert chosen.dtype == jnp.float32 and float(chosen[0]) == 1.0
    assert tree.select_rows(jnp.array([True]), jnp.array([True]), jnp.array([False])).dtype == bool


def test_select_rows_chooses_keys_too():
    left, right = np.arange(6, dtype=np.uint32).reshape(3, 2), np.zeros((3, 2), np.uint32)
    keys = jax.random.wrap_key_data(left), jax.random.wrap_key_data(right)
    chosen = tree.select_rows(jnp.array([True, False, True]), *keys)
    np.testing.assert_array_equal(jax.random.key_data(chosen), [left[0], right[1], left[2]])


def test_strip_weak_types_leaves_values_and_types_alone():
    given = {
        "weak": jnp.asarray(1.5),
        "python": 2,
        "strong": jnp.float32(3),
        "key": jax.random.key(0),
    }
    assert given["weak"].weak_type
    stripped = tree.strip_weak_types(given)
    assert not any(stripped[name].weak_type for name in ("weak", "python", "strong"))
    assert (float(stripped["weak"]), int(stripped["python"]), float(stripped["strong"])) == (
        1.5,
        2,
        3.0,
    )
    assert stripped["python"].dtype == jnp.int32 and stripped["weak"].dtype == jnp.float32
    assert jnp.issubdtype(stripped["key"].dtype, jax.dtypes.prng_key)


def test_a_copy_survives_the_donation_of_the_original():
    original = {"a": jnp.arange(4.0), "b": jnp.ones((2, 2))}
    copied = tree.copy(original)
    expected = jax.device_get(copied)
    jax.jit(lambda x: jax.tree.map(lambda leaf: leaf + 1, x), donate_argnums=0)(original)
    assert original["a"].is_deleted()
    jax.tree.map(np.testing.assert_array_equal, copied, expected)


def test_select_tree_takes_one_tree_whole():
    left, right = {"a": jnp.ones(2), "b": jnp.int32(1)}, {"a": jnp.zeros(2), "b": jnp.int32(0)}
    for condition, expected in ((True, left), (False, right)):
        chosen = tree.select_tree(jnp.asarray(condition), left, right)
        jax.tree.map(np.testing.assert_array_equal, chosen, expected)
