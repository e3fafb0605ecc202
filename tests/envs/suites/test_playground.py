"""MuJoCo Playground through the adapter against Playground itself. MJX compiles for long:
one program of a pendulum."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs import registry
from jaxrl.envs.suites import playground as adapter
from jaxrl.envs.suites.physics_engines import engine_conventions
from jaxrl.errors import JaxrlError

if registry.missing(adapter):
    pytest.skip(registry.missing(adapter), allow_module_level=True)

PENDULUM = "playground/PendulumSwingup"
KEY = jax.random.key(0)
# These programs run a handful of times: compile them fast.
compiled = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture(autouse=True)
def keys_may_be_reused():
    """The same key must give the same start and the same step, here and in the reference."""
    with jax.debug_key_reuse(False):
        yield


@functools.cache
def step_of(environment_id):
    """`step` as a function of the environment: one program for every environment of a kind."""
    return compiled(lambda environment, state, action: environment.step(KEY, state, action))


@functools.cache
def begun(environment_id):
    """An environment, and first states and observations of four of its episodes."""
    environment = registry.make(environment_id)
    reset = compiled(lambda environment, key: environment.reset(key))
    starts = [reset(environment, key) for key in jax.random.split(KEY, 4)]
    assert reset._cache_size() == 1
    return environment, starts


def close(ours, theirs):
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_every_id_of_playground_is_served_or_refused():
    with engine_conventions():
        from mujoco_playground import registry as theirs
    assert {*adapter.IDS, *adapter.REFUSED} == {f"playground/{name}" for name in theirs.ALL_ENVS}
    assert not set(adapter.IDS) & set(adapter.REFUSED)


def test_what_would_be_downloaded_is_refused_first(monkeypatch):
    with engine_conventions():
        from mujoco_playground._src import mjx_env
    monkeypatch.setattr(
        mjx_env,
        "ensure_menagerie_exists",
        lambda: pytest.fail("it was about to clone a repository"),
    )
    with pytest.raises(
        JaxrlError, match="playground/Go1Getup is known to playground but not served: its robot"
    ):
        registry.make("playground/Go1Getup")


@pytest.mark.parametrize(
    "environment_id",
    [
        pytest.param(name, marks=[] if name == PENDULUM else [pytest.mark.slow])
        for name in adapter.IDS
    ],
)
def test_the_table_says_what_is_made(environment_id):
    environment = registry.make(environment_id)
    theirs = adapter._build(environment_id, ())[0]
    spec = registry.describe(environment_id).spec
    assert spec[:3] == (
        environment.observation_space,
        environment.action_space,
        environment.horizon,
    )
    assert spec.horizon == theirs._config.episode_length and theirs._config.impl == "jax"
    np.testing.assert_array_equal(np.unique(theirs.mj_model.actuator_ctrlrange), [-1.0, 1.0])


@pytest.mark.parametrize(
    "environment_id",
    [
        PENDULUM,
        *(
            pytest.param(f"playground/{name}", marks=pytest.mark.slow)
            for name in ("CheetahRun", "ReacherEasy")
        ),
    ],
)
def test_equals_bare_playground(environment_id):
    environment, starts = begun(environment_id)
    with engine_conventions():
        from mujoco_playground import dm_control_suite

        name = environment_id.removeprefix("playground/")
        theirs = dm_control_suite.load(name, config_overrides={"impl": "jax"})
        first = jax.eval_shape(theirs.reset, jax.random.key_data(KEY))
        empty = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), first)
        step = compiled(lambda state, action: theirs.step(empty.replace(data=state), action))
    for state, observation in starts:
        with engine_conventions():
            seen = theirs._get_obs(state, {})
        close(observation, seen)
        for action in (
            environment.action_space.sample(KEY),
            jnp.full(environment.action_space.shape, 2.0, jnp.float32),
        ):
            with engine_conventions():
                after = step(state, action)
            state, timestep = step_of(environment_id)(environment, state, action)
            close(
                (state, timestep.observation, timestep.reward),
                (after.data, after.obs, after.reward),
            )
            assert timestep.terminated == after.done == 0.0 and timestep.info["blow_up"] == 0.0


def test_starts_differ():
    angles = np.stack([observation for _, observation in begun(PENDULUM)[1]])[:, :2]
    np.testing.assert_allclose(
        np.linalg.norm(angles, axis=1), 1.0, rtol=1e-5
    )  # a cosine and a sine
    assert len(np.unique(angles[:, 0])) == 4


def test_types_are_strong_and_one_program_serves_every_step():
    environment, ((state, observation), *_) = begun(PENDULUM)
    step = step_of(PENDULUM)
    successor, timestep = step(environment, state, jnp.zeros(1))
    leaves = jax.tree.leaves((environment, state, observation, successor, timestep))
    assert all(isinstance(leaf, jax.Array) and not leaf.weak_type for leaf in leaves)
    assert jax.tree.structure(state) == jax.tree.structure(successor)
    step(registry.make(PENDULUM), successor, jnp.zeros(1))
    assert step._cache_size() == 1


def test_dynamics_are_an_argument():
    environment, ((state, _), *_) = begun(PENDULUM)
    heavy = environment.replace(
        model=environment.model.replace(body_mass=4.0 * environment.model.body_mass)
    )
    usual, other = (
        step_of(PENDULUM)(each, state, jnp.ones(1))[1].observation for each in (environment, heavy)
    )
    assert abs(usual[2] - other[2]) > 1e-3  # another angular velocity
    assert step_of(PENDULUM)._cache_size() == 1


def test_a_blow_up_ends_the_episode():
    environment, ((state, _), *_) = begun(PENDULUM)
    after, timestep = step_of(PENDULUM)(environment, state, jnp.full(1, jnp.nan, jnp.float32))
    assert timestep.terminated and timestep.info["blow_up"] == 1.0 and timestep.reward == 0.0
    np.testing.assert_array_equal(timestep.observation, np.zeros(3))
    jax.tree.map(np.testing.assert_array_equal, after, state)


def test_options_are_numbers_of_their_configuration():
    environment = registry.make(PENDULUM, episode_length=50, ctrl_dt=0.04)
    assert environment.horizon == 50
    assert environment._playground().n_substeps == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"episode_lenght": 5},
            "unknown option of playground/PendulumSwingup 'episode_lenght'. Did you mean",
        ),
        ({"episode_length": 0}, "episode_length is 0, but must be a whole number"),
        ({"sim_dt": -0.01}, "sim_dt is -0.01, but must lie in"),
        ({"impl": "warp"}, "unknown option"),
    ],
)
def test_refuses_bad_options(options, message):
    with pytest.raises(JaxrlError, match=message):
        registry.make(PENDULUM, **options)
