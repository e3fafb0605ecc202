"""Actor-critic: an observation to a distribution over actions and a value."""

from __future__ import annotations

import math
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from jaxrl.config import ON, Family, configuration, option, size
from jaxrl.core.distributions import Categorical, MultiCategorical, Normal, TanhNormal
from jaxrl.errors import JaxrlError
from jaxrl.nn.torsos import head, make_torso
from jaxrl.types import Array, Box, Discrete, MultiDiscrete, ObservationSpace, Space

Distribution = Categorical | MultiCategorical | Normal | TanhNormal

# A head that starts near zero makes the first policy nearly uniform, or nearly centred, for every
# observation.
POLICY_GAIN = 0.01
VALUE_GAIN = 1.0
# exp(-5) … exp(2): wide enough never to matter in use, narrow enough that no density overflows.
LOG_STD_RANGE = (-5.0, 2.0)
# What of a network is read only where actions are continuous.
OF_CONTINUOUS_ACTIONS = ("squash_actions", "state_dependent_std", "initial_log_std", "train_std")


@configuration
class PolicyNetworkConfig:
    """The base class of the configurations of networks, each of which derives from it.

    The samples of its distributions over continuous actions are in units where [-1, 1] spans the
    action space.
    """

    squash_actions: bool = option(False)
    """Squash continuous actions by tanh, with corrected densities, instead of clipping them."""

    def make(self, observation_space: ObservationSpace, action_space: Space) -> nn.Module:
        """A module from observations [..., *shape] to (distribution, values [...]).

        Its method `value` returns the values alone.
        """
        raise NotImplementedError


@configuration
class NetworkConfig(PolicyNetworkConfig):
    """Layers of an actor-critic."""

    torso: Literal["mlp", "cnn"] = option("mlp")
    """Layers between observation and heads; cnn: a 3x3 convolution before the mlp, for grids."""
    hidden_sizes: tuple[int, ...] = size((64, 64))
    """Units of each hidden layer."""
    activation: Literal["tanh", "relu", "swish", "gelu", "elu"] = option(
        "tanh", needs={"hidden_sizes": ON, "torso": "cnn"}
    )
    """Nonlinearity between layers."""
    shared_torso: bool = option(False, needs={"hidden_sizes": ON, "torso": "cnn"})
    """Let policy and value share their hidden layers."""
    state_dependent_std: bool = option(False, needs={"train_std": True})
    """Let the standard deviation of continuous actions depend on the observation."""
    initial_log_std: float = option(0.0)
    """Initial log standard deviation of continuous actions; [-1, 1] spans the action space."""
    train_std: bool = option(True)
    """Learn the standard deviation of continuous actions; off: it stays at initial_log_std."""
    compute_dtype: Literal["float32", "bfloat16"] = option("float32")
    """Type of activations and matrix products; parameters, heads, losses stay float32."""

    def make(self, observation_space: ObservationSpace, action_space: Space) -> nn.Module:
        """An actor-critic, if it fits the spaces."""
        check_network(self, observation_space, action_space)
        return ActorCritic(self, action_space, len(observation_space.shape))


class ActorCritic(nn.Module):
    """Policy and value heads over separate torsos, or over one shared torso.

    Continuous policies live in units where [-1, 1] spans the action space; `scale_action` maps them
    out.
    """

    config: NetworkConfig
    action_space: Space
    event_ndim: int

    def setup(self) -> None:
        """Name the layers; flax calls this."""
        config = self.config

        def torso() -> nn.Module:
            sizes, dtype = config.hidden_sizes, config.compute_dtype
            return make_torso(config.torso, sizes, config.activation, self.event_ndim, dtype)

        self.actor_torso = torso()
        if not config.shared_torso:
            self.critic_torso = torso()
        self.value_head = head(1, VALUE_GAIN, config.compute_dtype)
        space = self.action_space
        if isinstance(space, Box):
            size = math.prod(space.shape)
            self.policy_head = head(size, POLICY_GAIN, config.compute_dtype)
            if config.state_dependent_std:
                self.log_std_head = head(size, POLICY_GAIN, config.compute_dtype)
            elif config.train_std:
                self.log_std = self.param(
                    "log_std", nn.initializers.constant(config.initial_log_std), (size,)
                )
        elif isinstance(space, MultiDiscrete):
            self.policy_head = head(sum(space.nvec), POLICY_GAIN, config.compute_dtype)
        else:
            self.policy_head = head(space.n, POLICY_GAIN, config.compute_dtype)

    def __call__(self, observation: Array) -> tuple[Distribution, Array]:
        """[..., *shape] -> (distribution with batch shape [...], value [...])."""
        features = self.actor_torso(observation)
        return self._distribution(features), self._value(observation, features)

    def value(self, observation: Array) -> Array:
        """[..., *shape] -> [...], the critic alone."""
        features = self.actor_torso(observation) if self.config.shared_torso else None
        return self._value(observation, features)

    def _value(self, observation: Array, actor_features: Array | None) -> Array:
        features = actor_features if self.config.shared_torso else self.critic_torso(observation)
        return jnp.squeeze(self.value_head(features), -1)

    def _distribution(self, features: Array) -> Distribution:
        output = self.policy_head(features)
        if isinstance(self.action_space, Discrete):
            return Categorical(output)
        if isinstance(self.action_space, MultiDiscrete):
            return MultiCategorical(output, self.action_space.nvec)
        if self.config.state_dependent_std:
            log_std = self.config.initial_log_std + self.log_std_head(features)
        elif self.config.train_std:
            log_std = jnp.broadcast_to(self.log_std, output.shape)
        else:
            log_std = jnp.full_like(output, self.config.initial_log_std)
        log_std = jnp.clip(log_std, *LOG_STD_RANGE)
        if self.config.squash_actions:
            return TanhNormal(output, log_std)
        return Normal(output, log_std)


