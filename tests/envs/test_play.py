"""Playing whole episodes: in pieces, from given states, kept;
and as in a vector that resets itself."""

import functools
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.algos.ppo import PPOConfig, ppo_agent
from jaxrl.algos.stepmix import StepMixConfig, stepmix_agent
from jaxrl.core.tabular import Mixture
from jaxrl.envs.collect import collect
from jaxrl.envs.play import episodes, is_over, play, play_advance, play_and_keep, play_begin
from jaxrl.envs.registry import make
from jaxrl.envs.starts.fresh import Fresh
from jaxrl.envs.vector import VectorEnv
from jaxrl.nn.actor_critic import NetworkConfig
from jaxrl.types import Actor, View
from tests.algos.walk import Walk
from tests.envs.acting import counting
from tests.envs.test_vector import HORIZON, Scripted

EPISODES = 40
CHEAP = {
    "xla_backend_optimization_level": 0
}  # these programs run a handful of times: compile them fast


def earn(count, view, key):
    """A reward that tells of the memory, of the last reward and of the key;
    one action in eight terminates.

    Products are with powers of two, so that every compiler finds the same bits.
    """
    draw = jax.random.uniform(key, (2,))
    return jnp.stack([draw[0] + 0.25 * count + 0.5 * view.reward, 0.571 * draw[1]])


REMEMBERING = counting(earn, begin=3)


def begin(num_episodes=EPISODES, start=None):
    """The same episodes at every call, for all have the same key."""
    return play_begin(Scripted(), REMEMBERING.agent, (), jax.random.key(0), num_episodes, start)


@functools.partial(jax.jit, compiler_options=CHEAP)
def advance(begun, num_steps):
    """One compilation for pieces of every length."""
    return play_advance(
        Scripted(), begun, functools.partial(REMEMBERING.act, "stochastic"), num_steps
    )


def raw(tree):
    """Leaves as NumPy arrays, keys included."""

    def array(leaf):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    return [array(leaf) for leaf in jax.tree.leaves(tree)]


def assert_same_bits(one, other):
    for a, b in zip(raw(one), raw(other), strict=True):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


@pytest.mark.parametrize("pieces", [[1] * HORIZON, [2, 2, 2], [1, 3, 100], [0, 4, 0, 1]])
def test_episodes_in_pieces_have_the_bits_of_episodes_at_once(pieces):
    at_once, in_pieces = advance(begin(), HORIZON), begin()
    for piece in pieces:
        assert not is_over(Scripted(), in_pieces)
        in_pieces = advance(in_pieces, piece)
    assert is_over(Scripted(), in_pieces)
    assert_same_bits(in_pieces, at_once)
    agent, key = REMEMBERING.agent, jax.random.key(0)
    whole = jax.jit(lambda: play(Scripted(), agent, (), key, EPISODES, "stochastic"))()
    assert_same_bits(episodes(in_pieces), whole)
    assert set(np.asarray(whole.lengths).tolist()) == set(range(1, HORIZON + 1))
    assert_same_bits(advance(at_once, 3), at_once)  # nothing is played beyond the end


def test_episodes_begin_at_given_states():
    ages = jnp.arange(4.0)
    given = jnp.stack([0.1 * ages, 100.0 + ages], axis=1)
    begun = begin(4, (given, given))
    np.testing.assert_array_equal(begun.state, given)
    np.testing.assert_array_equal(begun.view.observation, given)
    np.testing.assert_array_equal(begun.memory, [3] * 4)
    assert begun.view.first.all() and not begun.view.reward.any() and not begun.view.action.any()
    after = advance(begun, 2)
    np.testing.assert_array_equal(after.state, given + jnp.array([[0.0, 2.0]]))
    np.testing.assert_array_equal(after.memory, [5] * 4)


def keep(before, after, timestep):
    return {
        "before": before.view,
        "running": before.running,
        "after": after.view,
        "reward": timestep.reward,
    }


def test_what_is_kept_of_each_step_is_that_of_the_episodes_that_are_played():
    act = functools.partial(REMEMBERING.act, "stochastic")
    kept_play, kept = jax.jit(lambda: play_and_keep(Scripted(), begin(), act, HORIZON, keep))()
    assert_same_bits(kept_play, advance(begin(), HORIZON))
    kept, (returns, lengths) = jax.device_get((kept, episodes(kept_play)))
    np.testing.assert_array_equal(kept["running"].sum(0), lengths)
    assert (np.diff(kept["running"].astype(int), axis=0) <= 0).all(), "what is over stays over"
    earned = (kept["reward"].astype(np.float64) * kept["running"]).sum(0)
    np.testing.assert_allclose(returns, earned, rtol=1e-6)
    np.testing.assert_array_equal(
        kept["before"].first, (np.arange(HORIZON) == 0)[:, None] & np.ones(EPISODES, bool)
    )
    np.testing.assert_array_equal(
        kept["before"].observation[..., 1], np.arange(HORIZON)[:, None] + np.zeros(EPISODES)
    )
    np.testing.assert_array_equal(kept["after"].reward, kept["reward"])
    for field in View.__dataclass_fields__:
        np.testing.assert_array_equal(
            getattr(kept["after"], field)[:-1], getattr(kept["before"], field)[1:]
        )


