"""EnvPool: the same tasks in C++ on a thread for each core, all environments stepped together."""

from __future__ import annotations

import os

from benchmarks.peers.mujoco_actions import random_actions
from benchmarks.peers.protocol import Variant, serve


def make(setting: dict) -> list[Variant]:
    """Its synchronous interface."""
    import envpool  # type: ignore[import-not-found, unused-ignore]

    num_envs, cores = setting["num_envs"], len(os.sched_getaffinity(0))
    options = {"env_type": "gymnasium", "num_threads": min(num_envs, cores), "seed": 0}
    envs = envpool.make(setting["environment"], num_envs=num_envs, **options)
    actions = random_actions(num_envs, envs.action_space.low, envs.action_space.high).astype(
        envs.action_space.dtype
    )
    envs.reset()

    def train(iterations: int) -> None:
        for _ in range(iterations):
            for action in actions:
                envs.step(action)

    return [Variant("envpool", train, len(actions) * num_envs)]


if __name__ == "__main__":
    serve(make, ["envpool"], ["envpool", "numpy"])
