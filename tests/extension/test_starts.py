"""A start distribution of one's own, which learns from outcomes and reads a bank,
under PPO as it is."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.algos.ppo import PPOConfig
from jaxrl.core.shards import SINGLE
from jaxrl.envs.collect import collect
from jaxrl.envs.vector import make_vector
from jaxrl.train.files.folder import read_description
from jaxrl.train.saved import experiment_of
from jaxrl.train.trust import Trust
from tests.extension.conftest import FAILURES, LENGTH, LEVERS, PPO
from tests.extension.outside.failures import Bank, FailuresConfig
from tests.extension.outside.levers import NEITHER, Levers
from tests.train.tiny import newest_state, records, same_bits

ITERATIONS = 24
WORDS = [*PPO, *FAILURES, "--total-steps", str(40 * ITERATIONS)]
ALLOW = [word for name in (FAILURES[1], LEVERS[1]) for word in ("--imports", name)]


def test_ppo_begins_where_it_fails_and_goes_on_where_it_was_stopped(
    run, stopped, bank, tmp_path, monkeypatch
):
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    run(*WORDS, "--bank", bank, "--folder", whole)
    _, state = newest_state(whole, experiment_of(whole, Trust(True)))
    known = state.vector.starts
    played, failed = np.asarray(known.played), np.asarray(known.failed)
    assert failed[NEITHER] == played[NEITHER] > 2 * max(played[:NEITHER]), (
        "it comes more often than both others"
    )
    assert np.all(failed[:NEITHER] <= played[:NEITHER]) and known.known.all()
    places, seen = known.ended
    np.testing.assert_array_equal(places.good, NEITHER)
    np.testing.assert_array_equal(places.count % LENGTH, 0)
    np.testing.assert_allclose(seen[:, 0], places.count / LENGTH)
    assert list(read_description(whole)["inputs"]) == ["bank"]

    assert stopped(7, *WORDS, "--bank", bank, "--folder", halves) == 128 + 15
    run("resume", halves, *ALLOW, "--quiet")
    assert records(whole) == records(halves)
    assert same_bits(state, newest_state(halves, experiment_of(halves, Trust(True)))[1])

    bank.unlink()
    monkeypatch.chdir("/")
    assert "deterministic" in run("eval", whole, "--episodes", 8, *ALLOW)[0]


def test_the_origin_of_an_episode_is_the_row_of_the_bank_that_it_began_at(bank):
    """And K where it began where the last failure in its environment had ended."""
    env, n = Levers(), 6
    config = PPOConfig(num_envs=n, starts=FailuresConfig(again=0.5))
    vector = make_vector(env, config, SINGLE, {"bank": Bank.read(bank, env)})

    def act(memory, view, key):
        return jnp.zeros(n, jnp.int32), memory, ()

    @jax.jit
    def run(key):
        state = vector.init(key)
        after, _, rollout, _ = collect(vector, state, (), act, 20 * LENGTH, jax.random.key(1))
        return state, after, rollout.transition

    with jax.debug_key_reuse(False):
        first, after, seen = jax.device_get(run(jax.random.key(0)))
    origin = seen.origin.reshape(20, LENGTH, n)
    assert np.all(origin == origin[:, :1]), "of every step of the episode"
    np.testing.assert_array_equal(origin[0, 0], first.env_state.good)
    paid = seen.reward.reshape(20, LENGTH, n).sum(1)
    np.testing.assert_array_equal(paid[origin[:, 0] == 0], LENGTH)
    np.testing.assert_array_equal(paid[(origin[:, 0] == 1) | (origin[:, 0] == NEITHER)], 0)
    again = seen.observation[..., 0].reshape(20, LENGTH, n)[:, 0] >= 1.0
    np.testing.assert_array_equal(again, origin[:, 0] == 3)
    assert again.any() and set(np.unique(origin)) == {0, 1, 2, 3}
    counted = [np.sum(origin[:, 0] == row) for row in range(3)]
    np.testing.assert_array_equal(after.starts.played, counted)
    np.testing.assert_array_equal(after.starts.failed, [0, *counted[1:]])
