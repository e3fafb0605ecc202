"""A task with several continuous actions, whose bounds may be scaled without changing a bit of it,
and networks in NumPy float64."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxrl.data.transitions import Batch
from jaxrl.envs.api import Environment
from jaxrl.types import Array, Box, Timestep

CHEAP = {"xla_backend_optimization_level": 0}
SMALL = {
    "total_steps": 4000,
    "num_envs": 4,
    "num_steps": 8,
    "replay_capacity": 64,
    "batch_size": 16,
    "warm_up": 8,
    "hidden_sizes": (16,),
}


class Reach(Environment):
    """Three coordinates follow actions that are read on a grid of 1/64 of half their range."""

    low: float = struct.field(pytree_node=False, default=-1.0)
    high: float = struct.field(pytree_node=False, default=1.0)

    @property
    def observation_space(self):
        return Box(-np.inf, np.inf, (3,))

    @property
    def action_space(self):
        return Box(self.low, self.high, (3,))

    @property
    def horizon(self):
        return 7

    def reset(self, key):
        place = jax.random.uniform(key, (3,), minval=-1.0, maxval=1.0)
        return place, place

    def step(self, key, state: Array, action: Array):
        unit = (action - 0.5 * (self.low + self.high)) / (0.5 * (self.high - self.low))
        place = 0.5 * state + jnp.round(64.0 * unit) / 64.0
        return place, Timestep(place, -jnp.sum(jnp.abs(place)), place[0] > 1.2)


def a_batch(keys):
    """Sixteen transitions, every fifth of them with an end."""
    return Batch(
        observation=jax.random.normal(keys[0], (16, 3)),
        action=jax.random.uniform(keys[1], (16, 3), minval=-1.0),
        reward=jax.random.normal(keys[2], (16,)),
        discount=jnp.where(jnp.arange(16) % 5 == 0, 0.0, 0.9),
        next_observation=jax.random.normal(keys[3], (16, 3)),
    )


def numpy64(batch):
    """A batch in float64."""
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), batch)


def layers(params):
    """A network's weights and biases in float64, [(w, b), …]."""
    (stack,) = params["params"].values()
    return [
        (np.asarray(stack[name]["kernel"], np.float64), np.asarray(stack[name]["bias"], np.float64))
        for name in sorted(stack)
        if name.startswith("Dense")
    ]


def forward(network, x):
    """ReLU layers and a linear one, [B, in] -> [B, out]."""
    for w, b in network[:-1]:
        x = np.maximum(x @ w + b, 0.0)
    w, b = network[-1]
    return x @ w + b


def first(params, index):
    """One critic of an ensemble."""
    return jax.tree.map(lambda leaf: leaf[index], params)


def q_values(params, observation, action):
    """Q_k(s, a) [K, B] of an ensemble's parameters."""
    x = np.concatenate([observation, action], 1)
    number = len(jax.tree.leaves(params)[0])
    return np.stack([forward(layers(first(params, k)), x)[:, 0] for k in range(number)])


def slope(loss, network, entries=6, step=1e-5):
    """Central differences of `loss(network)` by some of its numbers, by (layer, part, index)."""
    rng, found = np.random.default_rng(0), {}
    for layer, pair in enumerate(network):
        for part, array in enumerate(pair):
            for _ in range(entries):
                index = tuple(int(rng.integers(size)) for size in array.shape)
                kept = array[index]
                array[index] = kept + step
                up = loss(network)
                array[index] = kept - step
                down = loss(network)
                array[index] = kept
                found[layer, part, index] = (up - down) / (2 * step)
    return found


def assert_first_gradient(adam_state, index, expected):
    """What Adam has seen after one step: its first moment is a tenth of the gradient."""
    mean = layers(adam_state.mu if index is None else first(adam_state.mu, index))
    for (layer, part, place), value in expected.items():
        np.testing.assert_allclose(mean[layer][part][place] * 10, value, rtol=2e-3, atol=2e-5)
