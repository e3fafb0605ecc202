"""200,000 steps of Hopper's medium teacher, acting stochastically."""

from __future__ import annotations

from jaxrl.data.recorded import Recorded
from jaxrl.train.datasets.parts import taught

NAME = "hopper-medium"


def build(small: bool = False, seed: int = 0) -> Recorded:
    """Play its episodes."""
    return taught.played(NAME, "Hopper-v5", "medium", small=small, seed=seed)
