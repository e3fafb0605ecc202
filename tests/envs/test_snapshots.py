"""Starts from a bank: restored states, their distribution, budgets, schedules, and the learners."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.algos.ppo import PPOConfig, ppo
from jaxrl.algos.sac import SACConfig, sac
from jaxrl.algos.td3 import TD3Config, td3
from jaxrl.config import check, override
from jaxrl.core.shards import SINGLE
from jaxrl.data.snapshots import bank_of, demonstrated
from jaxrl.envs import registry
from jaxrl.envs.api import Environment
from jaxrl.envs.bank import SnapshotBank
from jaxrl.envs.collect import bootstrap, collect
from jaxrl.envs.starts import outcomes
from jaxrl.envs.starts.api import Training
from jaxrl.envs.starts.snapshots import SnapshotsConfig
from jaxrl.envs.vector import VectorEnv, make_vector
from jaxrl.errors import JaxrlError
from jaxrl.types import Box, Progress, Timestep, Transition
from tests.train.tiny import same_bits

CHEAP = {"xla_backend_optimization_level": 0}
N, ROWS, HORIZON = 8, 12, 20
DEPTH = 12  # of the deep sea: one in 4,096 random dives finds its treasure


class Line(Environment):
    """A place that an action moves, for `HORIZON` steps; a reset lies below 1, and moving pays."""

    observation_space = Box(-np.inf, np.inf, (1,))
    action_space = Box(-1.0, 1.0, (1,))
    horizon = HORIZON

    def reset(self, key):
        place = jax.random.uniform(key, (1,))
        return place, place

    def step(self, key, state, action):
        place = state + action
        return place, Timestep(place, action[0], jnp.zeros((), bool))


def line_bank():
    """Places 100, 101, … in two episodes of six; their values are in three clusters."""
    place = 100.0 + jnp.arange(ROWS, dtype=jnp.float32)[:, None]
    step = jnp.arange(ROWS, dtype=jnp.int32) % 6
    return SnapshotBank(
        state=place,
        observation=place,
        action=jnp.zeros((ROWS, 1)),
        next_observation=place,
        value=jnp.float32([0.0] * 6 + [10.0] * 4 + [50.0] * 2),
        step=step,
        episode=jnp.arange(ROWS, dtype=jnp.int32) // 6,
        return_to_go=6.0 - step,
    )


def line_vector(num_envs=N, **settings):
    config = PPOConfig(num_envs=num_envs, num_steps=8, total_steps=800 * num_envs)
    if settings.get("snapshot_selection", "clusters") in ("clusters", "values", "time"):
        settings = {"clusters": 3} | settings
    config = override(config, {"starts": "snapshots"} | settings)
    return make_vector(Line(), config, SINGLE, {"bank": line_bank()})


# ---- States are restored


RESTORED = ("CartPole-v1", "Acrobot-v1", "Breakout-MinAtar", "Hopper-v5", "Humanoid-v5")


@pytest.mark.parametrize("environment_id", RESTORED)
def test_from_each_row_the_recorded_action_gives_the_recorded_observation_bit_for_bit(
    environment_id,
):
    """Recorded and restored by one compiled function, in which the rows are permuted."""
    env, steps = registry.make(environment_id), 10

    def row(state, observation):
        action = jnp.zeros(env.action_space.shape, env.action_space.dtype)
        number = jnp.zeros((), jnp.int32)
        value = jnp.zeros(())
        return SnapshotBank(state, observation, action, observation, value, number, number, value)

    shapes = jax.eval_shape(lambda key: row(*env.reset(key)), jax.random.key(0))
    empty = jax.tree.map(lambda leaf: jnp.zeros((steps * N, *leaf.shape), leaf.dtype), shapes)
    config = SnapshotsConfig(snapshot_selection="uniform", snapshot_share=0.0)
    vector = VectorEnv(env, config.make(env, SINGLE, bank=empty), N)
    step, init = jax.jit(VectorEnv.step), jax.jit(VectorEnv.init)
    state, kept = init(vector, jax.random.key(0)), []
    for key in jax.random.split(jax.random.key(1), steps):
        action = jax.vmap(env.action_space.sample)(jax.random.split(key, N))
        before = state
        # The same key throughout, so that what an environment draws is the same again.
        state, seen = step(vector, state, action, jax.random.key(2))
        kept.append((before.env_state, before.observation, action, seen.final_observation))
    rows = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *kept)
    order = np.random.default_rng(0).permutation(steps * N)
    if environment_id == "Breakout-MinAtar":  # it draws: each row in the environment it was in
        order = order[np.argsort(order % N, kind="stable")].reshape(N, steps).T.ravel()
    begun, observation, action, following = jax.tree.map(lambda leaf: leaf[order], rows)
    bank = replace(
        empty, state=begun, observation=observation, action=action, next_observation=following
    )
    first = init(vector, jax.random.key(0))
    for piece in range(steps):
        own = slice(piece * N, (piece + 1) * N)
        at_rows = replace(
            first,
            env_state=jax.tree.map(lambda leaf, own=own: leaf[own], bank.state),
            observation=bank.observation[own],
        )
        _, seen = step(vector, at_rows, bank.action[own], jax.random.key(2))
        assert same_bits(seen.observation, bank.observation[own])
        assert same_bits(seen.final_observation, bank.next_observation[own])


def test_an_episode_begins_in_the_row_that_its_origin_names():
    vector = line_vector(snapshot_share=0.5)
    state = jax.jit(vector.init)(jax.random.key(0))
    origin = np.asarray(state.origin)
    assert (origin >= 0).any() and (origin < 0).any()
    place = np.asarray(state.env_state)[:, 0]
    np.testing.assert_array_equal(place[origin >= 0], 100.0 + origin[origin >= 0])
    assert (place[origin < 0] < 1.0).all()
    np.testing.assert_array_equal(state.observation, state.env_state)


# ---- The distribution of starts


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"snapshot_selection": "uniform"}, np.full(ROWS, 1 / 12)),
        # A cluster, and then a row.
        ({"snapshot_selection": "clusters"}, np.repeat([1 / 18, 1 / 12, 1 / 6], [6, 4, 2])),
        # The upper third of the values first.
        ({"snapshot_selection": "values"}, np.repeat([0, 1 / 4], [8, 4])),
        # The last third of both episodes first.
        ({"snapshot_selection": "time"}, np.tile([0, 0, 0, 0, 1 / 4, 1 / 4], 2)),
        # The first of the two episodes, which earned as much: its last row, and nothing behind it.
        ({"snapshot_selection": "backward"}, np.eye(ROWS)[5]),
    ],
    ids=lambda value: value["snapshot_selection"] if isinstance(value, dict) else "",
)
def test_starts_have_the_probabilities_of_their_selection(settings, expected):
    """Chi-square of 20,000 draws: below the 99.9 % point of 11 degrees of freedom, 31.3."""
    vector = line_vector(num_envs=20_000, **settings)
    origin = np.asarray(jax.jit(vector.init)(jax.random.key(3)).origin)
    counts = np.bincount(origin, minlength=ROWS)
    possible = expected > 0
    assert counts[~possible].sum() == 0
    deviation = (counts - 20_000 * expected)[possible] ** 2 / (20_000 * expected[possible])
    assert deviation.sum() < 31.3


def test_the_window_over_the_values_slides_down():
    vector = line_vector(snapshot_selection="values", snapshot_steps=6400)
    state = jax.jit(vector.init)(jax.random.key(0)).starts
    refresh = jax.jit(vector.starts.refresh)
    late = refresh(state, jax.random.key(1), Progress(jnp.int32(100), 64))
    probability = np.diff(np.asarray(late.cumulative), prepend=0.0)
    np.testing.assert_allclose(probability, np.repeat([1 / 4, 0], [4, 8]), atol=1e-6)


# ---- Budgets


@functools.cache
def cut_rollout(limit, num_steps):
    vector = line_vector(snapshot_limit=limit)

    def act(memory, view, key):
        return jax.random.uniform(key, (N, 1), minval=-1.0), memory, ()

    def value(observation):
        return 3.0 * observation[..., 0] + 1.0

    @jax.jit
    def run(key):
        key_init, key_run = jax.random.split(key)
        state, _, rollout, metrics = collect(
            vector, vector.init(key_init), (), act, num_steps, key_run
        )
        values = value(rollout.transition.observation)
        following = bootstrap(rollout, values, value(state.observation), value)
        return rollout.transition, following, metrics

    return jax.device_get(run(jax.random.key(0)))


@pytest.mark.parametrize(("limit", "num_steps"), [(3, 16), (7, 40)], ids=["all steps", "slots"])
def test_a_cut_row_has_its_length_is_truncated_and_bootstraps_from_its_final_state(
    limit, num_steps
):
    seen, following, metrics = cut_rollout(limit, num_steps)
    cut = seen.truncated
    assert cut.sum() == N * (num_steps // limit) and not seen.terminated.any()
    np.testing.assert_array_equal(seen.episode_length[cut], limit)
    final = seen.observation[..., 0] + seen.action[..., 0]
    np.testing.assert_allclose(following, 3.0 * final + 1.0, rtol=1e-5)
    assert metrics["snapshot_truncated_fraction"].sum == metrics["snapshot_return"].count > 0
    assert (
        metrics["episode_return"].count == 0 and metrics["snapshot_length"].sum == limit * cut.sum()
    )


def test_natural_episodes_and_those_from_the_bank_are_counted_apart():
    vector = line_vector(snapshot_limit=4, snapshot_schedule="environments", snapshot_share=0.25)

    def act(memory, view, key):
        return jnp.ones((N, 1)), memory, ()

    @jax.jit
    def run(key):
        return collect(vector, vector.init(key), (), act, HORIZON, jax.random.key(1))

    with jax.debug_key_reuse(False):
        _, _, rollout, metrics = jax.device_get(run(jax.random.key(0)))
    origin = rollout.transition.origin
    assert (origin[:, :2] >= 0).all() and (origin[:, 2:] == -1).all()
    means = {name: float(each.sum / each.count) for name, each in metrics.items()}
    assert means["episode_return"] == means["episode_length"] == HORIZON
    assert means["snapshot_return"] == means["snapshot_length"] == 4
    assert metrics["snapshot_return"].count == 10 and metrics["episode_return"].count == 6
    np.testing.assert_allclose(means["snapshot_fraction"], 10 / 16)
    np.testing.assert_allclose(means["snapshot_episodes_per_transition"], 10 / (N * HORIZON))


def test_backward_grants_what_was_left_of_the_horizon():
    vector = line_vector(snapshot_selection="backward")
    state = jax.jit(vector.init)(jax.random.key(0))
    np.testing.assert_array_equal(state.limit, HORIZON - 5)  # from the row of step 5
    assert vector.starts.shortest == 1


@pytest.mark.parametrize("name", ["snapshot_selection", "snapshot_schedule"])
def test_whoever_counts_successes_grants_what_the_recorded_episode_had_left(name):
    starts = line_vector(**{name: "success"}).starts
    limits = starts._limit(jnp.arange(ROWS))
    np.testing.assert_array_equal(limits, HORIZON - np.arange(ROWS) % 6)
    assert starts.shortest == 1


def test_an_episode_that_a_staggered_beginning_cut_short_neither_wins_nor_loses():
    """Rows of step 0 and 5, with a reward of −1 a step as the recorded episodes had it."""
    starts = line_vector(snapshot_selection="success").starts
    starts = starts.replace(bank=replace(starts.bank, return_to_go=starts.bank.step - 20.0))
    row = jnp.int32([0, 0, 5, 5, 5, 5, -1, -1])
    length = jnp.int32([20, 19, 15, 14, 14, 15, 20, 15])
    terminated = jnp.arange(N) == 4
    seen = Transition(
        observation=jnp.zeros((N, 1)),
        action=jnp.zeros((N, 1)),
        reward=-jnp.ones(N),
        terminated=terminated,
        truncated=~terminated,
        final_observation=jnp.zeros((N, 1)),
        episode_return=-1.0 * length - (jnp.arange(N) == 5),
        episode_length=length,
        origin=row,
    )

    @jax.jit
    def count(key_init, key_draw):
        state = starts.init(key_init, N)
        return starts.draw(state, key_draw, jnp.ones(N, bool), seen, None)[0].outcomes

    counted = count(jax.random.key(0), jax.random.key(1))
    np.testing.assert_array_equal(counted.ended, np.eye(ROWS)[0] + 3 * np.eye(ROWS)[5])
    np.testing.assert_array_equal(counted.won, np.eye(ROWS)[0] + 2 * np.eye(ROWS)[5])


# ---- Schedules


@pytest.mark.parametrize(
    ("settings", "shares"),
    [
        ({}, [0.5, 0.5, 0.0, 0.0]),  # a tenth of 6,400
        ({"snapshot_steps": 1300}, [0.5, 0.5, 0.5, 0.0]),
        ({"snapshot_schedule": "decay", "snapshot_steps": 1280}, [0.5, 0.475, 0.25, 0.0]),
        ({"snapshot_schedule": "constant"}, [0.5, 0.5, 0.5, 0.5]),
        ({"snapshot_schedule": "environments"}, [0.5, 0.5, 0.0, 0.0]),
    ],
    ids=["switch", "explicit", "decay", "constant", "environments"],
)
def test_the_share_of_the_bank_after_so_many_transitions(settings, shares):
    starts = line_vector(snapshot_share=0.5, **settings).starts
    state = starts.init(jax.random.key(0), N)
    found = [float(state.share)]
    for iteration in (1, 10, 21):  # 64, 640 and 1,344 transitions
        progress = Progress(jnp.int32(iteration), 64)
        found.append(float(starts.refresh(state, jax.random.key(1), progress).share))
    np.testing.assert_allclose(found, shares, rtol=1e-6)


def test_a_tenth_of_a_short_training_is_one_iteration_at_least():
    config = PPOConfig(num_envs=N, num_steps=8, total_steps=128, starts="snapshots", clusters=3)
    vector = make_vector(Line(), config, SINGLE, {"bank": line_bank()})
    assert vector.starts.config.snapshot_steps == 64


@pytest.mark.parametrize("schedule", ["constant", "decay"])
def test_a_bank_may_be_used_for_more_transitions_than_an_int32_holds(schedule):
    steps = {"snapshot_steps": 2**33} if schedule == "decay" else {}
    training = Training(2**33, 2**30, num_envs=2**20)
    config = SnapshotsConfig(snapshot_schedule=schedule, clusters=3, **steps)
    starts = config.for_training(training).make(Line(), SINGLE, bank=line_bank())
    share = starts._share(jnp.float32(2**32), jnp.int32(0), jnp.zeros((), bool))
    assert share == (1.0 if schedule == "constant" else 0.5)
    starts._logits(jnp.float32(2**32), jnp.int32(0), None)


def test_no_start_comes_from_the_bank_after_the_switch():
    vector = line_vector(snapshot_limit=3, snapshot_steps=64)

    @jax.jit
    def run(key):
        key_init, key_steps, key_refresh = jax.random.split(key, 3)

        def one_step(state, key):
            state, seen = vector.step(state, jnp.zeros((N, 1)), key)
            return state, (state.first, state.origin, seen.origin)

        before = vector.init(key_init)
        progress = Progress(jnp.int32(1), 64)
        after = vector.refresh(before, key_refresh, progress)
        return before.origin, jax.lax.scan(one_step, after, jax.random.split(key_steps, 60))[1]

    begun, (first, origin, seen) = jax.device_get(run(jax.random.key(0)))
    assert (begun >= 0).all() and first.sum() == N * 3
    assert (origin[first] == -1).all()
    # What was under way goes on to its end.
    assert (seen[:3] >= 0).all() and (seen[3:] == -1).all()


def test_the_bank_is_left_for_good_once_episodes_succeed():
    starts = line_vector(
        snapshot_schedule="success", snapshot_success=0.5, snapshot_steps=6400
    ).starts
    state = starts.init(jax.random.key(0), N)

    def after(state, won, iteration):
        counted = replace(state.outcomes, all_ended=jnp.float32(8.0), all_won=jnp.float32(won))
        state = replace(state, outcomes=counted)
        return starts.refresh(state, jax.random.key(1), Progress(jnp.int32(iteration), 64))

    failed = after(state, 3.0, 1)
    assert failed.share == 1.0
    succeeded = after(failed, 8.0, 2)
    assert succeeded.share == 0.0
    assert after(succeeded, 0.0, 3).share == 0.0


# ---- Outcomes


def test_an_episode_wins_that_earns_what_the_recorded_one_did():
    """Who always moves earns 1 in each of the steps that the recording had left: what is asked of
    rows of step 2 and more, and 1 less than is asked of those of step 0 and 1."""
    vector = line_vector(snapshot_selection="success")
    starts = vector.starts
    beyond = 1.0 * (starts.bank.step < 2)
    bank = replace(starts.bank, return_to_go=HORIZON - starts.bank.step + beyond)
    vector = vector.replace(starts=starts.replace(bank=bank))

    @jax.jit
    def run(key):
        key_init, key_steps, key_refresh = jax.random.split(key, 3)

        def one_step(state, key):
            state, _ = vector.step(state, jnp.ones((N, 1)), key)
            return state, ()

        first = vector.init(key_init)
        state, _ = jax.lax.scan(one_step, first, jax.random.split(key_steps, 20 * HORIZON))
        return state.starts, vector.refresh(state, key_refresh, Progress(jnp.int32(1), 64)).starts

    before, after = jax.device_get(run(jax.random.key(0)))
    begun, ended, won = before.outcomes.begun, before.outcomes.ended, before.outcomes.won
    assert begun.sum() == N + before.outcomes.all_ended and (ended > 2.5).all()
    winnable = np.tile([False, False, True, True, True, True], 2)
    np.testing.assert_array_equal(won, np.where(winnable, ended, 0))
    np.testing.assert_array_equal(after.outcomes.begun, begun)
    np.testing.assert_array_equal(after.outcomes.ended, ended)
    # Neither what always nor what never succeeds is in the band: none is, and all are alike.
    np.testing.assert_allclose(np.diff(after.cumulative, prepend=0.0), 1 / ROWS, atol=1e-6)


def ended_at(counted, rows, won):
    """With episodes that began at `rows` and end in one step, `won` of which succeed."""
    rows = jnp.asarray(rows)
    zeros = jnp.zeros(len(rows))
    seen = Transition(
        *(zeros,) * 6,
        episode_return=jnp.where(jnp.asarray(won), 1.0, -1.0),
        episode_length=zeros,
        origin=rows,
    )
    return outcomes.count_ends(counted, zeros == 0, seen, jnp.zeros(ROWS), SINGLE)


def test_three_episodes_of_a_row_judge_it_however_far_apart_they_end():
    """Episodes of rows 0, 1 and 2 end in every twentieth iteration, those of row 3 in each."""
    counted = outcomes.nothing(ROWS)
    for iteration in range(60):
        rows, won = [3], [iteration % 2 == 0]
        if iteration % 20 == 19:
            rows, won = [3, 0, 1, 2], [won[0], False, iteration == 39, True]
        counted = outcomes.fade(ended_at(counted, rows, won), forget=jnp.zeros((), bool))
        if iteration == 39:  # of two episodes nothing is told
            np.testing.assert_allclose(row_chances(counted), 1 / ROWS, rtol=1e-5)
    weight = (1 - 0.9**60) / (1 - 0.9)
    np.testing.assert_allclose(counted.ended[:4], [2.71, 2.71, 2.71, weight], rtol=1e-5)
    np.testing.assert_allclose(counted.won[:3], [0.0, 0.9, 2.71], rtol=1e-5)
    np.testing.assert_allclose(row_chances(counted)[[0, 2]], 0.1 / ROWS, rtol=1e-4)
    np.testing.assert_allclose(row_chances(counted)[1], 0.9 / (ROWS - 2) + 0.1 / ROWS, rtol=1e-4)
    # What has left the band comes back with what succeeds now.
    again = ended_at(counted, [0], [True])
    assert row_chances(again)[0] > 1 / ROWS


def row_chances(counted):
    """How often each row is drawn where those in the band of success are."""
    settings = {"snapshot_selection": "success"}
    logits = line_vector(**settings).starts._logits(jnp.zeros(()), jnp.zeros((), int), counted)
    return np.asarray(jax.nn.softmax(logits))


@pytest.mark.parametrize("pause", [1, 20])
def test_the_frontier_moves_after_a_few_episodes_however_far_apart_they_end(pause):
    """One episode in `pause` iterations, always won: with 1 + 0.9 + … of at least 4, after five."""
    counted, ended = outcomes.nothing(ROWS), 0
    for iteration in range(5 * pause):
        if iteration % pause == pause - 1:
            counted, ended = ended_at(counted, [5], [True]), ended + 1
        assert bool(outcomes.succeeded(counted, 0.2)) == (ended == 5)
        counted = outcomes.fade(counted, forget=jnp.zeros((), bool))
    assert outcomes.fade(counted, forget=jnp.ones((), bool)).all_ended == 0
    assert outcomes.succeeded(ended_at(outcomes.nothing(ROWS), [5] * 4, [1, 0, 0, 0]), 0.2)
    assert not outcomes.succeeded(ended_at(outcomes.nothing(ROWS), [5] * 6, [1] + 5 * [0]), 0.2)


@functools.cache
def deep_sea(selection):
    """(share of the last episodes that found the treasure, frontier): PPO, 320 episodes or more."""
    env = registry.make("tabular/deep-sea", depth=DEPTH)
    actions = np.ones(DEPTH, np.int32)
    recording = demonstrated(env, "tabular/deep-sea", {"depth": DEPTH}, actions, jax.random.key(0))
    settings = {"starts": "fresh"}
    inputs = {}
    if selection:
        settings = {
            "starts": "snapshots",
            "snapshot_selection": selection,
            "snapshot_schedule": "constant",
        }
        inputs = {"bank": bank_of(recording)}
    sizes = {"num_envs": 8, "num_steps": DEPTH, "minibatch_size": 8 * DEPTH}
    rates = {"learning_rate": 1e-2, "anneal_learning_rate": False, "hidden_sizes": (16,)}
    algorithm = ppo(env, override(PPOConfig(total_steps=8000), sizes | rates | settings), **inputs)

    @jax.jit
    def run(key):
        def one(state, _):
            state, metrics = algorithm.step(state)
            return state, metrics["episode_return"]

        return jax.lax.scan(one, algorithm.init(key), None, 40)

    state, returns = jax.device_get(run(jax.random.key(1)))
    last = returns.sum[-5:].sum() / np.maximum(returns.count[-5:].sum(), 1)
    return float(last), getattr(state.vector.starts, "frontier", None)


def test_the_backward_algorithm_finds_what_random_actions_do_not():
    found, frontier = deep_sea("backward")
    assert found > 0.9 and frontier == -1
    without, _ = deep_sea("")
    assert without < 0.1


# ---- The learners


SIZES = {"num_envs": 4, "num_steps": 8, "total_steps": 320, "hidden_sizes": (4,)}
OFF_POLICY = {"replay_capacity": 64, "batch_size": 8, "warm_up": 16, "updates_per_transition": 0.25}
LEARNERS = {
    "ppo": (ppo, PPOConfig, {"minibatch_size": 16, "num_epochs": 1}),
    "td3": (td3, TD3Config, OFF_POLICY),
    "sac": (sac, SACConfig, OFF_POLICY),
}


SNAPSHOTS = {"starts": "snapshots", "clusters": 3, "snapshot_limit": 5, "snapshot_steps": 64}


@functools.cache
def programs(name, with_bank):
    """init and step of a learner, compiled once for every share: (config, …)."""
    factory, config_class, own = LEARNERS[name]
    inputs = {"bank": line_bank()} if with_bank else {}
    settings = SIZES | own | (SNAPSHOTS if with_bank else {})

    def init(config, key):
        return factory(Line(), config, **inputs).init(key)

    def step(config, state):
        return factory(Line(), config, **inputs).step(state)

    compiled = [jax.jit(each, compiler_options=CHEAP) for each in (init, step)]
    return override(config_class(), settings), *compiled


@functools.cache
def learned(name, share=None):
    """The state after four iterations, and the metrics of the last one."""
    config, init, step = programs(name, share is not None)
    if share is not None:
        config = override(config, {"snapshot_share": share})
    state = init(config, jax.random.key(5))
    for _ in range(4):
        state, metrics = step(config, state)
    return state, metrics


@pytest.mark.parametrize("name", LEARNERS)
def test_a_share_of_nothing_is_a_run_without_a_bank_bit_for_bit(name):
    without, metrics = learned(name)
    with_bank, more = learned(name, share=0.0)
    assert same_bits(metrics, {each: more[each] for each in metrics})
    if name == "ppo":
        assert same_bits(without.policy, with_bank.policy)
        vectors = without.vector, with_bank.vector
    else:
        assert same_bits(without.learner, with_bank.learner)
        assert same_bits(without.experience.log, with_bank.experience.log)
        vectors = without.experience.vector, with_bank.experience.vector
    assert same_bits(vectors[0].starts, vectors[1].starts.natural)
    assert same_bits(vectors[0].env_state, vectors[1].env_state)


@pytest.mark.parametrize("name", ["td3", "sac"])
def test_rows_of_the_replay_buffer_name_the_start_of_their_episode(name):
    state, _ = learned(name, share=1.0)
    rows = state.experience.log.rows
    place, origin = np.asarray(rows.observation)[:, 0], np.asarray(rows.origin)
    assert (origin >= 0).any() and (origin < 0).any()
    np.testing.assert_array_equal(origin >= 0, place > 50.0)
    cut = np.asarray(rows.truncated)
    assert cut.any() and not np.asarray(rows.terminated).any()


# ---- What is refused


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"snapshot_steps": 6401}, "snapshot_steps is 6401, but the training ends after 6400"),
        ({"snapshot_steps": 63}, "snapshot_steps is 63, less than one iteration of 64"),
        ({"snapshot_steps": 0}, "snapshot_steps is 0"),
        (
            {"snapshot_steps": 640, "snapshot_schedule": "constant"},
            "snapshot_steps is 640, which has no effect",
        ),
        ({"snapshot_limit": 0}, "snapshot_limit is 0"),
        ({"snapshot_limit": 21}, "snapshot_limit is 21, but episodes have 20 steps"),
        (
            {"snapshot_limit": 4, "snapshot_schedule": "success"},
            "snapshot_limit is 4, but with snapshot_schedule=success",
        ),
        (
            {"snapshot_limit": 4, "snapshot_selection": "backward"},
            "snapshot_limit is 4, but with snapshot_selection=backward",
        ),
        ({"clusters": 13}, "clusters is 13, but the bank has only 12 rows"),
        (
            {"clusters": 3, "snapshot_selection": "uniform"},
            "clusters is 3, which has no effect: .*=clusters, values or time, .* is 'uniform'",
        ),
        (
            {"snapshot_selection": "backward", "snapshot_schedule": "success"},
            "snapshot_schedule=success has no effect with snapshot_selection=backward",
        ),
    ],
    ids=lambda value: "" if isinstance(value, str) else ", ".join(map(str, value.values())),
)
def test_what_does_not_fit_is_refused_by_name(settings, words):
    with pytest.raises(JaxrlError, match=words):
        line_vector(**settings)


@pytest.mark.parametrize(
    ("num_envs", "share", "words"),
    [
        (1, 0.5, r"which is 0.5 of num_envs=1: .* choose 0 \(0 of them\) or 1 \(1 of them\)"),
        (8, 0.3, r"which is 2.4 of num_envs=8: .* choose 0.25 \(2 of them\) or 0.375 \(3 of them"),
        (8, np.float32([0.5, 0.99]), r"which is 7.92 of .* choose 0.875 .* or 1 \(8 of them\)"),
        (10**6, 1e-7, r"which is 0.1 of .* choose 0 \(0 of them\) or 1e-06 \(1 of them\)"),
    ],
)
def test_a_share_of_the_environments_is_a_whole_number_of_them(num_envs, share, words):

    def begin(num_envs, share):
        config = SnapshotsConfig(snapshot_schedule="environments", snapshot_share=share)
        config.for_training(Training(800 * num_envs, 8 * num_envs, num_envs))

    with pytest.raises(JaxrlError, match=words):
        begin(num_envs, share)
    for written in (0.0, 1.0, 0.333333, np.float32([1 / 6, 5 / 6])):
        begin(6, written)


def test_successes_at_which_nothing_happens_are_refused():
    without = {"starts": "snapshots", "bank": "bank.npz", "snapshot_success": 0.5}
    with pytest.raises(JaxrlError, match="snapshot_success is 0.5, which has no effect"):
        check(override(PPOConfig(), without))
    for reader in ({"snapshot_schedule": "success"}, {"snapshot_selection": "backward"}):
        check(override(PPOConfig(), without | reader))


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_outside_of_the_unit_interval_is_refused(share):
    config = PPOConfig(starts="snapshots", snapshot_share=share)
    with pytest.raises(JaxrlError, match="snapshot_share is"):
        ppo(Line(), config, bank=line_bank())
