"""200,000 steps of each of Hopper's medium and expert teachers, acting stochastically."""

from __future__ import annotations

from jaxrl.data.recorded import Recorded
from jaxrl.train.datasets.parts import taught

NAME = "hopper-medium-expert"


def build(small: bool = False, seed: int = 0) -> Recorded:
    """Play the episodes of one, then those of the other."""
    return taught.played(NAME, "Hopper-v5", "medium", "expert", small=small, seed=seed)
