"""Actor-critic: what is observed to a distribution over actions and a value.

Of a dictionary of observations, actor and critic read the keys that they are told to; its key
"action_mask" is read by the distribution. Between torsos and heads there may be a memory.
"""

from __future__ import annotations

import math
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.config import ON, Family, configuration, option, part, size
from jaxrl.core.distributions import (
    Categorical,
    MultiCategorical,
    Normal,
    TanhNormal,
    mask_logits,
)
from jaxrl.errors import JaxrlError, unknown
from jaxrl.nn.action_labels import ActionLabels
from jaxrl.nn.memory import MEMORIES, MemoryConfig
from jaxrl.nn.products import mapped
from jaxrl.nn.torsos import GRID_AXES, DictTorso, head, make_torso
from jaxrl.types import (
    ACTION_MASK,
    Array,
    Box,
    Dict,
    Discrete,
    MultiDiscrete,
    ObservationSpace,
    PyTree,
    Space,
    View,
)

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

        Its method `value` returns the values alone. One with a memory has the methods
        `initial_memory` and `recall` of ActorCritic, and is called by these.
        """
        raise NotImplementedError


@configuration
class NetworkConfig(PolicyNetworkConfig):
    """Layers of an actor-critic."""

    torso: Literal["mlp", "cnn"] = option("mlp")
    """Layers between observation and heads; cnn: a 3x3 convolution before the mlp, for grids."""
    hidden_sizes: tuple[int, ...] = size((64, 64), basic=True)
    """Units of each hidden layer."""
    memory: MemoryConfig = part(MEMORIES, "none", basic=True)
    """What the policy remembers of an episode: nothing, or by a recurrent layer after its torso."""
    actor_keys: tuple[str, ...] = option(())
    """Keys of a dictionary of observations that the policy reads; none given: all."""
    critic_keys: tuple[str, ...] = option(())
    """Keys that the critic reads; none given: all, those too that the policy does not read."""
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
    """Type of activations and matrix products; parameters, heads, losses and memories stay float32.
    """

    def make(self, observation_space: ObservationSpace, action_space: Space) -> nn.Module:
        """An actor-critic, if it fits the spaces."""
        check_network(self, observation_space, action_space)
        return ActorCritic(self, action_space, observation_space)


class ActorCritic(nn.Module):
    """Policy and value heads over separate torsos, or over one shared torso.

    A memory reads what the actor's torso makes of observations, the last action and the last
    reward; what it gives goes to both heads, beside the features of their torsos.
    Continuous policies live in units where [-1, 1] spans the action space; `scale_action` maps them
    out.
    """

    config: NetworkConfig
    action_space: Space
    observation_space: ObservationSpace

    def setup(self) -> None:
        """Name the layers; flax calls this."""
        config = self.config
        self.actor_torso = self._torso(config.actor_keys)
        if not config.shared_torso:
            self.critic_torso = self._torso(config.critic_keys)
        self.memory = config.memory.make()
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

    def _torso(self, keys: tuple[str, ...]) -> nn.Module:
        """The layers over an observation, or over what is under some of its keys."""
        config, space = self.config, self.observation_space
        layers = (config.hidden_sizes, config.activation)
        if not isinstance(space, Dict):
            return make_torso(config.torso, *layers, len(space.shape), config.compute_dtype)
        read = tuple((key, len(space.spaces[key].shape)) for key in keys or readable_keys(space))
        return DictTorso(config.torso, read, *layers, config.compute_dtype)

    def __call__(self, observation: PyTree) -> tuple[Distribution, Array]:
        """[..., *shape] -> (distribution with batch shape [...], value [...])."""
        features = self.actor_torso(observation)
        distribution = self._distribution(features, mask_of(observation))
        return distribution, self._value(self._critic_features(observation, features))

    def value(self, observation: PyTree) -> Array:
        """[..., *shape] -> [...], the critic alone."""
        features = self.actor_torso(observation) if self.config.shared_torso else None
        return self._value(self._critic_features(observation, features))

    def initial_memory(self) -> PyTree:
        """One environment's memory at the start of an episode; () for a network without one."""
        return self.config.memory.initial()

    def recall(self, views: View, memory: PyTree) -> tuple[Distribution, Array, PyTree]:
        """Views [L, ...] in turn, and a memory -> (distributions [L], values [L], memory)."""
        with mapped():  # environments are mapped over
            features = self.actor_torso(views.observation)
            action = jax.vmap(ActionLabels(self.action_space).of_executed)(views.action)
            # Before the first step there was none; of whole numbers 0 would be one.
            action = jnp.where(views.first[:, None], 0.0, action)
            token = jnp.concatenate([features, action, views.reward[:, None]], axis=-1)
            assert self.memory is not None
            recalled, memory = self.memory(token, memory, views.first)
            actor = jnp.concatenate([features, recalled], axis=-1)
            critic = self._critic_features(views.observation, features)
            distribution = self._distribution(actor, mask_of(views.observation))
            return distribution, self._value(jnp.concatenate([critic, recalled], axis=-1)), memory

    def _critic_features(self, observation: PyTree, actor_features: Array | None) -> Array:
        if actor_features is not None and self.config.shared_torso:
            return actor_features
        return self.critic_torso(observation)

    def _value(self, features: Array) -> Array:
        return jnp.squeeze(self.value_head(features), -1)

    def _distribution(self, features: Array, mask: Array | None) -> Distribution:
        output = self.policy_head(features)
        if mask is not None:
            output = mask_logits(output, mask, getattr(self.action_space, "nvec", None))
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


