"""Networks of off-policy learners: critics Q(s, a), in ensembles, and actors on [-1, 1]^d."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.config import ON, configuration, option, size
from jaxrl.core.distributions import TanhNormal
from jaxrl.errors import JaxrlError
from jaxrl.nn.products import Dense
from jaxrl.nn.torsos import ACTIVATIONS, dense
from jaxrl.types import Array, Box, Dict, Key, ObservationSpace, PyTree, Space

# exp(-5) … exp(2): wide enough never to matter in use, narrow enough that no density overflows.
LOG_STD_RANGE = (-5.0, 2.0)
# Of orthogonal weights.
HIDDEN_GAIN = math.sqrt(2.0)
LAST_GAIN = 1.0


@configuration
class QLayersConfig:
    """Layers of an actor."""

    hidden_sizes: tuple[int, ...] = size((256, 256), basic=True)
    """Units of each hidden layer."""
    activation: Literal["tanh", "relu", "swish", "gelu", "elu", "mish"] = option(
        "relu", needs={"hidden_sizes": ON}
    )
    """Nonlinearity between layers."""
    initialization: Literal["torch", "orthogonal"] = option("torch")
    """First weights: uniform in ±1/√inputs, as PyTorch draws them, biases too; or orthogonal of
    gain √2 in hidden layers and 1 in the last one, with zero biases."""


@configuration
class QNetworkConfig(QLayersConfig):
    """Layers of the actor and of the critics."""

    layer_norm: bool = option(False, needs={"hidden_sizes": ON})
    """Normalise each hidden layer of the critics over its units, before the nonlinearity."""
    num_critics: int = size(2)
    """Critics, of which the least sets the target."""


def uniform_fan_in(key: Key, shape: Sequence[int], dtype: type = jnp.float32) -> Array:
    """Weights [in, out] uniform in ±1/√in, as PyTorch draws them, and so TD3's authors."""
    bound = 1.0 / math.sqrt(shape[0])
    return jax.random.uniform(key, shape, dtype, -bound, bound)


class QLayers(nn.Module):
    """Hidden layers and a linear one of `width` outputs."""

    config: QLayersConfig
    width: int
    layer_norm: bool = False

    @nn.compact
    def __call__(self, features: Array) -> Array:
        """[..., in] -> [..., width]."""
        if self.layer_norm and 1 in self.config.hidden_sizes:
            raise JaxrlError(
                "hidden_sizes has a layer of 1 unit, but layer_norm standardises over the units of "
                "a layer: one alone is always 0."
            )
        activation = ACTIVATIONS[self.config.activation]
        for units in self.config.hidden_sizes:
            features = self._linear(features, units, HIDDEN_GAIN)
            if self.layer_norm:
                features = nn.LayerNorm()(features)
            features = activation(features)
        return self._linear(features, self.width, LAST_GAIN)

    def _linear(self, features: Array, units: int, gain: float) -> Array:
        if self.config.initialization == "orthogonal":
            return dense(units, gain)(features)
        bound = 1.0 / math.sqrt(features.shape[-1])
        return Dense(
            units,
            kernel_init=uniform_fan_in,
            bias_init=lambda key, shape, dtype: jax.random.uniform(
                key, shape, dtype, -bound, bound
            ),
        )(features)


def flat(observation: Array, event_ndim: int) -> Array:
    """Observations [..., *shape], of `event_ndim` axes each, as float32 [..., size]."""
    batch_shape = observation.shape[: observation.ndim - event_ndim]
    return observation.reshape(*batch_shape, -1).astype(jnp.float32)


class Critic(nn.Module):
    """One critic."""

    config: QNetworkConfig
    event_ndim: int

    @nn.compact
    def __call__(self, observation: Array, action: Array) -> Array:
        """Observations [..., *shape] and actions [..., d] in [-1, 1] to Q(s, a) [...]."""
        features = jnp.concatenate([flat(observation, self.event_ndim), action], axis=-1)
        layers = QLayers(self.config, 1, self.config.layer_norm)
        return jnp.squeeze(layers(features), -1)


def init_ensemble(
    critic: nn.Module, num_critics: int, key: Key, observation: Array, action: Array
) -> PyTree:
    """Parameters of `num_critics` critics of one shape, leaves [K, ...], each drawn by itself."""
    keys = jax.random.split(key, num_critics)
    return jax.vmap(critic.init, in_axes=(0, None, None))(keys, observation, action)


