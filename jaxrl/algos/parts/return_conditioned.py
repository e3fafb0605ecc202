"""Learning to act for a return that is asked for: what Decision Transformer and Mamba share.

A sequence model reads windows of recorded steps, each with the return that followed, and learns to
name the actions. It acts for a return by reading that, less what has been earned, in its place. The
models differ in their backbones (jaxrl/nn/sequence.py) alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.config import configuration, number, option, size
from jaxrl.core import adam, moments
from jaxrl.core.any_member import any_member
from jaxrl.core.moments import Moments, normalize_if_kept
from jaxrl.data.dataset import Dataset
from jaxrl.data.offline import DatasetConfig, Learns, Offline
from jaxrl.data.transitions import Windows
from jaxrl.envs.api import Environment
from jaxrl.errors import JaxrlError
from jaxrl.nn.action_labels import ActionLabels
from jaxrl.nn.q_networks import check_single_box
from jaxrl.nn.sequence import (
    Backbone,
    Predictions,
    Reading,
    SequenceModel,
    Steps,
    ending_last,
)
from jaxrl.types import Agent, Algorithm, Array, Key, Mode, PyTree, View

# The scales that returns may be divided by: 1, 2 and 5 times powers of ten.
SCALES = np.sort([digit * 10.0**power for digit in (1, 2, 5) for power in range(-9, 13)])
# A weight of this name is decayed; biases, norms, tables, and how a scan decays are not.
DECAYED = "kernel"


@configuration
class ReturnConditionedConfig(DatasetConfig):
    """Settings of every algorithm that learns to act for a return."""

    normalize_observations: bool = option(True, basic=True)
    """Standardise observations by the dataset's statistics, which are saved with the policy."""
    context: int = size(20, basic=True)
    """Steps that are read at once, K."""
    batch_size: int = size(64, basic=True)
    """Windows of K steps per gradient step."""
    learning_rate: float = number(1e-4, 0, basic=True)
    """AdamW's step size, once it is warm."""
    weight_decay: float = number(1e-4, 0)
    """Share of each weight, times the step size, that a gradient step takes off."""
    warm_up_updates: int = size(10_000, 0)
    """Gradient steps over which the step size grows from 0."""
    max_grad_norm: float = number(0.25, 0, open_low=True, infinite=True)
    """Norm that gradients are clipped at."""
    inverse_weight: float = number(0.0, 0, 0.5)
    """Weight in the loss of predicting what an action leads to, and again of the return after it;
    the action's is what is left of 1."""
    self_evolution: bool = option(False)
    """Learn actions that are mixed with those of the policy as it was a stage before."""
    self_evolution_weight: float = number(0.85, 0, 1, needs={"self_evolution": True})
    """Share of the earlier policy's actions that is grown to: k / stages of it in stage k = 0, 1, …
    """
    self_evolution_cap: float = number(0.5, 0, 1, needs={"self_evolution": True})
    """Most that this share comes to."""
    stages: int = size(40, 2, needs={"self_evolution": True})
    """Stages that the gradient steps are divided into, the last one shorter where that leaves a
    rest; after each, the earlier policy is renewed."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Policy:
    """What acting needs. Before training its scale and its target are NaN: no returns are known."""

    params: PyTree
    observation_moments: Moments | None
    return_scale: Array  # what returns are divided by, float32 []
    target: Array  # the return to act for, in the environment's units, float32 []


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Learner:
    """What gradient steps change."""

    policy: Policy
    optimizer: PyTree
    teacher: PyTree  # the parameters of a stage before; () without self-evolution
    gradient_steps: Array  # int32


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Window:
    """The last K steps of an episode, the rest filled up on the right; leaves [K, ...]."""

    previous_action: Array
    observation: Array
    earned: Array  # before each step, float32


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Memory:
    """What is remembered of an episode. Either of two modes keeps its own part of it."""

    earned: Array  # so far, float32 []
    time: Array  # int32 []
    window: Window
    recurrent: PyTree  # of the backbone


@dataclass(frozen=True)
class Setup:
    """A model, and what stands between it and an environment."""

    env: Environment
    config: Any  # a ReturnConditionedConfig
    backbone: Backbone
    normalize_first: bool = False  # tokens, before they are told the time

    @property
    def labels(self) -> ActionLabels:
        """Actions as numbers."""
        return ActionLabels(self.env.action_space)

    @property
    def model(self) -> SequenceModel:
        """The network."""
        reading = Reading(
            observation=int(np.prod(self.env.observation_space.shape)),
            action=self.labels.size,
            squashed=self.labels.squashed,
            timesteps=self.env.horizon,
        )
        return SequenceModel(self.backbone, reading, self.normalize_first)

    def algorithm(self, dataset: Dataset) -> Algorithm:
        """What learns from a dataset."""
        check_dataset(dataset, self.config.context)
        rules = ReturnConditioned(self, dataset)
        learns = Learns(rules.begin, rules.update, rules.draw)
        return Offline(self.config, self.env, dataset, self.agent(), learns).algorithm()

    def agent(self) -> Agent:
        """What acts for a return: from the last K steps, or from a memory of all of them."""
        modes = {"target": Mode(self._act_on_window, steer)}
        if self.backbone.goes_on:
            modes["recurrent"] = Mode(self._act_on_memory, steer)
        return Agent(init=self._init, modes=modes, memory=self._memory)

    def _init(self, key: Key) -> Policy:
        shape = self.env.observation_space.shape
        one = Steps(
            previous_action=jnp.zeros((1, self.labels.size)),
            observation=jnp.zeros((1, *shape)),
            target=jnp.zeros(1),
            step=jnp.zeros(1, jnp.int32),
            first=jnp.ones(1, bool),
        )
        return Policy(
            params=self.model.init(key, one, self.backbone.first_memory()),
            observation_moments=moments.init(shape) if self.config.normalize_observations else None,
            return_scale=jnp.full((), jnp.nan),
            target=jnp.full((), jnp.nan),
        )

    def _memory(self, policy: Policy) -> Memory:
        check_scale(policy)
        context, shape = self.config.context, self.env.observation_space.shape
        window = Window(
            previous_action=jnp.zeros((context, self.labels.size)),
            observation=jnp.zeros((context, *shape)),
            earned=jnp.zeros(context),
        )
        recurrent = self.backbone.first_memory() if self.backbone.goes_on else ()
        return Memory(jnp.zeros(()), jnp.zeros((), jnp.int32), window, recurrent)

    def _act_on_window(
        self, policy: Policy, memory: Memory, view: View, key: Key
    ) -> tuple[Array, Memory]:
        """Reads the last K steps anew, as windows were read in training."""
        del key
        earned = memory.earned + view.reward
        seen = Window(
            previous_action=self.labels.of_executed(view.action),
            observation=normalize_if_kept(
                policy.observation_moments, view.observation.astype(jnp.float32)
            ),
            earned=earned,
        )
        window = appended(memory.window, seen, memory.time)
        places = jnp.arange(self.config.context)
        last = jnp.minimum(memory.time, len(places) - 1)
        steps = Steps(
            previous_action=window.previous_action,
            observation=window.observation,
            target=(policy.target - window.earned) / policy.return_scale,
            step=memory.time - last + places,
            first=places == 0,
        )
        predictions = self.predict(policy.params, steps, places <= last)
        action = self.labels.decide(predictions.action[last])
        return action, replace(memory, earned=earned, time=memory.time + 1, window=window)

    def predict(
        self, params: PyTree, steps: Steps, valid: Array, key: Key | None = None
    ) -> Predictions:
        """Predictions [K, ...] for a window; with a key, as in training.

        Its `valid` places are steps; the rest, on the right, is filled up.
        """
        if self.backbone.reads_last:
            steps = ending_last(steps, valid)
        training: dict = {} if key is None else {"training": True, "rngs": {"dropout": key}}
        begun = self.backbone.first_memory()
        predictions, _ = self.model.apply(params, steps, begun, **training)
        if not self.backbone.reads_last:
            return predictions
        back = -jnp.sum(~valid)
        return jax.tree.map(lambda leaf: jnp.roll(leaf, back, axis=0), predictions)

    def _act_on_memory(
        self, policy: Policy, memory: Memory, view: View, key: Key
    ) -> tuple[Array, Memory]:
        """Reads the present step alone, after all that came before it."""
        del key
        earned = memory.earned + view.reward
        observation = normalize_if_kept(
            policy.observation_moments, view.observation.astype(jnp.float32)
        )
        steps = Steps(
            previous_action=self.labels.of_executed(view.action)[None],
            observation=observation[None],
            target=((policy.target - earned) / policy.return_scale)[None],
            step=memory.time[None],
            first=(memory.time == 0)[None],
        )
        predictions, after = self.model.apply(policy.params, steps, memory.recurrent)
        action = self.labels.decide(predictions.action[0])
        return action, replace(memory, earned=earned, time=memory.time + 1, recurrent=after)


def appended(window: Window, seen: Window, time: Array) -> Window:
    """A window with one more step, at place `time`; from K on the oldest makes room for it."""

    def write(kept: Array, new: Array) -> Array:
        moved = jnp.where(time >= len(kept), jnp.roll(kept, -1, axis=0), kept)
        return moved.at[jnp.minimum(time, len(kept) - 1)].set(new)

    return jax.tree.map(write, window, seen)


def steer(policy: Policy, target: Array) -> Policy:
    """The policy that acts for another return."""
    check_scale(policy)
    return replace(policy, target=jnp.asarray(target, jnp.float32))


@dataclass(frozen=True)
class ReturnConditioned:
    """What is done with a learner."""

    setup: Setup
    dataset: Dataset

    def begin(self, policy: Policy) -> Learner:
        """A learner before its first gradient step, whose target is the dataset's best return.

        A policy that knows no returns takes the dataset's scale; others go on reading theirs.
        """
        to_go = self.dataset.return_to_go
        scale = return_scale(jnp.max(jnp.abs(to_go)))
        policy = replace(
            policy,
            return_scale=jnp.where(jnp.isnan(policy.return_scale), scale, policy.return_scale),
            target=jnp.max(to_go[self.dataset.start]),
        )
        return Learner(
            policy=policy,
            optimizer=adam.init(policy.params),
            teacher=policy.params if self.setup.config.self_evolution else (),
            gradient_steps=jnp.zeros((), jnp.int32),
        )

    def draw(self, learner: Learner, key: Key) -> Windows:
        """Windows with observations as the model reads them."""
        config = self.setup.config
        windows = self.dataset.windows(
            key, config.batch_size, config.context, self.setup.env.action_space
        )
        observation = normalize_if_kept(
            learner.policy.observation_moments, windows.observation.astype(jnp.float32)
        )
        return replace(windows, observation=observation)

    def update(
        self, learner: Learner, windows: Windows, key: Key
    ) -> tuple[Learner, dict[str, Array]]:
        """One gradient step."""
        config = self.setup.config
        learner = self._renewed(learner)
        steps = self.steps(windows, learner.policy.return_scale)
        label, of_teacher = self._labels(learner, windows, steps)

        def loss_of(params: PyTree) -> tuple[Array, dict[str, Array]]:
            found = self.predict(params, steps, windows.valid, key)
            return self._loss(found, label, windows, steps)

        policy = learner.policy
        gradient, seen = jax.grad(loss_of, has_aux=True)(policy.params)
        gradient, norm = adam.clip_by_norm(gradient, config.max_grad_norm)
        warm = (learner.gradient_steps + 1) / max(1, config.warm_up_updates)
        params, optimizer = adam.descend_with_decay(
            policy.params,
            gradient,
            learner.optimizer,
            config.learning_rate * jnp.minimum(1.0, warm),
            config.weight_decay,
            decayed(policy.params),
        )
        learner = replace(
            learner,
            policy=replace(policy, params=params),
            optimizer=optimizer,
            gradient_steps=learner.gradient_steps + 1,
        )
        return learner, seen | of_teacher | {"gradient_norm": norm}

    def steps(self, windows: Windows, scale: Array) -> Steps:
        """What the model reads of windows [B, K]."""
        label = jax.vmap(self.setup.labels.of_rows)(windows.action)
        first = jnp.arange(windows.step.shape[1]) == 0
        return Steps(
            previous_action=jnp.pad(label, ((0, 0), (1, 0), (0, 0)))[:, :-1],
            observation=windows.observation,
            target=windows.return_to_go / scale,
            step=windows.step,
            first=jnp.broadcast_to(first, windows.step.shape),
        )

    def predict(
        self, params: PyTree, steps: Steps, valid: Array, key: Key | None = None
    ) -> Predictions:
        """Predictions [B, K, ...] for windows; with a key, as in training."""
        keys = None if key is None else jax.random.split(key, len(valid))
        return jax.vmap(partial(self.setup.predict, params))(steps, valid, keys)

    def _renewed(self, learner: Learner) -> Learner:
        """The learner with its policy for a teacher, where a stage begins."""
        config = self.setup.config
        if not config.self_evolution:
            return learner

        def renew(_: Array, learner: Learner) -> Learner:
            return replace(learner, teacher=learner.policy.params)

        due = any_member(learner.gradient_steps % stage_updates(config) == 0)
        return jax.lax.fori_loop(0, due.astype(jnp.int32), renew, learner)

    def _labels(
        self, learner: Learner, windows: Windows, steps: Steps
    ) -> tuple[Array, dict[str, Array]]:
        """(labels of the actions [B, K, A], metrics): ã = (1 − β) a + β a of the stage before."""
        config, labels = self.setup.config, self.setup.labels
        recorded = jax.vmap(labels.of_rows)(windows.action)
        if not config.self_evolution:
            return recorded, {}
        stage = learner.gradient_steps // stage_updates(config)
        share = jnp.minimum(
            config.self_evolution_cap, config.self_evolution_weight * stage / config.stages
        )
        # No gradient goes into it: what is differentiated are the learner's own parameters.
        earlier = labels.expected(self.predict(learner.teacher, steps, windows.valid).action)
        mixed = (1.0 - share) * recorded + share * earlier
        shift = mean_where(jnp.mean(jnp.abs(mixed - recorded), axis=-1), windows.valid)
        return mixed, {"teacher_share": share, "label_shift": shift}

    def _loss(
        self, found: Predictions, label: Array, windows: Windows, steps: Steps
    ) -> tuple[Array, dict[str, Array]]:
        """(loss, its parts): w_a L(a) + w huber(s') + w huber(R'), means over recorded steps."""
        action = mean_where(self.setup.labels.error(found.action, label), windows.valid)
        follows = windows.valid & ~steps.first
        observation = steps.observation.reshape(found.observation.shape)
        observed = mean_where(jnp.mean(huber(found.observation - observation), axis=-1), follows)
        target = mean_where(huber(found.target - steps.target), follows)
        weight = self.setup.config.inverse_weight
        loss = (1.0 - 2.0 * weight) * action + weight * observed + weight * target
        parts = {"action_loss": action, "observation_loss": observed, "return_loss": target}
        return loss, {"loss": loss} | parts


def stage_updates(config: ReturnConditionedConfig) -> int:
    """Gradient steps of a stage, rounded up: there are no more stages than were asked for."""
    return -(-config.total_updates // config.stages)


def huber(error: Array) -> Array:
    """½ e² up to |e| = 1, and |e| − ½ beyond."""
    size = jnp.abs(error)
    return jnp.where(size <= 1.0, 0.5 * jnp.square(error), size - 0.5)


def mean_where(values: Array, where: Array) -> Array:
    """The mean of the values where `where` holds; 0 where it holds nowhere."""
    total = jnp.sum(jnp.where(where, values, 0.0))
    return total / jnp.maximum(1.0, jnp.sum(where, dtype=jnp.float32))


def return_scale(most: Array) -> Array:
    """The greatest of 1, 2 or 5 times a power of ten that is at most `most`: 3,700 gives 2,000."""
    scales = jnp.asarray(SCALES, jnp.float32)
    return jnp.max(jnp.where(scales <= most, scales, scales[0]))


def decayed(params: PyTree) -> PyTree:
    """Which parameters are weights of linear maps, as a tree of booleans."""

    def is_weight(path: tuple, leaf: Array) -> bool:
        del leaf
        return path[-1].key == DECAYED

    return jax.tree_util.tree_map_with_path(is_weight, params)


def check_setup(algorithm: str, env: Environment, config: ReturnConditionedConfig) -> None:
    """Refuse observations that are no arrays of numbers, long windows, and stages of no step."""
    check_single_box(algorithm, env.observation_space)
    if config.context > env.horizon:
        raise JaxrlError(
            f"context is {config.context}, but episodes have {env.horizon} steps at most, and no "
            f"step after that has an embedding: choose {env.horizon} or less."
        )
    if config.self_evolution and config.stages > config.total_updates:
        raise JaxrlError(
            f"stages is {config.stages}, but there are {config.total_updates} gradient steps "
            f"(total_updates) to divide into them: choose {config.total_updates} or less."
        )


def check_dataset(dataset: Dataset, context: int) -> None:
    """Refuse a dataset that has no return to act for, or no window.

    Traced arrays pass: they were checked before they were traced.
    """
    if isinstance(dataset.reward, jax.core.Tracer):
        return
    if not np.any(np.asarray(dataset.reward)):
        raise JaxrlError(
            "every reward of the dataset is 0, but what is learnt is to act for a return."
        )
    longest = int(np.max(np.asarray(dataset.end) - np.asarray(dataset.start)))
    if context > longest:
        raise JaxrlError(
            f"context is {context}, but the longest episode of the dataset has {longest} steps: "
            f"choose {longest} or less."
        )


def check_scale(policy: Policy) -> None:
    """Refuse a policy that knows no returns; what is traced was refused before."""
    scale = policy.return_scale
    if not isinstance(scale, jax.core.Tracer) and np.any(np.isnan(np.asarray(scale))):
        raise JaxrlError(
            "the policy has no scale of returns, so it cannot act for one: it has not been "
            "trained on a dataset."
        )