def mask_of(observation: PyTree) -> Array | None:
    """Which actions are allowed, bool [..., A], where an observation says so."""
    return observation.get(ACTION_MASK) if isinstance(observation, dict) else None


def readable_keys(space: Dict) -> tuple[str, ...]:
    """The keys of observations that torsos read: all but the mask of actions."""
    return tuple(key for key in space.spaces if key != ACTION_MASK)


def check_network(
    config: NetworkConfig, observation_space: ObservationSpace, action_space: Space
) -> None:
    """Refuse layers that do not fit the spaces."""
    if not isinstance(observation_space, Box | Dict):
        raise JaxrlError(
            f"observations are {observation_space}, but a network needs a Box: "
            "encode them as one-hot."
        )
    _check_keys(config, observation_space)
    if isinstance(observation_space, Dict):
        shapes = [list(box.shape) for box in observation_space.spaces.values()]
    else:
        shapes = [list(observation_space.shape)]
    if config.torso == "cnn" and all(len(shape) != GRID_AXES for shape in shapes):
        raise JaxrlError(
            "torso=cnn needs observations [height, width, channels], "
            f"but they are {', '.join(map(str, shapes))}: use mlp."
        )
    for name in OF_CONTINUOUS_ACTIONS:
        value = getattr(config, name)
        if value != getattr(NetworkConfig(), name) and not isinstance(action_space, Box):
            raise JaxrlError(
                f"{name} is {value}, but is for continuous actions, and this environment has "
                f"{action_space}."
            )
    low, high = LOG_STD_RANGE
    if not low <= config.initial_log_std <= high:
        raise JaxrlError(
            f"initial_log_std is {config.initial_log_std:g}, but must lie in [{low:g}, {high:g}], "
            "where log-deviations are held."
        )
    if config.squash_actions and isinstance(action_space, Box) and not action_space.bounded:
        raise JaxrlError(
            "squash_actions needs bounds to map tanh onto, "
            f"but this environment has {action_space}."
        )


def _check_keys(config: NetworkConfig, observation_space: Box | Dict) -> None:
    """Refuse keys that observations do not have."""
    for name in ("actor_keys", "critic_keys"):
        keys = getattr(config, name)
        if not keys:
            continue
        if not isinstance(observation_space, Dict):
            raise JaxrlError(
                f"{name} is {', '.join(keys)}, but observations are {observation_space}, "
                "without keys."
            )
        for key in keys:
            if key not in readable_keys(observation_space):
                raise unknown(f"key in {name}", key, readable_keys(observation_space))
    if config.shared_torso and config.actor_keys != config.critic_keys:
        raise JaxrlError(
            "actor_keys and critic_keys differ, but shared_torso lets both read the same."
        )


KINDS = {"actor-critic": NetworkConfig}
NETWORKS = Family("network", PolicyNetworkConfig, names=KINDS.keys, find=KINDS.__getitem__)
