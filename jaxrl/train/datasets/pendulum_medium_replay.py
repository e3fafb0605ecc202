"""What TD3 did on Pendulum until it was half as good as it becomes.

All transitions of a run with the tuned settings, its random ones first, up to the first of its
evaluations, one per 500 transitions, that reaches half of the way between the reference scores. The
small one is of a small network that is never as good.
"""

from __future__ import annotations

from jaxrl.config import override
from jaxrl.data.recorded import Recorded, describe
from jaxrl.envs.registry import make
from jaxrl.train.datasets.parts.replayed import episodes_of, replayed, stop_at
from jaxrl.train.experiment import Experiment, RunSettings, default_config

NAME = "pendulum-medium-replay"
ENVIRONMENT = "Pendulum-v1"
# Mean returns of 10,000 episodes of uniformly random actions, and of the last five evaluations of
# TD3 with its tuned settings, after some 15,000 transitions of seed 0.
REFERENCE_SCORES = (-1229.0, -162.0)
MEDIUM = sum(REFERENCE_SCORES) / 2
SMALL = {"total_steps": 2_000, "batch_size": 32, "hidden_sizes": (16,)}


def build(small: bool = False, seed: int = 0) -> Recorded:
    """Train, and keep what was done."""
    config = override(default_config("td3", ENVIRONMENT)[0], SMALL if small else {})
    run = RunSettings(seed=seed, num_evaluations=30, modes=("deterministic",), devices=1)
    rows = replayed(Experiment("td3", ENVIRONMENT, config, run), stop_at(MEDIUM))
    about = describe(
        NAME,
        f"the replay buffer of TD3 until it earned {MEDIUM:.0f} per episode",
        environment=ENVIRONMENT,
        reference_scores=REFERENCE_SCORES,
        seed=seed,
        small=small,
    )
    return episodes_of(rows, make(ENVIRONMENT).action_space, about)
