"""All that HalfCheetah's teacher did until it was the medium one, its random steps first."""

from __future__ import annotations

from jaxrl.data.recorded import Recorded
from jaxrl.train.datasets.parts import taught

NAME = "halfcheetah-medium-replay"


def build(small: bool = False, seed: int = 0) -> Recorded:
    """Take the rows from its training, or train again."""
    return taught.learned(NAME, "HalfCheetah-v5", small=small, seed=seed)
