"""A policy: the parameters of its network, and the normaliser of what it observes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeVar

import jax

from jaxrl.core import moments
from jaxrl.core.moments import Moments
from jaxrl.types import ACTION_MASK, Dict, ObservationSpace, PyTree


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Policy:
    """What acting needs."""

    params: PyTree
    observation_moments: Moments | dict[str, Moments] | None  # of a dictionary, by key


P = TypeVar("P", bound=Any)


def observe(policy: P, observation: PyTree, axis_name: str | None = None) -> P:
    """The policy, its normaliser renewed by observations [..., *shape], on all devices together.

    It is a dataclass with `observation_moments`; where these are None, nothing is kept.

    After a rollout and the update from it, never between: both must see the same statistics.
    """
    kept = policy.observation_moments
    if kept is None:
        return policy
    if isinstance(kept, dict):
        renewed: Any = {
            key: moments.update(old, observation[key], axis_name) for key, old in kept.items()
        }
    else:
        renewed = moments.update(kept, observation, axis_name)
    return replace(policy, observation_moments=renewed)


def no_observations(space: ObservationSpace) -> Moments | dict[str, Moments]:
    """The moments of no observations; of a dictionary, of each key but the mask of actions."""
    if isinstance(space, Dict):
        return {key: moments.init(box.shape) for key, box in space.entries if key != ACTION_MASK}
    return moments.init(space.shape)


def normalized(policy: Policy, observation: PyTree) -> PyTree:
    """Observations [..., *shape], standardised if the policy keeps their moments."""
    kept = policy.observation_moments
    if kept is None:
        return observation
    if not isinstance(kept, dict):
        return moments.normalize_if_kept(kept, observation)
    return observation | {
        key: moments.normalize_if_kept(old, observation[key]) for key, old in kept.items()
    }