def scale_action(action: Array, space: Space, squash: bool) -> Array:
    """A policy's sample in the environment's units.

    Discrete actions pass through. Continuous ones are squashed by tanh or clipped to [-1, 1], then
    mapped linearly onto [low, high]. A coordinate without two finite bounds keeps the sample,
    clipped to the bound it has. The sample itself is what PPO stores, so its log-density belongs to
    the sample and not to the clipped action.

    [..., size] -> [..., *shape].
    """
    if not isinstance(space, Box):
        return action
    action = action.reshape(*action.shape[:-1], *space.shape)
    low = np.broadcast_to(np.asarray(space.low, np.float32), space.shape)
    high = np.broadcast_to(np.asarray(space.high, np.float32), space.shape)
    bounded = np.isfinite(low) & np.isfinite(high)
    first = np.where(bounded, low, -1.0)
    last = np.where(bounded, high, 1.0)
    center = 0.5 * (first + last)
    half = 0.5 * (last - first)
    unit = jnp.tanh(action) if squash else jnp.clip(action, -1.0, 1.0)
    # Array constants take the batch axes of the action one by one: silent broadcasting of ranks is
    # an error here.
    lift = (1,) * (action.ndim - len(space.shape)) + space.shape
    inner = jnp.where(bounded.reshape(lift), unit, action)
    scaled = center.reshape(lift) + half.reshape(lift) * inner
    return jnp.clip(scaled, low.reshape(lift), high.reshape(lift)).astype(space.dtype)


def unscale_action(action: Array, space: Space) -> Array:
    """Executed actions of a bounded space in units where [-1, 1] spans it, but for rounding.

    [N, *shape] -> [N, size].
    """
    assert isinstance(space, Box)
    low = np.broadcast_to(np.asarray(space.low, np.float32), space.shape)
    high = np.broadcast_to(np.asarray(space.high, np.float32), space.shape)
    unit = (action - 0.5 * (high + low)[None]) / (0.5 * (high - low))[None]
    return jnp.clip(unit, -1.0, 1.0).reshape(len(action), -1)


def check_network(
    config: NetworkConfig, observation_space: ObservationSpace, action_space: Space
) -> None:
    """Refuse layers that do not fit the spaces."""
    shape = list(observation_space.shape)
    if not isinstance(observation_space, Box):
        raise JaxrlError(
            f"observations are {observation_space}, but a network needs a Box: "
            "encode them as one-hot."
        )
    if config.torso == "cnn" and len(shape) != 3:
        raise JaxrlError(
            "torso=cnn needs observations [height, width, channels], "
            f"but they are {shape}: use mlp."
        )
    for name in OF_CONTINUOUS_ACTIONS:
        value = getattr(config, name)
        if value != getattr(NetworkConfig(), name) and not isinstance(action_space, Box):
            raise JaxrlError(
                f"{name} is {value}, but is for continuous actions, and this environment has "
                f"{action_space}."
            )
    if config.squash_actions and isinstance(action_space, Box) and not action_space.bounded:
        raise JaxrlError(
            "squash_actions needs bounds to map tanh onto, "
            f"but this environment has {action_space}."
        )


KINDS = {"actor-critic": NetworkConfig}
NETWORKS = Family("network", PolicyNetworkConfig, names=KINDS.keys, find=KINDS.__getitem__)