def ensemble_values(critic: nn.Module, params: PyTree, observation: Array, action: Array) -> Array:
    """Q_k(s, a) of every critic, [K, B], of observations [B, *shape] and actions [B, d]."""
    return jax.vmap(critic.apply, in_axes=(0, None, None))(params, observation, action)


def ensemble_loss(
    critic: nn.Module, params: PyTree, observation: Array, action: Array, goal: Array
) -> tuple[Array, Array]:
    """Σ_k mean (Q_k(s, a) − y)² over an ensemble, and the mean of all Q_k(s, a); y is [B]."""
    q = ensemble_values(critic, params, observation, action)
    return jnp.sum(jnp.mean(jnp.square(q - goal[None]), axis=1)), jnp.mean(q)


def first_value(critic: nn.Module, params: PyTree, observation: Array, action: Array) -> Array:
    """Q_1(s, a) of an ensemble, [B], without the products of the other critics."""
    first = jax.tree.map(lambda leaf: leaf[0], params)
    value: Array = critic.apply(first, observation, action)
    return value


class DeterministicActor(nn.Module):
    """The actor of TD3: a = tanh(f(s))."""

    config: QLayersConfig
    event_ndim: int
    action_size: int

    @nn.compact
    def __call__(self, observation: Array) -> Array:
        """[..., *shape] -> [..., d] in [-1, 1]."""
        features = flat(observation, self.event_ndim)
        return jnp.tanh(QLayers(self.config, self.action_size)(features))


class SquashedGaussianActor(nn.Module):
    """The actor of SAC: the tanh of a Gaussian, both of whose parameters depend on the state.

    The logarithm of the standard deviation is squashed smoothly into `LOG_STD_RANGE`, so that its
    gradient vanishes nowhere.
    """

    config: QNetworkConfig
    event_ndim: int
    action_size: int

    @nn.compact
    def __call__(self, observation: Array) -> TanhNormal:
        """[..., *shape] -> a distribution over [-1, 1]^d with batch shape [...]."""
        output = QLayers(self.config, 2 * self.action_size)(flat(observation, self.event_ndim))
        mean, squashed = jnp.split(output, 2, axis=-1)
        low, high = LOG_STD_RANGE
        return TanhNormal(mean, low + 0.5 * (high - low) * (jnp.tanh(squashed) + 1.0))


class Networks(NamedTuple):
    """The modules that parameters belong to; they read normalised observations."""

    actor: nn.Module  # from observations [..., *shape] to what acts in [-1, 1]^d
    critic: nn.Module  # observations [..., *shape] and actions [..., d] to Q(s, a) [...]

    def init(
        self, key: Key, num_critics: int, observation_space: ObservationSpace, action_space: Space
    ) -> tuple[PyTree, PyTree]:
        """Parameters of the actor, and of so many critics, leaves [K, ...]."""
        key_actor, key_critic = jax.random.split(key)
        observation = jnp.zeros((1, *observation_space.shape))
        action = jnp.zeros((1, action_size(action_space)))
        actor = self.actor.init(key_actor, observation)
        return actor, init_ensemble(self.critic, num_critics, key_critic, observation, action)


def action_size(space: Space) -> int:
    """How many numbers an action has."""
    return math.prod(space.shape)


def check_spaces(algorithm: str, observation_space: ObservationSpace, action_space: Space) -> None:
    """Refuse environments that these networks cannot act in."""
    if not isinstance(action_space, Box) or not action_space.bounded:
        needs = "continuous actions between finite bounds"
        raise JaxrlError(
            f"{algorithm} needs {needs}, but this environment has {action_space}"
            + (
                f" in [{action_space.low}, {action_space.high}]."
                if isinstance(action_space, Box)
                else ": ppo takes such actions."
            )
        )
    check_single_box(algorithm, observation_space)


def check_single_box(algorithm: str, observation_space: ObservationSpace) -> None:
    """Refuse observations that are no single array of numbers."""
    if not isinstance(observation_space, Box):
        several = isinstance(observation_space, Dict)
        instead = "ppo reads dictionaries" if several else "encode them as one-hot"
        raise JaxrlError(
            f"observations are {observation_space}, but {algorithm} needs a Box: {instead}."
        )
