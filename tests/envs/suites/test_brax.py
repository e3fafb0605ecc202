"""brax through the adapter against brax itself; on the spring back end,
which compiles in seconds."""

import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.algos.ppo import PPOConfig, ppo
from jaxrl.envs import registry
from jaxrl.envs.suites import brax as adapter
from jaxrl.envs.suites.physics_engines import engine_conventions
from jaxrl.errors import JaxrlError
from jaxrl.types import Box

if registry.missing(adapter):
    pytest.skip(registry.missing(adapter), allow_module_level=True)

PENDULUM = "brax/inverted_pendulum"
QUICK = (PENDULUM, "brax/hopper", "brax/reacher")
STEPS = 30
KEY = jax.random.key(0)
# These programs run a handful of times: compile them fast.
compiled = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture(autouse=True)
def keys_may_be_reused():
    """The same key must give the same start and the same step, here and in the reference."""
    with jax.debug_key_reuse(False):
        yield


@functools.cache
def functions(environment_id, backend="spring"):
    """`reset` and `step` as functions of the environment:
    one program for every environment of a kind and back end."""
    del backend  # a key
    reset = compiled(lambda environment, key: environment.reset(key))
    return reset, compiled(lambda environment, state, action: environment.step(KEY, state, action))


@functools.cache
def reference(environment_id, backend):
    """brax's own environment: its `reset`, and its `step` from a state of the adapter."""
    with engine_conventions():
        from brax import envs

        theirs = envs.get_environment(environment_id.removeprefix("brax/"), backend=backend)

    def step(state, action):
        before = theirs.reset(jax.random.key_data(KEY))
        after = theirs.step(before.replace(pipeline_state=state), action)
        return after.pipeline_state, after.obs, after.reward, after.done

    return compiled(lambda key: theirs.reset(jax.random.key_data(key))), compiled(step)


def actions(environment):
    return jax.vmap(environment.action_space.sample)(jax.random.split(jax.random.key(1), STEPS))


def close(ours, theirs):
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_every_id_of_brax_is_served_or_refused():
    with engine_conventions():
        from brax import envs
    assert {*adapter.IDS, *adapter.REFUSED} == {f"brax/{name}" for name in envs._envs}
    assert not set(adapter.IDS) & set(adapter.REFUSED)
    with pytest.raises(JaxrlError, match="brax/swimmer is known to brax but not served: brax 0.14"):
        registry.make("brax/swimmer")


@pytest.mark.parametrize(
    "environment_id",
    [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in adapter.IDS],
)
def test_the_table_says_what_is_made(environment_id):
    environment = registry.make(environment_id, backend="spring")
    spec = registry.describe(environment_id).spec
    assert spec[:3] == (
        environment.observation_space,
        environment.action_space,
        environment.horizon,
    )


@pytest.mark.slow
@pytest.mark.parametrize("backend", adapter.BACKENDS)
@pytest.mark.parametrize("environment_id", adapter.IDS)
def test_every_back_end_can_be_traced(environment_id, backend):
    environment = registry.make(environment_id, backend=backend)
    state, observation = jax.eval_shape(environment.reset, KEY)
    successor, timestep = jax.eval_shape(
        environment.step, KEY, state, environment.action_space.sample(KEY)
    )
    assert observation.shape == timestep.observation.shape == environment.observation_space.shape
    assert jax.tree.structure(state) == jax.tree.structure(successor)


@pytest.mark.parametrize(
    ("environment_id", "backend"),
    [
        (PENDULUM, "spring"),
        *(
            pytest.param(PENDULUM, backend, marks=pytest.mark.slow)
            for backend in adapter.BACKENDS
            if backend != "spring"
        ),
        *(
            pytest.param(name, "spring", marks=pytest.mark.slow)
            for name in adapter.IDS
            if name != PENDULUM
        ),
        pytest.param("brax/hopper", "mjx", marks=pytest.mark.slow),
    ],
)
def test_equals_bare_brax(environment_id, backend):
    environment = registry.make(environment_id, backend=backend)
    (reset, step), (their_reset, their_step) = (
        functions(environment_id, backend),
        reference(environment_id, backend),
    )
    with engine_conventions():
        begun = their_reset(KEY)
    state, observation = reset(environment, KEY)
    close((state, observation), (begun.pipeline_state, begun.obs))
    for action in actions(environment):
        with engine_conventions():
            expected = their_step(state, action)
        state, timestep = step(environment, state, action)
        close((state, timestep.observation, timestep.reward, timestep.terminated), expected)
        assert timestep.info["blow_up"] == 0.0


