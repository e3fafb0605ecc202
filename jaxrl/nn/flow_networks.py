"""Networks of policies that turn noise into actions: flows, diffusions, and one-step actors."""

from __future__ import annotations

import dataclasses
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from jaxrl.config import configuration, option
from jaxrl.errors import JaxrlError
from jaxrl.nn.q_networks import QLayers, QNetworkConfig
from jaxrl.types import Array


def sinusoid(time: Array, width: int) -> Array:
    """sin and cos of a time at frequencies from 1 down to 1 / 10,000: [...] -> [..., width].

        ω_k = 10000^(−k / (width / 2 − 1)),   k = 0 … width / 2 − 1

    Source: Diffusion-QL's code, after Vaswani et al., Attention Is All You Need (2017). A flow's
    times are in [0, 1] and go in as they are (MeanFlow's code): scaled up, ∂u/∂t would be large.
    """
    frequency = 10_000.0 ** (-np.arange(width // 2) / (width // 2 - 1))
    lift = (1,) * time.ndim + frequency.shape
    angle = time[..., None] * jnp.asarray(frequency, time.dtype).reshape(lift)
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


@configuration
class FlowLayersConfig(QNetworkConfig):
    """Layers of the actor and of the critics, beside which a time has layers of its own."""

    activation: Literal["tanh", "relu", "swish", "gelu", "elu", "mish"] = option("relu")
    """Nonlinearity between layers, and between those that a time goes through."""


class TimeEmbedding(nn.Module):
    """A time as `width` features: a sinusoid, a layer of twice as many units, a linear layer."""

    config: QNetworkConfig
    width: int

    @nn.compact
    def __call__(self, time: Array) -> Array:
        """[...] -> [..., width]."""
        layers = dataclasses.replace(self.config, hidden_sizes=(2 * self.width,))
        return QLayers(layers, self.width)(sinusoid(time, self.width))


class FlowNetwork(nn.Module):
    """From a state, a point in the space of actions and times, to a vector in that space.

    The vector is a velocity, an average velocity, the noise in the point, or an action. Hidden
    layers see the point, the state and each time side by side. A time is one number as it is
    (`time_width` 0), or is embedded, each by layers of its own or all by the same. A time that is
    one for all rows is embedded once.

    What is differentiated by point and times alone, as a Jacobian-vector product is, goes through
    all of the first layer: XLA multiplies the zeros of the state's columns too.
    """

    config: QNetworkConfig
    action_size: int
    time_width: int = 0
    shared_time: bool = False

    @nn.compact
    def __call__(self, observation: Array, point: Array, *times: Array) -> Array:
        """Observations [*B, *shape], points [*B, d] and times [*B] or [] to vectors [*B, d]."""
        batch_shape = point.shape[:-1]
        features = [point, observation.reshape(*batch_shape, -1).astype(point.dtype)]
        shared = TimeEmbedding(self.config, self.time_width) if self.shared_time else None
        for time in times:
            if self.time_width:
                embedded = (shared or TimeEmbedding(self.config, self.time_width))(time)
            else:
                embedded = time[..., None]
            if time.ndim < len(batch_shape):
                lift = (1,) * len(batch_shape)
                embedded = jnp.broadcast_to(
                    embedded.reshape(*lift, -1), (*batch_shape, embedded.shape[-1])
                )
            features.append(embedded)
        return QLayers(self.config, self.action_size)(jnp.concatenate(features, axis=-1))


def check_time_width(width: int) -> None:
    """Refuse a width that is not made of pairs of sine and cosine, at two frequencies or more."""
    if width % 2 or 0 < width < 4:
        nearest = max(4, width + width % 2)
        raise JaxrlError(
            f"time_width is {width}, but a sinusoid needs an even number of at least 4, as "
            f"{nearest}; 0 gives the networks the time itself."
        )
