"""The MuJoCo suite: states are rows of numbers, callbacks survive every transformation,
blow-ups end episodes."""

import dataclasses
import functools
import os
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs import registry
from jaxrl.envs.starts.fresh import Fresh
from jaxrl.envs.suites import mujoco as suite
from jaxrl.envs.vector import VectorEnv, episode_metrics
from jaxrl.errors import JaxrlError

pytest.importorskip("mujoco")
pytest.importorskip("gymnasium")

from jaxrl.envs.suites.mujoco import host  # noqa: E402

IDS = suite.IDS
TASKS = ("HalfCheetah-v5", "Ant-v5")  # stepped as a batch, and one after the other
HEAVY = (
    TASKS[0],
    *(pytest.param(each, marks=pytest.mark.slow) for each in TASKS[1:]),
)  # long compilations


@functools.cache
def made(environment_id):
    return registry.make(environment_id)


@functools.cache
def compiled(environment_id):
    """(reset, step) of a batch."""
    env = made(environment_id)
    return jax.jit(jax.vmap(env.reset)), jax.jit(jax.vmap(env.step, in_axes=(None, 0, 0)))


def begin(environment_id, rows, seed=0):
    state, _ = compiled(environment_id)[0](jax.random.split(jax.random.key(seed), rows))
    return state


def actions(environment_id, *shape, seed=1):
    space = made(environment_id).action_space
    return jax.random.uniform(
        jax.random.key(seed), (*shape, *space.shape), minval=-space.high, maxval=space.high
    )


def roll(environment_id, state, steps):
    """Step a batch under the same random actions whatever it was before: (state, last Timestep)."""
    seen = None
    for action in actions(environment_id, steps, len(state)):
        state, seen = compiled(environment_id)[1](jax.random.key(0), state, action)
    return state, seen


@pytest.mark.parametrize("environment_id", TASKS)
def test_a_snapshot_goes_on_bit_for_bit(environment_id, tmp_path):
    middle, _ = roll(environment_id, begin(environment_id, 4), 30)
    np.save(tmp_path / "snapshot.npy", middle)
    went_on, seen = roll(environment_id, middle, 20)
    roll(environment_id, begin(environment_id, 4, seed=9), 7)  # whatever happens in between
    again, seen_again = roll(environment_id, jnp.asarray(np.load(tmp_path / "snapshot.npy")), 20)
    np.testing.assert_array_equal(went_on, again)
    jax.tree.map(np.testing.assert_array_equal, seen, seen_again)


@pytest.mark.parametrize("environment_id", TASKS)
def test_a_row_does_not_depend_on_the_others(environment_id):
    state = begin(environment_id, 8)
    action = actions(environment_id, 8)
    together, _ = compiled(environment_id)[1](jax.random.key(0), state, action)
    for row in (0, 5):
        alone, _ = compiled(environment_id)[1](
            jax.random.key(0), state[row : row + 1], action[row : row + 1]
        )
        np.testing.assert_array_equal(alone[0], together[row])


@pytest.mark.parametrize("environment_id", HEAVY)
def test_vmap_over_seeds_under_scan_with_donation_is_the_same_as_one_by_one(environment_id):
    env = made(environment_id)
    vector = VectorEnv(env, Fresh(env), 3)
    run = actions(environment_id, 5, 3)

    def chunk(state):
        def step(state, action):
            state, seen = vector.step(state, action, jax.random.key(2))
            return state, seen.reward

        return jax.lax.scan(step, state, run)

    begun = [vector.init(jax.random.key(seed)) for seed in (3, 4)]
    alone = [jax.jit(chunk)(state) for state in begun]
    members = jax.tree.map(lambda *leaves: jnp.stack(leaves), *begun)
    state, rewards = jax.jit(jax.vmap(chunk), donate_argnums=0)(members)
    for member, (expected, reward) in enumerate(alone):
        np.testing.assert_array_equal(state.env_state[member], expected.env_state)
        np.testing.assert_allclose(rewards[member], reward, rtol=1e-6)


