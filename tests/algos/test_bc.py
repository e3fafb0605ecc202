"""Behavior cloning against likelihoods in float64, and what it clones."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.algos.bc import BC, BCConfig, bc, bc_agent, make_actor
from jaxrl.envs import registry
from jaxrl.errors import JaxrlError
from tests.algos.offline import (
    BANDIT,
    BETTER,
    SMALL,
    acted,
    assert_same_bits,
    of_episodes,
    reaching,
    run,
    two_actions,
)
from tests.algos.reach import Reach, a_batch, assert_first_gradient, forward, layers, numpy64, slope

LEARNS = SMALL | {"total_updates": 1500, "updates_per_iteration": 500, "batch_size": 64}
LEARNS |= {"learning_rate": 1e-2}
CHOICE = registry.make("probe/two-lengths")


def one_update(env, batch, **settings):
    """(learner, the same after one gradient step, numbers)."""
    config = BCConfig(**SMALL | settings)
    learner = BC(config, make_actor(env, config))
    begun = learner.begin(bc_agent(env, config).init(jax.random.key(0)))
    return begun, *jax.jit(learner.update)(begun, batch, jax.random.key(1))


def stack_of(actor):
    """The layers of an actor without its standard deviation."""
    (name,) = [name for name in actor["params"] if name != "log_std"]
    return {"params": {name: actor["params"][name]}}


def test_a_mean_descends_the_squared_error():
    batch = a_batch(jax.random.split(jax.random.key(2), 4))
    begun, learner, seen = one_update(Reach(), batch)
    rows = numpy64(batch)

    def loss(network):
        return np.square(np.tanh(forward(network, rows.observation)) - rows.action).mean()

    network = layers(begun.policy.actor)
    np.testing.assert_allclose(seen["behavior_loss"], loss(network), rtol=1e-5)
    assert_first_gradient(learner.optimizer, None, slope(loss, network))


def test_a_gaussian_descends_its_negative_log_likelihood():
    batch = a_batch(jax.random.split(jax.random.key(2), 4))
    begun, learner, seen = one_update(Reach(), batch, gaussian=True)
    rows = numpy64(batch)

    def loss(network, log_std=0.0):
        z = (rows.action - np.tanh(forward(network, rows.observation))) / np.exp(log_std)
        return (0.5 * z**2 + log_std + 0.5 * np.log(2 * np.pi)).sum(1).mean()

    network = layers(stack_of(begun.policy.actor))
    np.testing.assert_allclose(seen["behavior_loss"], loss(network), rtol=1e-5)
    first_moment = learner.optimizer._replace(mu=stack_of(learner.optimizer.mu))
    assert_first_gradient(first_moment, None, slope(loss, network))
    found = np.asarray(learner.optimizer.mu["params"]["log_std"]).sum() * 10
    np.testing.assert_allclose(
        found, (loss(network, 1e-5) - loss(network, -1e-5)) / 2e-5, rtol=1e-3
    )


def test_choices_descend_the_cross_entropy():
    choices = jnp.arange(16, dtype=jnp.int32) % 2
    batch = a_batch(jax.random.split(jax.random.key(2), 4))
    batch = dataclasses.replace(batch, action=choices, observation=batch.observation[:, :2])
    begun, learner, seen = one_update(CHOICE, batch)
    observation = np.asarray(batch.observation, np.float64)

    def loss(network):
        logits = forward(network, observation)
        chosen = logits[np.arange(16), np.asarray(choices)]
        return (np.log(np.exp(logits).sum(1)) - chosen).mean()

    network = layers(begun.policy.actor)
    np.testing.assert_allclose(seen["behavior_loss"], loss(network), rtol=1e-5)
    assert_first_gradient(learner.optimizer, None, slope(loss, network))


@pytest.mark.parametrize("gaussian", [False, True])
def test_the_mean_of_recorded_actions_is_cloned(gaussian):
    config = BCConfig(**LEARNS, gaussian=gaussian)
    algorithm, state, _ = run(bc, BANDIT, config, two_actions(), 3)
    assert acted(algorithm, state, BANDIT)[0, 0] == pytest.approx(-0.24, abs=0.05)
    assert ("stochastic" in algorithm.agent.modes) == gaussian
    assert next(iter(algorithm.agent.modes)) == "deterministic"
    if gaussian:
        keys = jax.random.split(jax.random.key(5), 4000)
        actions = acted(algorithm, state, BANDIT, "stochastic", keys)
        assert actions.std() == pytest.approx(0.6 * np.sqrt(1 - 0.4**2), abs=0.07)


def test_the_best_episodes_alone_are_cloned():
    config = BCConfig(**LEARNS, best_fraction=0.3)
    algorithm, state, seen = run(bc, BANDIT, config, two_actions(), 3)
    assert acted(algorithm, state, BANDIT)[0, 0] == pytest.approx(BETTER, abs=0.03)
    assert seen["behavior_loss"] < 1e-3


def test_choices_are_made_as_often_as_they_were_recorded():
    space = CHOICE.observation_space
    action = np.repeat(np.int32([0, 1]), [30, 70])
    dataset = of_episodes(CHOICE, np.zeros((100, *space.shape)), action, np.ones(100), np.ones(100))
    algorithm, state, seen = run(bc, CHOICE, BCConfig(**LEARNS), dataset, 3)
    keys = jax.random.split(jax.random.key(5), 4000)
    assert acted(algorithm, state, CHOICE, "stochastic", keys).mean() == pytest.approx(
        0.7, abs=0.07
    )
    assert acted(algorithm, state, CHOICE).tolist() == [1]
    entropy = -(0.3 * np.log(0.3) + 0.7 * np.log(0.7))
    assert seen["behavior_loss"] == pytest.approx(entropy, abs=0.03)


def test_the_units_of_the_actions_change_no_bit():
    states = [
        run(bc, Reach(*bounds), BCConfig(**SMALL), reaching(*bounds), 3)[1]
        for bounds in [(-1.0, 1.0), (-10.0, 10.0)]
    ]
    assert_same_bits(states[0].learner, states[1].learner)


def test_observations_are_standardised_by_the_dataset_s_statistics():
    dataset = reaching()
    _, state, _ = run(bc, Reach(), BCConfig(**SMALL), dataset, 2)
    assert_same_bits(state.learner.policy.observation_moments, dataset.moments)
    raw = BCConfig(**SMALL, normalize_observations=False)
    assert (
        bc(Reach(), raw, dataset=dataset).agent.init(jax.random.key(0)).observation_moments is None
    )


def test_actions_that_it_cannot_clone_are_refused():
    with pytest.raises(
        JaxrlError, match="bc clones continuous or discrete actions, but these are MultiD"
    ):
        bc_agent(registry.make("probe/multi-discrete-action"), BCConfig())
    with pytest.raises(JaxrlError, match="bc needs continuous actions between finite bounds"):
        bc_agent(Reach(-np.inf, np.inf), BCConfig())
    with pytest.raises(JaxrlError, match="but bc needs a Box: ppo reads dictionaries"):
        bc_agent(registry.make("dict/grid"), BCConfig())
    with pytest.raises(JaxrlError, match="gaussian is for continuous actions"):
        bc_agent(CHOICE, BCConfig(gaussian=True))
    with pytest.raises(JaxrlError, match="best_fraction"):
        bc(BANDIT, BCConfig(best_fraction=0.0), dataset=two_actions())
