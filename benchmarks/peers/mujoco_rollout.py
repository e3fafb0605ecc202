"""Bare `mujoco.rollout` on a thread for each core: physics alone,
a call an environment step, states handed on."""

from __future__ import annotations

from benchmarks.peers.mujoco_actions import random_actions
from benchmarks.peers.protocol import Variant, serve

# Nothing ends an episode here: as often as random actions end one, all rows go back to their first
# states, or robots would lie on the ground for ever, which is another load.
EPISODE = {"Hopper-v5": 20, "Walker2d-v5": 20, "Ant-v5": 100, "Humanoid-v5": 20}


def make(setting: dict) -> list[Variant]:
    """Controls are repeated beforehand, and nothing is checked or copied between two calls."""
    import mujoco
    import numpy as np
    from mujoco.rollout import Rollout

    from benchmarks.report import cores
    from jaxrl.envs.registry import make
    from jaxrl.envs.suites.mujoco.model import load

    env = make(setting["environment"])
    spec, space, num_envs = env.physics.model, env.action_space, setting["num_envs"]
    model, full = load(spec.path), mujoco.mjtState.mjSTATE_FULLPHYSICS
    data = [mujoco.MjData(model) for _ in range(cores())]
    actions = random_actions(
        num_envs, np.full(space.shape, space.low), np.full(space.shape, space.high)
    )
    controls = np.repeat(actions[:, :, None].astype(np.float64), spec.frame_skip, axis=2)
    first = np.zeros((num_envs, mujoco.mj_stateSize(model, full)))
    mujoco.mj_getState(model, data[0], first[0], full)
    first[1:] = first[0]
    first[:, 1:] += np.random.default_rng(1).uniform(-0.01, 0.01, first[:, 1:].shape)
    states = np.empty((num_envs, spec.frame_skip, first.shape[1]))
    sensors = np.empty((num_envs, spec.frame_skip, model.nsensordata))
    outputs = {
        "nstep": spec.frame_skip,
        "state": states,
        "sensordata": sensors,
        "skip_checks": True,
    }
    pool, models, state, step = Rollout(nthread=len(data)), [model] * num_envs, first.copy(), 0

    def train(iterations: int) -> None:
        nonlocal step
        for _ in range(iterations):
            for control in controls:
                pool.rollout(models, data, state, control, **outputs)
                step += 1
                state[:] = states[:, -1] if step % EPISODE.get(spec.name, 1000) else first

    return [Variant("rollout", train, actions.shape[0] * num_envs)]


if __name__ == "__main__":
    serve(make, ["mujoco", "jaxrl.envs.registry"], ["mujoco", "numpy"])
