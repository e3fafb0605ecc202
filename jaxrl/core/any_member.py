"""What the members of a vmapped population decide together: a reduction over vmapped axes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Bool

from jaxrl.types import Array


@jax.custom_batching.custom_vmap
def any_member(needed: Bool[Array, ""]) -> Bool[Array, ""]:
    """Whether any member of a vmapped population needs it; without vmap, `needed` itself.

    For work that changes nothing where it is not needed: a loop over it of at most one round runs
    for all members, or for none. If each decided alone, vmap would run it for all of them every
    time.
    """
    return needed


@any_member.def_vmap
def _any_member_of_axis(
    axis_size: int, in_batched: list[bool], needed: Bool[Array, "M"]
) -> tuple[Bool[Array, ""], bool]:
    del axis_size, in_batched
    return any_member(jnp.any(needed)), False
