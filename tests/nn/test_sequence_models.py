"""Every sequence model: what its predictions may depend on, and the forms that are one function."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.errors import JaxrlError
from jaxrl.nn.decision_mamba import DecisionMambaBackbone, DecisionMambaNetworkConfig
from jaxrl.nn.sequence import (
    Reading,
    SequenceModel,
    Steps,
    begins,
    count_parameters,
    ending_last,
)
from jaxrl.nn.transformer import (
    TransformerBackbone,
    TransformerConfig,
    check_transformer,
    visible_tokens,
)

CHEAP = {"xla_backend_optimization_level": 0}
STEPS = 5
READING = Reading(observation=3, action=2, squashed=True, timesteps=4)
SMALL = {"width": 8, "num_layers": 3}
MAMBA = SMALL | {"state_size": 3, "expand": 1, "head_size": 4}
BACKBONES = {
    "figure": DecisionMambaBackbone(DecisionMambaNetworkConfig(**{**MAMBA, "head_size": 32})),
    "figure-ssd": DecisionMambaBackbone(DecisionMambaNetworkConfig(mixer="ssd", **MAMBA)),
    "coarse": DecisionMambaBackbone(
        DecisionMambaNetworkConfig(branches="coarse", **{**MAMBA, "head_size": 32})
    ),
    "repository": DecisionMambaBackbone(
        DecisionMambaNetworkConfig(branches="repository", **{**MAMBA, "head_size": 32})
    ),
    "transformer": TransformerBackbone(TransformerConfig(num_heads=2, **SMALL)),
}
CAUSAL = [name for name in BACKBONES if name != "repository"]
RECURRENT = [name for name in CAUSAL if BACKBONES[name].goes_on]


def steps_of(seed=0, count=STEPS):
    rng = np.random.default_rng(seed)
    return Steps(
        previous_action=jnp.asarray(rng.uniform(-1, 1, (count, 2)), jnp.float32),
        observation=jnp.asarray(rng.normal(size=(count, 3)), jnp.float32),
        target=jnp.asarray(rng.normal(size=count), jnp.float32),
        step=jnp.arange(count, dtype=jnp.int32),
        first=jnp.arange(count) == 0,
    )


@functools.cache
def made(name):
    """(the model, its parameters, the compiled whole of it from no memory)."""
    model, rng = SequenceModel(BACKBONES[name], READING), np.random.default_rng(1)
    begun = BACKBONES[name].first_memory()
    shapes = jax.eval_shape(model.init, jax.random.key(0), steps_of(), begun)
    params = jax.tree.map(
        lambda leaf: jnp.asarray(0.3 * rng.normal(size=leaf.shape), jnp.float32), shapes
    )
    whole = jax.jit(lambda steps, params: model.apply(params, steps, begun), compiler_options=CHEAP)
    return model, params, whole


def predictions(name, steps, params=None):
    _, own, whole = made(name)
    return jax.device_get(whole(steps, own if params is None else params)[0])


def moved(name, change):
    """Which predictions a change of the steps moves: bool [K] for actions, and for what follows."""
    steps = steps_of()
    before, after = (predictions(name, each) for each in (steps, change(steps)))
    following = (before.observation != after.observation).any(1) | (before.target != after.target)
    return (before.action != after.action).any(1), following


def act_otherwise(t):
    """Change a_t, which the next step is shown."""

    def change(steps):
        action = steps.previous_action.at[t + 1].set(jnp.array([0.9, -0.9]))
        return steps._replace(previous_action=action)

    return change


def arrive_otherwise(t):
    """Change s_t and R_t."""

    def change(steps):
        return steps._replace(
            observation=steps.observation.at[t].add(1.0), target=steps.target.at[t].add(-1.0)
        )

    return change


@pytest.mark.parametrize("name", CAUSAL)
def test_no_prediction_depends_on_what_comes_after_it(name):
    """By exactly 0, through three layers."""
    for t in range(STEPS):
        actions, following = moved(name, arrive_otherwise(t))
        assert not actions[:t].any() and not following[: t + 1].any(), t
        assert actions[t], "what is observed is read at once"
        if t < STEPS - 1:
            actions, following = moved(name, act_otherwise(t))
            assert not actions[: t + 1].any() and not following[: t + 1].any(), t
            assert following[t + 1], "what follows from an action is read off it"


def test_the_authors_code_shows_the_labels():
    """All actions but the last, and all that follows from them."""
    leaks = [moved("repository", act_otherwise(t))[0][t] for t in range(STEPS - 1)]
    assert sum(leaks) == STEPS - 1
    leaks = [moved("repository", arrive_otherwise(t))[1][t] for t in range(1, STEPS)]
    assert sum(leaks) == STEPS - 1
    # The last action is read from where the action itself is not: evaluation is honest.
    last = moved("repository", arrive_otherwise(STEPS - 1))[0]
    assert last[-1] and last[:-1].any()


@pytest.mark.parametrize("name", RECURRENT)
def test_step_by_step_from_a_memory_is_the_whole(name):
    model, params, whole = made(name)
    steps = steps_of(seed=4)
    expected, expected_memory = whole(steps, params)

    def one(memory, step):
        found, memory = model.apply(params, jax.tree.map(lambda leaf: leaf[None], step), memory)
        return memory, jax.tree.map(lambda leaf: leaf[0], found)

    begun = BACKBONES[name].first_memory()
    run = jax.jit(lambda begun: jax.lax.scan(one, begun, steps), compiler_options=CHEAP)
    memory, found = run(begun)
    close = functools.partial(np.testing.assert_allclose, atol=1e-5)
    close(found.action, expected.action)
    close(found.observation[1:], expected.observation[1:])
    close(found.target[1:], expected.target[1:])
    jax.tree.map(close, memory, expected_memory)


@pytest.mark.parametrize("name", CAUSAL)
def test_two_packed_episodes_are_each_alone(name):
    """Another episode before it changes no bit of a stretch, nor does what it is said to follow."""
    steps = steps_of()._replace(first=jnp.isin(jnp.arange(STEPS), jnp.array([0, 2])))
    found = predictions(name, steps)
    other = jax.tree.map(lambda mine, others: mine.at[:2].set(others[:2]), steps, steps_of(seed=7))
    other = other._replace(first=steps.first, previous_action=other.previous_action.at[2].set(0.5))
    same = predictions(name, other)
    np.testing.assert_array_equal(found.action[2:], same.action[2:])
    np.testing.assert_array_equal(found.observation[3:], same.observation[3:])
    np.testing.assert_array_equal(found.target[3:], same.target[3:])
    assert (found.action[:2] != same.action[:2]).any()
    # And it is what the stretch gives by itself, at the beginning of a window.
    alone = jax.tree.map(lambda leaf: jnp.roll(leaf, -2, axis=0), steps)
    by_itself = predictions(name, alone._replace(first=jnp.arange(STEPS) == 0))
    np.testing.assert_allclose(found.action[2:], by_itself.action[:3], atol=1e-5)


@pytest.mark.parametrize("name", CAUSAL)
def test_what_a_window_is_filled_up_with_changes_nothing(name):
    steps, filled = steps_of(), steps_of(seed=8)
    other = jax.tree.map(lambda mine, others: mine.at[3:].set(others[3:]), steps, filled)
    found, same = predictions(name, steps), predictions(name, other)
    np.testing.assert_array_equal(found.action[:3], same.action[:3])


def test_the_time_of_an_action_is_that_of_the_step_before_and_ends_with_the_table():
    params, steps = made("transformer")[1], steps_of()
    before = predictions("transformer", steps)

    def with_row(row):
        table = params["params"]["timesteps"].at[row].add(jnp.arange(8.0))
        return predictions(
            "transformer", steps, {"params": params["params"] | {"timesteps": table}}
        )

    third = with_row(2)
    np.testing.assert_array_equal(third.action[:2], before.action[:2])
    np.testing.assert_array_equal(third.observation[1:3], before.observation[1:3])
    assert (third.action[2] != before.action[2]).any()
    assert (third.observation[3] != before.observation[3]).all()
    assert READING.timesteps == STEPS - 1, "the last step reads the row of the one before"
    assert (with_row(3).action[3:] != before.action[3:]).any(1).all()


def test_tokens_that_begin_a_sequence():
    first = jnp.array([True, False, True])
    assert np.flatnonzero(begins(first)).tolist() == [1, 7]


def test_steps_that_end_last_follow_zeros():
    steps = steps_of()
    found = ending_last(steps, jnp.arange(STEPS) < 3)
    for name in ("previous_action", "observation", "target", "step"):
        before, after = getattr(steps, name), getattr(found, name)
        assert not after[:2].any()
        begin = 1 if name == "previous_action" else 0  # of the first step there is none
        assert not after[2 : 2 + begin].any()
        np.testing.assert_array_equal(after[2 + begin :], before[begin:3])
    assert found.first.tolist() == steps.first.tolist()


def test_a_token_of_the_transformer_sees_its_own_stretch_and_no_action_before_it():
    visible = np.asarray(visible_tokens(jnp.array([True, False, True])))
    seen = {row: np.flatnonzero(visible[row]).tolist() for row in (0, 1, 5, 6, 8)}
    assert seen == {0: [0], 1: [1], 5: [1, 2, 3, 4, 5], 6: [6], 8: [7, 8]}


def test_dropout_is_for_training_alone():
    model, params, whole = made("transformer")
    steps = steps_of()

    @functools.partial(jax.jit, compiler_options=CHEAP)
    def trained(key):
        return model.apply(params, steps, (), True, rngs={"dropout": key})[0].action

    one, other = trained(jax.random.key(0)), trained(jax.random.key(1))
    assert (one != other).any() and (one != whole(steps, params)[0].action).any()


def test_sizes_of_the_branches():
    """A fine branch is its map from groups, its scan, and nothing else."""
    width, channels, states = 8, 8, 3
    scan = channels * (1 + 2 * states) + 2 * channels + states * channels + channels
    fine = 3 * width * channels + channels + scan
    figure, coarse = (count_parameters(made(name)[1]) for name in ("figure", "coarse"))
    assert figure - coarse == 3 * fine


def test_heads_that_do_not_share_a_token_are_refused():
    with pytest.raises(JaxrlError, match="num_heads is 3, but must divide the width of a token, 8"):
        check_transformer(TransformerConfig(num_heads=3, **SMALL))
