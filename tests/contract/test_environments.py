"""The Environment contract, held against every id that the registry serves."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs import registry
from jaxrl.types import Box, Dict, Discrete, Timestep, zeros_of

BATCH = 2
CHEAP = {
    "xla_backend_optimization_level": 0
}  # these programs run a handful of times: compile them fast


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
def shapes(environment_id):
    """Abstract (state, observation) of a reset and (state, timestep) of the step after it."""
    environment = made(environment_id)
    key = jax.random.key(0)

    def reset_and_step():
        state, observation = environment.reset(key)
        successor, timestep = environment.step(key, state, environment.action_space.sample(key))
        return (state, observation), (successor, timestep)

    with jax.numpy_rank_promotion("raise"):
        return jax.eval_shape(reset_and_step)


def kinds(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type), tree)


def within(space, observation):
    if isinstance(space, Dict):
        return all(within(each, observation[key]) for key, each in space.entries)
    if not isinstance(space, Box):
        return True
    low, high = (np.asarray(bound, np.float32) for bound in (space.low, space.high))
    seen = np.asarray(observation, np.float32)
    return np.all(seen >= low - 1e-4) and np.all(seen <= high + 1e-4)


@each_environment
def test_declares_hashable_spaces_and_a_horizon(environment_id):
    environment = made(environment_id)
    hash((environment.observation_space, environment.action_space))
    assert isinstance(environment.observation_space, Box | Discrete | Dict)
    assert type(environment.horizon) is int and environment.horizon >= 1


@each_environment
def test_returns_what_its_spaces_declare(environment_id):
    (_, first), (_, timestep) = shapes(environment_id)
    space = made(environment_id).observation_space
    assert isinstance(timestep, Timestep)
    for observation in (first, timestep.observation):
        assert kinds(observation) == kinds(zeros_of(space))
    assert (timestep.reward.shape, timestep.reward.dtype) == ((), jnp.float32)
    assert (timestep.terminated.shape, timestep.terminated.dtype) == ((), jnp.bool_)


@each_environment
def test_has_no_weak_types(environment_id):
    leaves = jax.tree_util.tree_leaves_with_path((made(environment_id), shapes(environment_id)))
    weak = [jax.tree_util.keystr(path) for path, leaf in leaves if leaf.weak_type]
    assert not weak


@each_environment
def test_a_step_keeps_the_structure_of_the_state(environment_id):
    (state, _), (successor, _) = shapes(environment_id)
    assert jax.tree.structure(state) == jax.tree.structure(successor)
    assert kinds(state) == kinds(successor)


@each_environment
def test_making_it_twice_gives_one_structure(environment_id):
    assert jax.tree.structure(made(environment_id)) == jax.tree.structure(
        registry.make(environment_id)
    )


@each_environment
def test_steps_in_a_batch_and_compiles_once(environment_id):
    environment = made(environment_id)
    space = environment.observation_space
    reset = jax.jit(jax.vmap(environment.reset), compiler_options=CHEAP)

    @functools.partial(jax.jit, compiler_options=CHEAP)
    def step(environment, keys, state):
        actions = jax.vmap(environment.action_space.sample)(keys)
        return jax.vmap(environment.step)(keys, state, actions)

    keys = jax.random.split(jax.random.key(1), (3, BATCH))
    with jax.numpy_rank_promotion("raise"):
        state, observation = reset(keys[0])
        for index in range(3):
            assert within(space, observation)
            fresh = registry.make(environment_id) if index == 2 else environment
            state, timestep = step(fresh, keys[index], state)
            observation = timestep.observation
    assert step._cache_size() == 1
    assert kinds(observation) == kinds(zeros_of(space, (BATCH,)))
    assert timestep.reward.shape == timestep.terminated.shape == (BATCH,)
    assert np.all(np.isfinite(timestep.reward))
    assert not np.any(timestep.info.get("blow_up", False))
