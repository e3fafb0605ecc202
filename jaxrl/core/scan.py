"""Scans of selective state-space models: linear recurrences whose decays are read from the input.

    h_t = exp(Δ_t A) h_{t−1} + Δ_t B_t u_t
    y_t = C_t · h_t + D u_t

`selective_scan` (S6, Mamba-1) has a decay for every number of the state, `ssd_scan` (Mamba-2) one
for each head, which turns a chunk of tokens into matrix products. Both are of one sequence, to be
mapped over others by vmap, and both go on from a state and return the last one: a sequence that is
cut in two gives what it gives as a whole, and a sequence of one token is the recurrent step.

A state is laid out with its channels last, where processors add up several at once.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from jaxrl.errors import check_choice
from jaxrl.types import Array

# The fastest method by back end, from each length on, as benchmarks/scan.py measured it. Where
# nothing was measured, `auto` takes what needs least memory.
FASTEST: dict[str, tuple[tuple[int, str], ...]] = {
    "cpu": ((1, "chunked"),),
}
UNMEASURED = "chunked"
# Longer chunks of an SSD lose digits to differences of long sums, and cost Q² products: 64 takes
# twice as long on 65,536 tokens.
LONGEST_SSD_CHUNK = 32


class Tokens(NamedTuple):
    """What a scan reads of each token; leaves [L, ...], or [...] of one token."""

    entering: Array  # Δ u, [L, E], or [L, G, F] where channels are in heads
    delta: Array  # [L, E], or [L, G]
    B: Array  # [L, Z]
    C: Array  # [L, Z]
    reset: Array  # bool [L]


def selective_scan(
    u: Float[Array, "L E"],
    delta: Float[Array, "L E"],
    A: Float[Array, "Z E"],
    B: Float[Array, "L Z"],
    C: Float[Array, "L Z"],
    D: Float[Array, "E"],
    *,
    initial: Float[Array, "Z E"] | None = None,
    reset: Bool[Array, "L"] | None = None,
    length: Int[Array, ""] | int | None = None,
    method: str = "auto",
) -> tuple[Float[Array, "L E"], Float[Array, "Z E"]]:
    """The outputs of S6 on one sequence, and its state after it.

        h_t = exp(Δ_t A) h_{t−1} + Δ_t B_t u_t,   y_t = C_t · h_t + D u_t

    per channel; B and C are shared by all. What is narrower than float32 is added up in float32.

    Args:
      u: the input.
      delta: Δ ≥ 0, how far each token moves the state.
      A: the decays, below 0.
      B: how the input enters the state.
      C: how the state is read.
      D: how the input passes by the state.
      initial: the state before the first token; zeros unless given.
      reset: tokens that begin a sequence of their own: the state before them is forgotten.
      length: how many tokens there are; those after them leave the state alone, whatever they
        hold, and their outputs mean nothing. All, unless given.
      method: "sequential", "associative" (a parallel prefix, 13 to 16 times the memory of all
        states), "chunked" (about √L tokens at a time, whose states the gradient computes again;
        in reverse mode alone, as its gradient is written out), or "auto", the fastest of them here.

    Returns:
      y in the type of u, and the last state.

    Source: Gu & Dao, Mamba: Linear-Time Sequence Modeling with Selective State Spaces (2023),
    algorithm 2, with the Euler discretisation of B that its authors' code has.
    """
    scan = _method(method, len(u))
    u, delta, B, C, reset = _up_to(length, (u, delta, B, C, reset))
    tokens = _tokens(u, delta, B, C, reset)
    begun = _begun(initial, A.shape, tokens.entering.dtype)
    if not len(u):
        return u, begun
    y, last = scan(A.astype(begun.dtype), tokens, begun)
    return _passing_by(y, D[None], u), last


def ssd_scan(
    u: Float[Array, "L G F"],
    delta: Float[Array, "L G"],
    A: Float[Array, "G"],
    B: Float[Array, "L Z"],
    C: Float[Array, "L Z"],
    D: Float[Array, "G"],
    *,
    initial: Float[Array, "Z G F"] | None = None,
    reset: Bool[Array, "L"] | None = None,
    length: Int[Array, ""] | int | None = None,
    chunk: int | None = None,
) -> tuple[Float[Array, "L G F"], Float[Array, "Z G F"]]:
    """`selective_scan` of G heads of F channels, where a head has one Δ, one decay A and one D.

    Within a chunk of Q tokens, with cs the sums of Δ A from its beginning,

        y_q = Σ_{s ≤ q} (C_q · B_s) exp(cs_q − cs_s) Δ_s u_s + exp(cs_q) C_q · h + D u_q
        h  ← exp(cs_Q) h + Σ_s exp(cs_Q − cs_s) B_s ⊗ Δ_s u_s

    where the sums go over tokens of q's own segment, and h reaches those before the first reset.
    Q is about √L and at most 32, unless `chunk` says it; the other arguments are those of S6.

    Source: Dao & Gu, Transformers are SSMs (2024), listing 1.
    """
    u, delta, B, C, reset = _up_to(length, (u, delta, B, C, reset))
    tokens = _tokens(u, delta, B, C, reset)
    begun = _begun(initial, (B.shape[1], *u.shape[1:]), tokens.entering.dtype)
    if not len(u):
        return u, begun
    decays = A.astype(begun.dtype)
    size = chunk or min(chunk_length(len(u)), LONGEST_SSD_CHUNK)
    # In a loop nothing is there to be shared with what the gradient computes again.
    one_chunk = jax.checkpoint(functools.partial(_ssd_chunk, decays), prevent_cse=False)
    y, last = _over_chunks(one_chunk, tokens, begun, size)
    return _passing_by(y, D[None, :, None], u), last


def chunk_length(length: int) -> int:
    """Tokens of a chunk: the power of two next to √L, so that states and chunks weigh alike."""
    return 2 ** round(math.log2(length) / 2)


def fastest(platform: str, length: int) -> str:
    """The method that `auto` takes for a sequence of a length on a back end."""
    found = UNMEASURED
    for shortest, method in FASTEST.get(platform, ()):
        if length >= shortest:
            found = method
    return found


def _method(name: str, length: int) -> Callable:
    """A function (A, tokens, state) -> (y, last)."""
    check_choice("method", name, ("auto", *METHODS))
    return METHODS[fastest(jax.default_backend(), length) if name == "auto" else name]


def _up_to(length: Array | int | None, of_tokens: Any) -> Any:
    """Leaves [L, ...] with zeros beyond the length, where Δ = 0 leaves the state alone.

    All of them, as 0 · NaN is NaN: in the state, and in gradients.
    """
    if length is None:
        return of_tokens

    def mask(leaf: Array) -> Array:
        within = jnp.arange(len(leaf)) < length
        within = jnp.expand_dims(within, tuple(range(1, leaf.ndim)))
        return jnp.where(within, leaf, jnp.zeros_like(leaf))

    return jax.tree.map(mask, of_tokens)


def _tokens(u: Array, delta: Array, B: Array, C: Array, reset: Array | None) -> Tokens:
    """What is scanned, in the type of the sums."""
    dtype = jnp.float64 if u.dtype == jnp.float64 else jnp.float32
    if reset is None:
        reset = jnp.zeros(len(u), bool)
    delta = delta.astype(dtype)
    of_channels = delta.reshape(*delta.shape, *(1 for _ in u.shape[delta.ndim :]))
    return Tokens(of_channels * u.astype(dtype), delta, B.astype(dtype), C.astype(dtype), reset)


def _passing_by(y: Array, D: Array, u: Array) -> Array:
    """y + D u, in the type of u."""
    return (y + D.astype(y.dtype) * u.astype(y.dtype)).astype(u.dtype)


def _begun(initial: Array | None, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    """The state to begin with."""
    return jnp.zeros(shape, dtype) if initial is None else initial.astype(dtype)


def _discretised(A: Array, token: Tokens) -> tuple[Array, Array]:
    """(decay, what enters), both [Z, E], of one token."""
    # exp(−∞) = 0 forgets what was before. Masked after it, the gradient would keep two decays.
    decay = jnp.exp(token.delta[None] * A + jnp.where(token.reset, -jnp.inf, 0.0))
    return decay, token.B[:, None] * token.entering[None]


def _sequential(A: Array, tokens: Tokens, state: Array) -> tuple[Array, Array]:
    """One token after another."""

    def step(state: Array, token: Tokens) -> tuple[Array, Array]:
        decay, entering = _discretised(A, token)
        state = decay * state + entering
        # Read at once: all states together are never kept.
        return state, jnp.sum(token.C[:, None] * state, axis=0)

    last, y = jax.lax.scan(step, state, tokens)
    return y, last


def _associative(A: Array, tokens: Tokens, state: Array) -> tuple[Array, Array]:
    """All tokens in a tree of pairs: two linear maps, one after the other, are one."""

    def then(first: tuple[Array, Array], second: tuple[Array, Array]) -> tuple[Array, Array]:
        return first[0] * second[0], second[0] * first[1] + second[1]

    each = jax.vmap(lambda token: _discretised(A, token))(tokens)
    decays, states = jax.lax.associative_scan(then, each)
    states = states + decays * state[None]
    return jnp.sum(tokens.C[:, :, None] * states, axis=1), states[-1]


def _chunked(A: Array, tokens: Tokens, state: Array) -> tuple[Array, Array]:
    """Chunks of tokens in turn; the gradient keeps the states between them, and no other."""
    one_chunk = functools.partial(_chunk, A)
    return _over_chunks(one_chunk, tokens, state, chunk_length(len(tokens.entering)))


@jax.custom_vjp
def _chunk(A: Array, state: Array, tokens: Tokens) -> tuple[Array, Array]:
    """(state, y) after the tokens of a chunk, with the gradient of `_chunk_slopes`."""
    y, last = _sequential(A, tokens, state)
    return last, y


def _chunk_and_arguments(A: Array, state: Array, tokens: Tokens) -> tuple[Any, Any]:
    """`_chunk`, and all that its gradient keeps."""
    return _chunk(A, state, tokens), (A, state, tokens)


def _chunk_slopes(
    kept: tuple[Array, Array, Tokens], slopes: tuple[Array, Array]
) -> tuple[Array, Array, Tokens]:
    """The derivatives of a loss by what `_chunk` is given, from those by the last state and by y.

    With a_t = exp(Δ_t A), e_t = Δ_t u_t, and g_t the derivative by h_t, from the last token to the
    first:

        g_t = C_t ∂y_t + a_{t+1} g_{t+1}     ∂C_t = Σ_channels h_t ∂y_t
        p_t = g_t a_t h_{t−1}                ∂B_t = Σ_channels g_t e_t
        ∂e_t = Σ_states B_t g_t              ∂Δ_t = Σ_states A p_t     ∂A = Σ_t Δ_t p_t

    Written out, as the states alone are kept and decays computed again, which costs less than
    reading them: a third of the time of differentiating `_sequential` (benchmarks/NOTES.md).
    """
    A, state, tokens = kept
    last_slope, y_slopes = slopes

    def forth(state: Array, token: Tokens) -> tuple[Array, Array]:
        decay, entering = _discretised(A, token)
        return decay * state + entering, state

    def back(
        after_token: tuple[Array, Array, Array], at_token: tuple[Tokens, Array, Array]
    ) -> tuple[tuple[Array, Array, Array], tuple[Array, Array, Array, Array]]:
        slope, A_slope, after = after_token
        token, before, y_slope = at_token
        decay, _ = _discretised(A, token)
        slope = slope + token.C[:, None] * y_slope[None]
        slope_before = slope * decay
        by_exponent = slope_before * before
        of_token = (
            jnp.sum(token.B[:, None] * slope, axis=0),
            jnp.sum(A * by_exponent, axis=0),
            jnp.matmul(slope, token.entering, precision="highest"),
            jnp.matmul(after, y_slope, precision="highest"),
        )
        return (slope_before, A_slope + token.delta[None] * by_exponent, before), of_token

    last, before = jax.lax.scan(forth, state, tokens)
    (state_slope, A_slope, _), token_slopes = jax.lax.scan(
        back, (last_slope, jnp.zeros_like(A), last), (tokens, before, y_slopes), reverse=True
    )
    no_slope: Any = np.zeros(tokens.reset.shape, jax.dtypes.float0)
    return A_slope, state_slope, Tokens(*token_slopes, reset=no_slope)


_chunk.defvjp(_chunk_and_arguments, _chunk_slopes)


def _over_chunks(
    one_chunk: Callable[[Array, Tokens], tuple[Array, Array]],
    tokens: Tokens,
    state: Array,
    size: int,
) -> tuple[Array, Array]:
    """(y, last) by `one_chunk(state, tokens) -> (state, y)`."""
    length = len(tokens.entering)
    count = -(-length // size)

    def cut(leaf: Array) -> Array:
        # Δ = 0 of what is filled up leaves the state alone.
        filled = jnp.pad(leaf, [(0, count * size - length), *((0, 0) for _ in leaf.shape[1:])])
        return filled.reshape(count, size, *leaf.shape[1:])

    last, y = jax.lax.scan(one_chunk, state, jax.tree.map(cut, tokens))
    return y.reshape(count * size, *y.shape[2:])[:length], last


def _ssd_chunk(A: Array, state: Array, tokens: Tokens) -> tuple[Array, Array]:
    """(state, y) after Q tokens, as products of matrices: A is [G], the state [Z, G, F]."""
    # Heads come first, so that what is multiplied lies as the products read it.
    entering = jnp.swapaxes(tokens.entering, 0, 1)  # [G, Q, F]
    until = jnp.triu(jnp.ones((len(tokens.entering),) * 2, tokens.delta.dtype))
    exponents = (tokens.delta * A[None]).T
    # A product, as XLA computes the parts of `cumsum` again for each pair of tokens on a CPU.
    sums = jnp.matmul(
        jnp.concatenate([exponents, tokens.reset[None].astype(exponents.dtype)]),
        until,
        precision="highest",
    )
    total, segment = sums[:-1], sums[-1]  # [G, Q], [Q]

    earlier = (until.T > 0) & (segment[:, None] == segment[None])
    # Masked before the exponential, which of a later token would overflow.
    difference = jnp.where(earlier[None], total[:, :, None] - total[:, None], -jnp.inf)
    weight = (tokens.C @ tokens.B.T)[None] * jnp.exp(difference)  # [G, Q, Q]
    y = jnp.swapaxes(weight @ entering, 0, 1)

    reached = jnp.where((segment == 0)[None], jnp.exp(total), 0.0)  # of what came before
    y = y + reached.T[:, :, None] * jnp.einsum("qz,zgf->qgf", tokens.C, state)

    left = jnp.exp(jnp.where((segment == segment[-1])[None], total[:, -1:] - total, -jnp.inf))
    entered = jnp.einsum("sz,sgf->zgf", tokens.B, left.T[:, :, None] * tokens.entering)
    return reached[None, :, -1:] * state + entered, y


METHODS: dict[str, Callable[[Array, Tokens, Array], tuple[Array, Array]]] = {
    "sequential": _sequential,
    "associative": _associative,
    "chunked": _chunked,
}
