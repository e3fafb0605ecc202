"""20,000 steps of Walker2d's expert teacher, acting deterministically."""

from __future__ import annotations

from jaxrl.data.recorded import Recorded
from jaxrl.train.datasets.parts import taught

NAME = "walker2d-expert-narrow"


def build(small: bool = False, seed: int = 0) -> Recorded:
    """Play its episodes."""
    return taught.played(
        NAME,
        "Walker2d-v5",
        "expert",
        small=small,
        seed=seed,
        mode="deterministic",
        num_rows=20_000,
    )