@pytest.mark.parametrize("environment_id", TASKS)
def test_devices_and_threads_may_call_at_once(environment_id):
    state, action = begin(environment_id, 4), actions(environment_id, 4)
    expected, _ = compiled(environment_id)[1](jax.random.key(0), state, action)
    found = {}

    def work(device):
        mine = jax.device_put((state, action), device)
        for _ in range(5):
            found[device], _ = compiled(environment_id)[1](jax.random.key(0), *mine)

    threads = [threading.Thread(target=work, args=(device,)) for device in jax.devices()[:4]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for seen in found.values():
        np.testing.assert_array_equal(seen, expected)


@pytest.mark.parametrize("environment_id", HEAVY)
def test_a_blow_up_ends_that_episode_is_counted_and_stays_finite(
    environment_id, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # where MuJoCo would write its log
    env = made(environment_id)
    vector = VectorEnv(env, Fresh(env), 4)
    state = vector.init(jax.random.key(0))
    row = np.array(state.env_state[1]).reshape(-1).view(np.float64)
    row[1 + env.SIZES[0] :][: env.SIZES[1]] = 1e12  # metres a second
    broken = np.array(state.env_state)
    broken[1] = row.view(np.uint32).reshape(-1, 2)
    state, seen = jax.jit(vector.step)(
        dataclasses.replace(state, env_state=jnp.asarray(broken)),
        actions(environment_id, 4),
        jax.random.key(1),
    )
    np.testing.assert_array_equal(seen.terminated, [False, True, False, False])
    np.testing.assert_array_equal(seen.info["blow_up"], [0.0, 1.0, 0.0, 0.0])
    assert all(
        np.isfinite(leaf).all() for leaf in (seen.final_observation, seen.reward, state.observation)
    )
    assert float(episode_metrics(seen)["env_blow_up"].sum.mean()) == 0.25
    assert np.abs(np.asarray(state.env_state).reshape(4, -1).view(np.float64)).max() < 1e3
    assert not list(tmp_path.iterdir())


def test_a_failing_callback_is_an_exception_with_the_environments_name(monkeypatch):
    env = made("Swimmer-v5")
    state, _ = env.reset(jax.random.key(0))

    def fail(*_):
        raise OSError("no more threads")

    monkeypatch.setattr(host.simulation(env.physics.model), "step", fail)
    with pytest.raises(
        jax.errors.JaxRuntimeError, match="Swimmer-v5: the physics failed: no more threads"
    ):
        jax.block_until_ready(jax.jit(env.step)(jax.random.key(0), state, jnp.zeros(2)))


def test_one_core_is_enough():
    program = """
import os, jax
os.sched_setaffinity(0, {0})
from jaxrl.envs import registry
for name in ("HalfCheetah-v5", "Ant-v5"):
    env = registry.make(name)
    state, _ = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 256))
    action = jax.numpy.zeros((256, *env.action_space.shape))
    step = lambda state, key: (jax.vmap(env.step, (None, 0, 0))(key, state, action)[0], 0)
    run = jax.jit(lambda state: jax.lax.scan(step, state, jax.random.split(jax.random.key(1), 4)))
    jax.block_until_ready(run(state))
"""
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1", "PJRT_NPROC": "1"}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=120)


@pytest.mark.parametrize("environment_id", IDS)
def test_a_state_is_mujocos_own_data_and_back(environment_id):
    env = made(environment_id)
    state = np.asarray(begin(environment_id, 2)[1])
    data = env.physics.unpack(state)
    np.testing.assert_array_equal(env.physics.pack(data), state)


@pytest.mark.parametrize("environment_id", TASKS)
def test_gpus_and_tpus_get_the_same_by_value(environment_id, monkeypatch):
    """The callback for devices whose buffers are not memory of the host."""
    env, state, action = made(environment_id), begin(environment_id, 4), actions(environment_id, 4)
    expected = compiled(environment_id)[1](jax.random.key(0), state, action)
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *given, cpu, default: default(*given))
    found = jax.jit(jax.vmap(lambda *given: env.step(jax.random.key(0), *given)))(state, action)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_options_are_gymnasiums_and_numbers_may_be_batched():
    env = registry.make(
        "HalfCheetah-v5", ctrl_cost_weight=0.0, exclude_current_positions_from_observation=False
    )
    assert env.observation_space.shape == (18,)
    state, observation = env.reset(jax.random.key(0))
    assert observation.shape == (18,)
    _, free = env.step(jax.random.key(0), state, jnp.ones(6))
    _, dear = made("HalfCheetah-v5").step(jax.random.key(0), state, jnp.ones(6))
    assert float(free.reward - dear.reward) == pytest.approx(0.6, abs=1e-6)
    costs = jnp.array([0.0, 0.1, 1.0])
    rewards = jax.vmap(
        lambda cost: (
            env.replace(ctrl_cost_weight=cost).step(jax.random.key(0), state, jnp.ones(6))[1].reward
        )
    )(costs)
    np.testing.assert_allclose(rewards - rewards[0], -6.0 * costs, atol=1e-5)
    assert registry.make("Hopper-v5", terminate_when_unhealthy=False).observation_space.shape == (
        11,
    )
    assert registry.make(
        "Ant-v5", include_cfrc_ext_in_observation=False
    ).observation_space.shape == (27,)


@pytest.mark.parametrize(
    ("environment_id", "options", "message"),
    [
        ("HalfCheetah", {}, "unknown environment 'HalfCheetah'. Did you mean HalfCheetah-v5"),
        (
            "HalfCheetah-v4",
            {},
            "HalfCheetah-v4 is known to mujoco but not served: .*HalfCheetah-v5",
        ),
        ("Hopper-v5", {"backend": "mjc"}, "unknown backend 'mjc'. Did you mean mujoco or mjx"),
        (
            "Hopper-v5",
            {"backend": "mjx", "impl": "cuda"},
            "impl is 'cuda', but must be one of: jax, warp",
        ),
        (
            "Hopper-v5",
            {"healthy_reward": "much"},
            "healthy_reward is 'much', but must be one number",
        ),
        ("Hopper-v5", {"healthy_z_range": 1.0}, "healthy_z_range is 1.0, but must be two numbers"),
        (
            "Hopper-v5",
            {"terminate_when_unhealthy": 1},
            "terminate_when_unhealthy is 1, but must be true or false",
        ),
        (
            "Hopper-v5",
            {"heathy_reward": 1.0},
            "unknown option of Hopper-v5 'heathy_reward'. Did you mean healthy_reward",
        ),
    ],
)
def test_bad_input_is_named(environment_id, options, message):
    with pytest.raises(JaxrlError, match=message):
        registry.make(environment_id, **options)


def test_a_state_of_another_task_is_refused():
    with pytest.raises(
        JaxrlError, match=r"a state of Hopper-v5 is uint32 \[19, 2\], but got uint32 \[28, 2\]"
    ):
        made("Hopper-v5").physics.unpack(np.zeros((28, 2), np.uint32))
    with pytest.raises(JaxrlError, match=r"Hopper-v5.*\[28, 2\]"):
        made("Hopper-v5").step(jax.random.key(0), jnp.zeros((28, 2), jnp.uint32), jnp.zeros(3))


def test_a_model_that_is_not_the_tasks_is_refused(monkeypatch):
    from jaxrl.envs.suites.mujoco.runners import Swimmer

    monkeypatch.setattr(Swimmer, "SIZES", (5, 5, 3))
    with pytest.raises(
        JaxrlError,
        match=r"Swimmer-v5: swimmer.xml has sizes \(nq, nv, nu\) = \(5, 5, 2\).*written for",
    ):
        registry.make("Swimmer-v5")


def test_a_missing_extra_gives_the_command(monkeypatch):
    real = suite.importlib.util.find_spec
    monkeypatch.setattr(
        suite.importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "gymnasium" else real(name, *rest),
    )
    with pytest.raises(JaxrlError, match=r"pip install 'jaxrl\[mujoco\]'"):
        registry.make("Hopper-v5")


def test_reference_scores_are_those_of_the_usual_task():
    known = {name.removesuffix("-v5"): made(name).reference_scores for name in IDS}
    assert {name for name, scores in known.items() if scores} == {
        "HalfCheetah",
        "Hopper",
        "Walker2d",
        "Ant",
    }
    assert known["Hopper"] == (-20.272305, 3234.3)
    on_device = jax.tree.map(jnp.asarray, made("Ant-v5"))  # as a program holds it
    assert on_device.reference_scores == known["Ant"] == (-325.6, 3879.7)
    for options in (
        {"ctrl_cost_weight": 0.2},
        {"exclude_current_positions_from_observation": False},
    ):
        assert registry.make("HalfCheetah-v5", **options).reference_scores is None
