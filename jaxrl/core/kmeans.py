"""Clusters of numbers: k-means in one dimension."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int32

from jaxrl.types import Array

MOST_ROUNDS = 100


def kmeans(values: Float[Array, "R"], clusters: int) -> Int32[Array, "R"]:
    """The cluster of each number, 0 … K − 1 from the lowest centre to the highest.

    Lloyd's algorithm from the quantiles (k + ½) / K: each number goes to the nearest centre, each
    centre to the mean of its numbers, until none changes its cluster or a hundred rounds are over.
    Clusters may be empty, as where there are fewer different numbers than clusters.

    Source: Lloyd, Least squares quantization in PCM (1982).
    """
    numbers = jnp.arange(clusters)
    centres = jnp.quantile(values, (numbers + 0.5) / clusters)

    def nearest(centres: Array) -> Array:
        distances = jnp.abs(values[:, None] - centres[None])
        return jnp.argmin(distances, axis=1).astype(jnp.int32)

    def goes_on(carry: tuple) -> Array:
        _, _, moved, rounds = carry
        return moved & (rounds < MOST_ROUNDS)

    def one_round(carry: tuple) -> tuple:
        centres, labels, _, rounds = carry
        members = labels[:, None] == numbers[None]
        count = jnp.sum(members, axis=0)
        total = jnp.sum(jnp.where(members, values[:, None], 0.0), axis=0)
        centres = jnp.where(count > 0, total / jnp.maximum(count, 1), centres)
        following = nearest(centres)
        return centres, following, jnp.any(following != labels), rounds + 1

    begun = (centres, nearest(centres), jnp.ones((), bool), jnp.zeros((), jnp.int32))
    _, labels, _, _ = jax.lax.while_loop(goes_on, one_round, begun)
    return labels