def test_the_view_is_that_of_a_vector_for_the_same_actions():
    actions = np.random.default_rng(0).normal(size=(HORIZON, EPISODES, 2)).astype(np.float32)
    actions[..., 1] = np.random.default_rng(1).random((HORIZON, EPISODES)) < 0.15
    vector = VectorEnv(Scripted(), Fresh(Scripted()), EPISODES)

    @jax.jit
    def run(actions):
        def step(state, inputs):
            following, seen = vector.step(state, *inputs)
            return following, (state.view, seen)

        first = vector.init(jax.random.key(0))
        views, seen = jax.lax.scan(
            step, first, (actions, jax.random.split(jax.random.key(1), HORIZON))
        )[1]
        # Each episode finds its own row of actions by the number that it remembers.
        scripted = counting(lambda count, view, key: actions[count % HORIZON, count // HORIZON])
        begun = play_begin(
            Scripted(),
            scripted.agent,
            (),
            jax.random.key(2),
            EPISODES,
            (first.env_state, first.observation),
        )
        begun = replace(begun, memory=HORIZON * jnp.arange(EPISODES, dtype=jnp.int32))
        act = functools.partial(scripted.act, "deterministic")
        played, kept = play_and_keep(Scripted(), begun, act, HORIZON, keep)
        return views, seen, kept, episodes(played)

    views, seen, kept, (returns, lengths) = jax.device_get(run(actions))
    running = kept["running"]
    for field in View.__dataclass_fields__:
        one, other = getattr(views, field), getattr(kept["before"], field)
        assert one.dtype == other.dtype and one.shape == other.shape
        np.testing.assert_array_equal(one[running], other[running])
    ends = (seen.terminated | seen.truncated) & running
    np.testing.assert_array_equal(ends.sum(0), 1)
    np.testing.assert_array_equal(seen.episode_return.T[ends.T], returns)
    np.testing.assert_array_equal(seen.episode_length.T[ends.T], lengths)
    assert len(set(lengths.tolist())) > 2


class Case(NamedTuple):
    """Who plays where, in which mode; and whether it must be drawn which actions are taken."""

    env: Any
    actor: Actor
    mode: str = "deterministic"


def ppo_case():
    config = PPOConfig(network=NetworkConfig(hidden_sizes=(8,)), normalize_observations=True)
    agent = ppo_agent(Walk(), config)
    policy = agent.init(jax.random.key(5))
    moments = policy.observation_moments._replace(
        mean=jnp.array([200.0, 0.5]), variance=jnp.array([2000.0, 0.3])
    )
    return Case(Walk(), Actor(replace(policy, observation_moments=moments), agent))


def stepmix_case():
    """The bold policy takes other actions than the cautious one,
    which is what a memory not begun would follow."""
    env = make("tabular/deep-sea", depth=5)
    agent = stepmix_agent(env, StepMixConfig())
    bold, cautious = (jnp.zeros(env.rewards.shape).at[..., action].set(1.0) for action in (1, 0))
    bold = bold.at[1::2, :, 0].set(1.0).at[1::2, :, 1].set(0.0)
    return Case(env, Actor(Mixture(bold, cautious, jnp.float32(0.75)), agent))


def counting_case():
    def act(count, view, key):
        return jnp.stack(
            [
                0.1 * count + view.reward,
                jnp.where(view.observation[0] + 0.1 * count > 1.0, 1.0, 0.0),
            ]
        )

    return Case(Scripted(), counting(act, begin=3))


CASES = {"ppo": ppo_case, "stepmix": stepmix_case, "counting": counting_case}


@pytest.mark.parametrize("name", CASES)
def test_two_episodes_in_a_vector_of_one_environment_are_the_same_two_played_alone(name):
    env, actor, mode = CASES[name]()
    vector = VectorEnv(env, Fresh(env), 1)
    act_of_one = functools.partial(actor.act, mode)

    def act(memory, view, key):
        action, memory = jax.vmap(act_of_one)(memory, view, key[None])
        return action, memory, ()

    @functools.partial(jax.jit, compiler_options=CHEAP)
    def run(key):
        key_init, key_collect = jax.random.split(key)
        state = vector.init(key_init)
        own, memory = state.starts.key[0], jax.tree.map(lambda leaf: leaf[None], actor.memory)
        steps, options = 2 * env.horizon, {"initial_memory": actor.memory}
        _, _, rollout, _ = collect(vector, state, memory, act, steps, key_collect, **options)
        start = jax.vmap(lambda number: env.reset(jax.random.fold_in(own, number)))(
            jnp.arange(2, dtype=jnp.uint32)
        )
        begun = play_begin(env, actor.agent, actor.policy, jax.random.key(9), 2, start)
        played, kept = play_and_keep(env, begun, act_of_one, env.horizon, keep)
        return rollout.transition, kept, episodes(played)

    with jax.debug_key_reuse(False):  # the starts are made twice on purpose
        seen, kept, (returns, lengths) = jax.device_get(run(jax.random.key(1)))
    ends = np.flatnonzero(seen.terminated[:, 0] | seen.truncated[:, 0])
    for episode, (begin_, end) in enumerate([(0, ends[0] + 1), (ends[0] + 1, ends[1] + 1)]):
        assert lengths[episode] == end - begin_
        assert returns[episode] == seen.episode_return[end - 1, 0]
        of_vector = jax.tree.map(lambda leaf, rows=slice(begin_, end): leaf[rows, 0], seen)
        of_play = jax.tree.map(
            lambda leaf, row=episode, length=end - begin_: leaf[:length, row], kept
        )
        np.testing.assert_array_equal(of_play["before"].observation, of_vector.observation)
        np.testing.assert_array_equal(of_play["after"].action, of_vector.action)
        np.testing.assert_array_equal(of_play["reward"], of_vector.reward)
    assert len(np.unique(seen.action[: ends[1] + 1], axis=0)) > 1, "worth comparing"
