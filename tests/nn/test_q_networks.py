"""Networks of off-policy learners: how they begin, and layers that are normalised."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.nn.q_networks import Critic, QLayers, QNetworkConfig, init_ensemble


def test_every_critic_of_an_ensemble_is_drawn_by_itself():
    critic = Critic(QNetworkConfig(hidden_sizes=(4,)), 1)
    params = init_ensemble(critic, 3, jax.random.key(0), jnp.zeros((1, 3)), jnp.zeros((1, 2)))
    for leaf in jax.tree.leaves(params):
        assert len(np.unique(np.asarray(leaf))) == leaf.size


def test_layers_are_normalised_before_the_nonlinearity_and_the_last_one_is_not():
    config = QNetworkConfig(hidden_sizes=(6, 5), activation="tanh", layer_norm=True)
    critic = Critic(config, 1)
    keys = jax.random.split(jax.random.key(0), 4)
    observation, action = jax.random.normal(keys[0], (7, 3)), jax.random.normal(keys[1], (7, 2))
    params = critic.init(keys[2], observation, action)
    # Scales and shifts of their own, or their places would not show.
    leaves, tree = jax.tree.flatten(params)
    drawn = jax.random.split(keys[3], len(leaves))
    leaves = [
        leaf + 0.3 * jax.random.normal(key, leaf.shape)
        for leaf, key in zip(leaves, drawn, strict=True)
    ]
    params = jax.tree.unflatten(tree, leaves)
    layers = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params["params"]["QLayers_0"])
    x = np.concatenate([observation, action], axis=1).astype(np.float64)
    for index in range(2):
        x = x @ layers[f"Dense_{index}"]["kernel"] + layers[f"Dense_{index}"]["bias"]
        x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-6)
        norm = layers[f"LayerNorm_{index}"]
        x = np.tanh(x * norm["scale"] + norm["bias"])
    expected = (x @ layers["Dense_2"]["kernel"] + layers["Dense_2"]["bias"])[:, 0]
    np.testing.assert_allclose(critic.apply(params, observation, action), expected, atol=1e-5)


def test_orthogonal_weights_are_of_gain_root_two_and_the_last_of_one():
    config = QNetworkConfig(hidden_sizes=(8, 8), initialization="orthogonal")
    params = QLayers(config, 8).init(jax.random.key(0), jnp.zeros((1, 8)))["params"]
    for name, gain in (("Dense_0", 2.0), ("Dense_1", 2.0), ("Dense_2", 1.0)):
        kernel = np.asarray(params[name]["kernel"])
        np.testing.assert_allclose(kernel.T @ kernel, gain * np.eye(8), atol=1e-5)
        assert not np.any(params[name]["bias"])
