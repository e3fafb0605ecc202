"""Networks of offline learners: V(s), and actors that are distributions of recorded actions."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from jaxrl.core.distributions import Categorical, Normal
from jaxrl.nn.q_networks import LOG_STD_RANGE, QLayers, QLayersConfig, QNetworkConfig, flat
from jaxrl.types import Array


class StateValue(nn.Module):
    """A critic of states alone."""

    config: QNetworkConfig
    event_ndim: int

    @nn.compact
    def __call__(self, observation: Array) -> Array:
        """Observations [..., *shape] to V(s) [...]."""
        layers = QLayers(self.config, 1, self.config.layer_norm)
        return jnp.squeeze(layers(flat(observation, self.event_ndim)), -1)


class GaussianActor(nn.Module):
    """The actor of IQL: a Gaussian whose mean is tanh(f(s)), with one deviation for all states.

    Its density is that of the Gaussian itself, not of its tanh; actions are clipped to [-1, 1].
    The logarithm of the deviation begins at 0 and is clipped to `LOG_STD_RANGE`.
    """

    config: QLayersConfig
    event_ndim: int
    action_size: int

    @nn.compact
    def __call__(self, observation: Array) -> Normal:
        """[..., *shape] -> a distribution on R^d with batch shape [...]."""
        mean = QLayers(self.config, self.action_size)(flat(observation, self.event_ndim))
        log_std = self.param("log_std", nn.initializers.zeros, (self.action_size,))
        log_std = jnp.broadcast_to(jnp.clip(log_std, *LOG_STD_RANGE), mean.shape)
        return Normal(jnp.tanh(mean), log_std)


class CategoricalActor(nn.Module):
    """An actor of one of `num_actions` choices."""

    config: QLayersConfig
    event_ndim: int
    num_actions: int

    @nn.compact
    def __call__(self, observation: Array) -> Categorical:
        """[..., *shape] -> a distribution over 0 … num_actions − 1 with batch shape [...]."""
        layers = QLayers(self.config, self.num_actions)
        return Categorical(layers(flat(observation, self.event_ndim)))
