"""What the tests of policies that draw share: networks in NumPy, and a bandit of four modes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.data.transitions import Batch
from jaxrl.envs.api import Environment
from jaxrl.types import Box, Timestep, View
from tests.algos.reach import Reach, a_batch, first

SMALL = {"hidden_sizes": (12, 10), "batch_size": 16, "total_updates": 4000}
BATCH = functools.cache(lambda: a_batch(jax.random.split(jax.random.key(6), 4)))
REACH = Reach()


def mish(x):
    return x * np.tanh(np.log1p(np.exp(x)))


def gelu(x):
    return 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))


def stack_of(params):
    """The layers that see everything, in float64, [(w, b), …]."""
    return dense_layers(params["params"]["QLayers_0"])


def dense_layers(stack):
    """Weights and biases in float64, [(w, b), …]."""
    return [
        (np.asarray(stack[each]["kernel"], np.float64), np.asarray(stack[each]["bias"], np.float64))
        for each in sorted(stack)
        if each.startswith("Dense")
    ]


def forward(network, x, activation=mish):
    for w, b in network[:-1]:
        x = activation(x @ w + b)
    w, b = network[-1]
    return x @ w + b


def q_values(params, observation, action):
    """Q_k(s, a) [K, B] of an ensemble with Mish."""
    x = np.concatenate([observation, action], 1)
    number = len(jax.tree.leaves(params)[0])
    return np.stack([forward(stack_of(first(params, k)), x)[:, 0] for k in range(number)])


def embedded(params, index, time, width):
    """A time [B] through the sinusoid and the layers after it, in float64."""
    frequency = 10_000.0 ** (-np.arange(width // 2) / (width // 2 - 1))
    angle = np.asarray(time, np.float64)[:, None] * frequency
    features = np.concatenate([np.sin(angle), np.cos(angle)], 1)
    return forward(dense_layers(params["params"][f"TimeEmbedding_{index}"]["QLayers_0"]), features)


def main_layers(params):
    """The layers that see everything, as a network of one stack."""
    return {"params": {"QLayers_0": params["params"]["QLayers_0"]}}


MODES = 0.8 * np.array([[0.0, 1.0], [1.0, 0.0], [0.0, -1.0], [-1.0, 0.0]])


class Bandit(Environment):
    """One step, one observation, two numbers for an action; only its spaces count here."""

    @property
    def observation_space(self):
        return Box(-1.0, 1.0, (1,))

    @property
    def action_space(self):
        return Box(-1.0, 1.0, (2,))

    @property
    def horizon(self):
        return 1

    def reset(self, key):
        return jnp.zeros(1), jnp.zeros(1)

    def step(self, key, state, action):
        return state, Timestep(state, jnp.zeros(()), jnp.ones((), bool))


def bandit_rows(number=1000):
    """Actions around four modes, and a reward of 1 at the first of them."""
    rng = np.random.default_rng(0)
    mode = rng.integers(4, size=number)
    action = np.clip(MODES[mode] + 0.05 * rng.normal(size=(number, 2)), -1.0, 1.0)
    return jnp.asarray(action, jnp.float32), jnp.asarray(mode == 0, jnp.float32)


@functools.partial(jax.jit, static_argnames="rules_of")
def learned(rules_of, config, policy, updates):
    """A learner after so many gradient steps on the bandit's rows.

    Numbers of the configuration, and how many steps there are, are traced: one compilation.
    """
    rules, (action, reward) = rules_of(config, Bandit()), bandit_rows()

    def step(index, learner):
        key_rows, key_update = jax.random.split(jax.random.fold_in(jax.random.key(8), index))
        rows = jax.random.randint(key_rows, (128,), 0, len(action))
        nothing = jnp.zeros((128, 1))
        batch = Batch(nothing, action[rows], reward[rows], jnp.zeros(128), nothing)
        return rules.update(learner, batch, key_update)[0]

    return jax.lax.fori_loop(0, updates, step, rules.begin(policy))


def shares_of_modes(agent, policy, mode="stochastic", number=1000):
    """The share of actions within 0.3 of each mode, [4]."""

    view = View.at_start(jnp.zeros(1), Bandit().action_space)

    def act(key):
        return agent.modes[mode].act(policy, (), view, key)[0]

    actions = np.asarray(jax.jit(jax.vmap(act))(jax.random.split(jax.random.key(9), number)))
    distance = np.linalg.norm(actions[:, None] - MODES[None], axis=2)
    return (distance < 0.3).mean(0)
