"""What TD3 did on Pendulum until it was half as good as it became.

All transitions of a run with the tuned settings, its random ones first, up to the evaluation that
reaches half of the way from the return of random actions to that of its end, the mean of the last
five evaluations. Those two returns are the reference scores.
"""

from __future__ import annotations

from jaxrl.data.recorded import Recorded, describe
from jaxrl.envs.registry import make
from jaxrl.train.datasets.parts.playing import mean_return, random_action
from jaxrl.train.datasets.parts.replayed import episodes_of, trained

NAME = "pendulum-medium-replay"
ENVIRONMENT = "Pendulum-v1"
EVALUATIONS = 30
FEW_STEPS = {"total_steps": 2_000, "warm_up": 500, "hidden_sizes": (16,)}


def build(small: bool = False, seed: int = 0) -> Recorded:
    """Train, and keep what was done."""
    env = make(ENVIRONMENT)
    run = trained("td3", ENVIRONMENT, EVALUATIONS, seed=seed, **(FEW_STEPS if small else {}))
    random = mean_return(env, lambda seen, key: random_action(env, seen, key), seed)
    expert = float(run.returns[-5:].mean())
    medium = (random + expert) / 2
    about = describe(
        NAME,
        f"the replay buffer of TD3 until it earned {medium:.0f} per episode",
        environment=ENVIRONMENT,
        reference_scores=(random, expert) if random < expert else None,
        seed=seed,
        small=small,
    )
    return episodes_of(run.until(medium), env.action_space, about)
