"""The Environment contract, held against every id that the registry serves."""

import functools

import jax
import pytest

from jaxrl.envs import contract, registry
from jaxrl.envs.contract import EnvironmentCase


@pytest.fixture(autouse=True)
def keys_may_be_reused():
    """The same key must give the same start and the same step, here and in the reference."""
    with jax.debug_key_reuse(False):
        yield


def environments():
    for suite in registry.suites().values():
        marks = [pytest.mark.slow] if getattr(suite, "SLOW", False) else []
        for environment_id in suite.IDS:
            yield pytest.param(environment_id, marks=marks, id=environment_id)


each_environment = pytest.mark.parametrize("environment_id", list(environments()))


@functools.cache
def made(environment_id):
    suite = next(suite for suite in registry.suites().values() if environment_id in suite.IDS)
    if registry.missing(suite):
        pytest.skip(registry.missing(suite))
    return registry.make(environment_id)


@functools.cache
def case_of(environment_id):
    make = functools.partial(registry.make, environment_id)
    return EnvironmentCase(environment_id, made(environment_id), make, steps=3)


# What each check says of itself is in its docstring.
@each_environment
@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
def test_it_keeps_the_contract(check, environment_id):
    # Returned is a note, of ranks that are broadcast: none, in what is jaxrl's.
    with jax.numpy_rank_promotion("raise"):
        assert check(case_of(environment_id)) is None


@each_environment
def test_its_own_numbers_have_no_weak_types(environment_id):
    leaves = jax.tree_util.tree_leaves_with_path(made(environment_id))
    assert not [jax.tree_util.keystr(path) for path, leaf in leaves if leaf.weak_type]
