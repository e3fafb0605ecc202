"""What SBX's TD3 or SAC learns: trained once for each seed, its last policy played with
deterministic actions.

Started as `python -m benchmarks.peers.off_policy_sbx_score SETTING`, where SETTING is JSON; prints
one line of JSON, {"returns": [of each episode], "seconds": of training, "versions": by package}.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
import time

from benchmarks.peers.off_policy_sbx import PACKAGES, build

# Seeds of the episodes that are played at the end: none that training has seen.
FIRST_EVALUATION_SEED = 3_000_000


def main() -> None:
    """Train, evaluate, print."""
    setting = json.loads(sys.argv[1])
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # libraries print what they like
    begun = time.perf_counter()
    model = build(setting, setting["seed"])
    model.learn(setting["total_steps"], log_interval=None)
    seconds = time.perf_counter() - begun
    returns = [
        play(model, setting["environment"], FIRST_EVALUATION_SEED + episode)
        for episode in range(setting["evaluation_episodes"])
    ]
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    answers.write(json.dumps({"returns": returns, "seconds": seconds, "versions": versions}) + "\n")


def play(model: object, environment: str, seed: int) -> float:
    """The undiscounted return of one episode."""
    import gymnasium

    env = gymnasium.make(environment)
    observation, _ = env.reset(seed=seed)
    total, ended = 0.0, False
    while not ended:
        action, _ = model.predict(observation, deterministic=True)
        observation, reward, terminated, truncated, _ = env.step(action)
        total, ended = total + float(reward), terminated or truncated
    return total


if __name__ == "__main__":
    main()
