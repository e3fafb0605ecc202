"""SBX's TD3 or SAC: Stable-Baselines3's loop, environment and replay buffer,
with the networks and gradient steps in JAX."""

from __future__ import annotations

from typing import Any

from benchmarks.peers.one_core import keep_to_one_core
from benchmarks.peers.protocol import Variant, serve

# Environment steps, and gradient steps, of one iteration.
STEPS = 250
PACKAGES = (
    "sbx-rl",
    "stable_baselines3",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "gymnasium",
    "mujoco",
    "numpy",
)


def make(setting: dict) -> list[Variant]:
    """The model; every call of `learn` goes on where the last one ended.

    Before it is timed, it takes the random steps that come before its first gradient step.
    """
    import jax

    model = build(setting)

    def train(iterations: int) -> None:
        model.learn(iterations * STEPS, log_interval=None, reset_num_timesteps=False)
        jax.block_until_ready((model.policy.actor_state, model.policy.qf_state))

    train(setting["warm_up"] // STEPS + 1)
    return [Variant(setting["algorithm"], train, STEPS)]


def build(setting: dict, seed: int = 0) -> Any:
    """The model, untrained, in an environment of its own."""
    import flax.linen
    import gymnasium
    import numpy as np
    import sbx
    from stable_baselines3.common.noise import NormalActionNoise

    name = setting["algorithm"]
    env = gymnasium.make(setting["environment"])
    given: dict[str, Any] = {
        "learning_rate": setting["learning_rate"],
        "qf_learning_rate": setting["critic_learning_rate"],
        "buffer_size": setting["replay_capacity"],
        "learning_starts": setting["warm_up"],
        "batch_size": setting["batch_size"],
        "tau": setting["tau"],
        "gamma": setting["gamma"],
        "train_freq": 1,
        "gradient_steps": 1,
        "policy_delay": setting["policy_delay"],
        "policy_kwargs": {
            "net_arch": list(setting["hidden_sizes"]),
            "activation_fn": getattr(flax.linen, setting["activation"]),
            "n_critics": setting["num_critics"],
        },
        "seed": seed,
    }
    if name == "td3":
        size = env.action_space.shape
        deviation = np.full(size, setting["exploration_noise"])
        given |= {
            "action_noise": NormalActionNoise(np.zeros(size), deviation),
            "target_policy_noise": setting["target_noise"],
            "target_noise_clip": setting["target_noise_clip"],
        }
    return {"td3": sbx.TD3, "sac": sbx.SAC}[name]("MlpPolicy", env, **given)


if __name__ == "__main__":
    keep_to_one_core()  # before JAX is imported
    serve(make, ["sbx"], PACKAGES)
