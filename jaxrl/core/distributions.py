"""The distributions of policies: Categorical, MultiCategorical, Normal and TanhNormal.

Each is a pytree with any leading batch axes, `*B`, and one interface: `sample(key)`, `mode()`,
`log_prob(x)`, `entropy(key)` and `kl(other)`, the last being KL(self ‖ other). Log-densities,
entropies and divergences are in nats, summed over the event axis. `entropy` reads its key only
where no closed form exists.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass, field

import chex
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int32, Integer

from jaxrl.types import Key

_LOG_2PI = math.log(2.0 * math.pi)


def mask_logits(
    logits: Float[Array, "*B A"], mask: Bool[Array, "... A"], nvec: tuple[int, ...] | None = None
) -> Float[Array, "*B A"]:
    """Logits that give actions where `mask` is False probability exactly 0.

    Every row must allow an action, of a MultiCategorical one of each factor of `nvec`: a row that
    does not is NaN, for whatever was done would be forbidden. The floor is finite, because −∞ makes
    0 · ∞ = NaN of entropies and gradients, and half the lowest float, because a log-softmax
    subtracts from it.

    Source: Huang & Ontañón, A Closer Look at Invalid Action Masking in Policy Gradient Algorithms
    (2020).
    """
    chex.assert_type(mask, bool)
    floor = float(jnp.finfo(logits.dtype).min) / 2
    mask = jnp.broadcast_to(mask, logits.shape)
    allowed = allows_an_action(mask, nvec)[..., None]
    return jnp.where(jnp.broadcast_to(allowed, mask.shape), jnp.where(mask, logits, floor), jnp.nan)


def allows_an_action(
    mask: Bool[Array, "*B A"], nvec: tuple[int, ...] | None = None
) -> Bool[Array, "*B"]:
    """Whether a mask allows something, of each factor of `nvec` where there are several."""
    ends = tuple(itertools.accumulate(nvec or ()))
    of_each = [jnp.any(part, axis=-1) for part in jnp.split(mask, ends[:-1], axis=-1)]
    return functools.reduce(operator.and_, of_each)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Categorical:
    """p(i) ∝ exp(logits_i), i = 0 … A−1."""

    logits: Float[Array, "*B A"]

    def sample(self, key: Key) -> Int32[Array, "*B"]:
        """A draw by the Gumbel-max trick."""
        return jax.random.categorical(key, self.logits).astype(jnp.int32)

    def mode(self) -> Int32[Array, "*B"]:
        """The most probable action; the first of equals."""
        return jnp.argmax(self.logits, axis=-1).astype(jnp.int32)

    def log_prob(self, x: Integer[Array, "*B"]) -> Float[Array, "*B"]:
        """log p(x)."""
        chex.assert_shape(x, self.logits.shape[:-1])
        # Not a gather: n is small, and a selecting sum fuses with the log-softmax where a gather's
        # gradient, a scatter, would not. The comparison is never stored.
        index = jax.lax.broadcasted_iota(x.dtype, self.logits.shape, self.logits.ndim - 1)
        log_probability = jax.nn.log_softmax(self.logits)
        return jnp.sum(jnp.where(index == x[..., None], log_probability, 0.0), axis=-1)

    def entropy(self, key: Key | None = None) -> Float[Array, "*B"]:
        """−Σ p log p."""
        log_probability = jax.nn.log_softmax(self.logits)
        return -jnp.sum(jnp.exp(log_probability) * log_probability, axis=-1)

    def kl(self, other: Categorical) -> Float[Array, "*B"]:
        """Σ p (log p − log q)."""
        log_p, log_q = jax.nn.log_softmax(self.logits), jax.nn.log_softmax(other.logits)
        return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


def _total(terms: Iterable[Float[Array, "*B"]]) -> Float[Array, "*B"]:
    return functools.reduce(operator.add, terms)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MultiCategorical:
    """Independent Categoricals, one for each of the D entries of `nvec`, whose sum is A."""

    logits: Float[Array, "*B A"]
    nvec: tuple[int, ...] = field(metadata={"static": True})

    @property
    def factors(self) -> list[Categorical]:
        """One Categorical for each entry of `nvec`."""
        chex.assert_axis_dimension(self.logits, -1, sum(self.nvec))
        ends = tuple(itertools.accumulate(self.nvec))
        return [Categorical(logits) for logits in jnp.split(self.logits, ends[:-1], axis=-1)]

    def sample(self, key: Key) -> Int32[Array, "*B D"]:
        """A draw."""
        keys = jax.random.split(key, len(self.nvec))
        samples = [factor.sample(key) for factor, key in zip(self.factors, keys, strict=True)]
        return jnp.stack(samples, axis=-1)

    def mode(self) -> Int32[Array, "*B D"]:
        """The most probable action."""
        return jnp.stack([factor.mode() for factor in self.factors], axis=-1)

    def log_prob(self, x: Integer[Array, "*B D"]) -> Float[Array, "*B"]:
        """log p(x)."""
        chex.assert_axis_dimension(x, -1, len(self.nvec))
        return _total(factor.log_prob(x[..., i]) for i, factor in enumerate(self.factors))

    def entropy(self, key: Key | None = None) -> Float[Array, "*B"]:
        """The sum of the factors' entropies."""
        return _total(factor.entropy() for factor in self.factors)

    def kl(self, other: MultiCategorical) -> Float[Array, "*B"]:
        """The sum of the factors' divergences."""
        return _total(p.kl(q) for p, q in zip(self.factors, other.factors, strict=True))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Normal:
    """A diagonal Gaussian; log_std is broadcast to the mean.

    Bounds are the environment's to apply: store the sample that was drawn, whose density this is,
    unclipped.
    """

    mean: Float[Array, "*B D"]
    log_std: Float[Array, "..."]

    @property
    def _log_std(self) -> Float[Array, "*B D"]:
        return jnp.broadcast_to(self.log_std, self.mean.shape)

    def sample(self, key: Key) -> Float[Array, "*B D"]:
        """mean + std · ε: gradients flow through the draw."""
        noise = jax.random.normal(key, self.mean.shape, self.mean.dtype)
        return self.mean + jnp.exp(self._log_std) * noise

    def mode(self) -> Float[Array, "*B D"]:
        """The mean."""
        return self.mean

    def log_prob(self, x: Float[Array, "*B D"]) -> Float[Array, "*B"]:
        """−Σ (½ z² + log std + ½ log 2π) with z = (x − mean) / std."""
        chex.assert_equal_shape([x, self.mean])
        z = (x - self.mean) * jnp.exp(-self._log_std)
        return -jnp.sum(0.5 * jnp.square(z) + self._log_std + 0.5 * _LOG_2PI, axis=-1)

    def entropy(self, key: Key | None = None) -> Float[Array, "*B"]:
        """Σ (log std + ½ (1 + log 2π))."""
        return jnp.sum(self._log_std + 0.5 * (1.0 + _LOG_2PI), axis=-1)

    def kl(self, other: Normal) -> Float[Array, "*B"]:
        """Σ (log std_q − log std_p + ½ (std_p² + (mean_p − mean_q)²) / std_q² − ½)."""
        log_ratio = self._log_std - other._log_std
        z = (self.mean - other.mean) * jnp.exp(-other._log_std)
        return jnp.sum(0.5 * (jnp.exp(2.0 * log_ratio) + jnp.square(z) - 1.0) - log_ratio, axis=-1)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TanhNormal:
    """tanh(u) of a diagonal Gaussian u; log_std is broadcast to the mean.

    Samples are u, *before* the tanh, because tanh⁻¹ of a stored action loses all precision near ±1.
    Store u, and give `squash(u)` to the environment. Densities are those of tanh(u), on (−1, 1).

    Source: Haarnoja et al., Soft Actor-Critic (2018), appendix C.
    """

    mean: Float[Array, "*B D"]
    log_std: Float[Array, "..."]

    @property
    def base(self) -> Normal:
        """The Gaussian of u."""
        return Normal(self.mean, self.log_std)

    def squash(self, u: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        """The action tanh(u), in [−1, 1]."""
        return jnp.tanh(u)

    def sample(self, key: Key) -> Float[Array, "*B D"]:
        """A draw of u; gradients flow through it."""
        return self.base.sample(key)

    def mode(self) -> Float[Array, "*B D"]:
        """The mean of u: its tanh is the median action."""
        return self.mean

    def log_prob(self, x: Float[Array, "*B D"]) -> Float[Array, "*B"]:
        """log p(tanh x) = log N(x) − Σ log(1 − tanh² x), x before the tanh."""
        # log(1 − tanh² x) itself is −∞ from |x| = 9 in float32.
        log_derivative = 2.0 * (math.log(2.0) - x - jax.nn.softplus(-2.0 * x))
        return self.base.log_prob(x) - jnp.sum(log_derivative, axis=-1)

    def entropy(self, key: Key | None = None) -> Float[Array, "*B"]:
        """−log p(tanh u) of one draw: unbiased, as its gradients; no closed form exists."""
        if key is None:
            raise ValueError(
                "TanhNormal has no closed-form entropy; entropy(key) estimates it from a draw."
            )
        return -self.log_prob(self.sample(key))

    def kl(self, other: TanhNormal) -> Float[Array, "*B"]:
        """That of the Gaussians: one bijection of both leaves a divergence as it is."""
        return self.base.kl(other.base)


Distribution = Categorical | MultiCategorical | Normal | TanhNormal