def test_terminates_and_goes_on_when_brax_does():
    environment = registry.make(PENDULUM, backend="spring")
    reset, step = functions(PENDULUM)
    state, _ = reset(environment, KEY)
    ends = []
    for _ in range(STEPS):
        state, timestep = step(environment, state, jnp.ones(1))
        assert timestep.terminated == (jnp.abs(timestep.observation[1]) > 0.2)
        ends.append(bool(timestep.terminated))
    assert not ends[0] and ends[-1]  # it fell, and nothing has put it back


def test_starts_differ():
    environment = registry.make(PENDULUM, backend="spring")
    starts = np.stack(
        [functions(PENDULUM)[0](environment, key)[1] for key in jax.random.split(KEY, 32)]
    )
    assert np.all(np.abs(starts) <= 0.01)
    assert np.all(starts.std(axis=0) > 0.004)  # uniform on ±0.01: 0.0058


def test_types_are_strong_and_one_program_serves_every_step():
    environment = registry.make(PENDULUM, backend="spring")
    reset, step = functions(PENDULUM)
    state, observation = reset(environment, KEY)
    successor, timestep = step(environment, state, jnp.zeros(1))
    leaves = jax.tree.leaves((environment, state, observation, successor, timestep))
    assert all(isinstance(leaf, jax.Array) and not leaf.weak_type for leaf in leaves)
    assert jax.tree.structure(state) == jax.tree.structure(successor)
    step(registry.make(PENDULUM, backend="spring"), successor, jnp.zeros(1))
    assert step._cache_size() == 1


def test_dynamics_are_an_argument():
    environment = registry.make(PENDULUM, backend="spring")
    reset, step = functions(PENDULUM)
    tilted = environment.replace(
        system=environment.system.replace(gravity=jnp.array([9.81, 0.0, 0.0]))
    )
    state, _ = reset(environment, KEY)
    usual, other = (
        step(each, state, jnp.zeros(1))[1].observation for each in (environment, tilted)
    )
    assert other[2] > usual[2] + 0.1  # the cart falls in the direction of gravity
    assert step._cache_size() == 1


def test_a_blow_up_ends_the_episode():
    environment = registry.make(PENDULUM, backend="spring")
    reset, step = functions(PENDULUM)
    state, _ = reset(environment, KEY)
    after, timestep = step(environment, state, jnp.full(1, jnp.nan, jnp.float32))
    assert timestep.terminated and timestep.info["blow_up"] == 1.0 and timestep.reward == 0.0
    np.testing.assert_array_equal(timestep.observation, np.zeros(4))
    jax.tree.map(np.testing.assert_array_equal, after, state)


def test_ppo_trains_on_it():
    config = PPOConfig(num_envs=4, num_steps=16, minibatch_size=32, num_epochs=1, total_steps=128)
    algorithm = ppo(registry.make(PENDULUM, backend="spring"), config)
    step = compiled(algorithm.step)
    state = compiled(algorithm.init)(KEY)
    for _ in range(2):
        state, metrics = step(state)
        assert all(np.isfinite(mean.sum) for mean in metrics.values())
        assert metrics["env_blow_up"].sum == 0.0 and metrics["env_blow_up"].count == 64
    assert metrics["episode_return"].count > 0 and metrics["truncated_fraction"].sum == 0.0
    assert step._cache_size() == 1


def test_options_are_those_of_brax():
    environment = registry.make(
        "brax/halfcheetah",
        backend="spring",
        exclude_current_positions_from_observation=False,
        n_frames=2,
    )
    assert environment.observation_space == Box(-np.inf, np.inf, (18,))
    assert environment._brax()._n_frames == 2 and environment._brax().backend == "spring"
    ranges = {"healthy_z_range": [0.5, 1.5]}
    assert registry.make("brax/hopper", **ranges)._brax()._healthy_z_range == (0.5, 1.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "sprung"}, "unknown backend of brax/ant 'sprung'. Did you mean spring"),
        (
            {"reset_noise": 0.1},
            "unknown option of brax/ant 'reset_noise'. Did you mean reset_noise_scale",
        ),
        ({"n_frames": 0}, "n_frames is 0, but must be a whole number"),
        ({"healthy_reward": {}}, "must be a string, a number or a list"),
        (
            {"use_contact_forces": True},
            "brax cannot make brax/ant with .*use_contact_forces not implemented",
        ),
    ],
)
def test_refuses_bad_options(options, message):
    with pytest.raises(JaxrlError, match=message):
        registry.make("brax/ant", **options)


def test_listing_imports_no_brax():
    program = (
        "import sys\n"
        "from jaxrl.cli import main\n"
        "assert main(['envs', '--suite', 'brax']) == 0 and main(['envs', '--suite', 'playground']) "
        "== 0\n"
        "assert not {'brax', 'mujoco', 'mujoco_playground'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)
