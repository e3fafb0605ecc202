"""Gymnasium's own vector environments: one after another in this process,
or each in a process of its own."""

from __future__ import annotations

from benchmarks.peers.mujoco_actions import random_actions
from benchmarks.peers.protocol import Variant, serve


def make(setting: dict) -> list[Variant]:
    """`make_vec` with its defaults; it begins an episode on the step after the last one ended."""
    import gymnasium

    num_envs = setting["num_envs"]
    envs = gymnasium.make_vec(setting["environment"], num_envs, vectorization_mode=setting["mode"])
    space = envs.single_action_space
    actions = random_actions(num_envs, space.low, space.high)
    envs.reset(seed=0)

    def train(iterations: int) -> None:
        for _ in range(iterations):
            for action in actions:
                envs.step(action)

    return [Variant(setting["mode"], train, len(actions) * num_envs)]


if __name__ == "__main__":
    serve(make, ["gymnasium"], ["gymnasium", "mujoco", "numpy"])
