"""That the shapes in the types of jaxrl.core are checked in these tests, all of them."""

import importlib
import inspect
import pkgutil
import typing

import jax
import jax.numpy as jnp
import pytest
from jaxtyping import TypeCheckError

import jaxrl.core
from jaxrl.core import minibatch, returns, tree, truncation

MODULES = [
    importlib.import_module(module.name)
    for module in pkgutil.walk_packages(jaxrl.core.__path__, "jaxrl.core.")
]


def functions(module):
    """Those that are written in a module and in its classes."""
    own = [each for each in vars(module).values() if inspect.isclass(each)]
    for holder in (module, *(each for each in own if each.__module__ == module.__name__)):
        for member in vars(holder).values():
            member = member.fget if isinstance(member, property) else member
            written = inspect.unwrap(member) if inspect.isfunction(member) else None
            if inspect.isfunction(written) and written.__code__.co_filename == module.__file__:
                yield member


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_function_is_checked_by_types_that_can_be_read(module):
    """A type that cannot be read, as one with an unknown name, would check nothing in silence."""
    for function in functions(module):
        assert hasattr(function, "__wrapped__"), function
        typing.get_type_hints(inspect.unwrap(function), include_extras=True)


def test_values_without_environments_are_refused():
    rewards, never, values = jnp.zeros((8, 4)), jnp.zeros((8, 4), bool), jnp.zeros(8)
    with pytest.raises(TypeCheckError, match="'next_value'"):
        returns.lambda_returns(rewards, values, never, never, 0.99, 0.95)
    with pytest.raises(TypeCheckError, match="'value'"):
        jax.jit(returns.gae)(rewards, values, rewards, never, never, gamma=0.99, gae_lambda=0.95)
    returns.lambda_returns(rewards, rewards, never, never, 0.99, 0.95)


def test_a_mask_of_numbers_is_refused():
    rewards, never = jnp.zeros((8, 4)), jnp.zeros((8, 4))
    with pytest.raises(TypeCheckError, match="'terminated'"):
        returns.lambda_returns(rewards, rewards, never, never, 0.99, 0.95)


def test_every_leaf_of_a_tree_has_its_rows():
    mask, rows = (
        jnp.ones(4, bool),
        {"a": jnp.zeros((4, 2)), "b": jax.random.split(jax.random.key(0), 4)},
    )
    tree.select_rows(mask, rows, rows)
    with pytest.raises(TypeCheckError, match="'on_false'"):
        tree.select_rows(mask, rows, rows | {"a": jnp.zeros((5, 2))})
    buffer, count = truncation.init(rows["a"], 3)
    with pytest.raises(TypeCheckError, match="'truncated'"):
        truncation.store((buffer, count), rows["a"], jnp.ones(5, bool))


def test_sizes_that_a_type_computes_are_checked(monkeypatch):
    key = jax.random.key(0)
    assert minibatch.shuffled_indices(key, 12, 4).shape == (3, 4)
    monkeypatch.setattr(minibatch, "permutation", lambda key, size: jnp.arange(size + 4))
    with pytest.raises(TypeCheckError, match="return value of jaxrl.core.minibatch"):
        minibatch.shuffled_indices(key, 12, 4)
