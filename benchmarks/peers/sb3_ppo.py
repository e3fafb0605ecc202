"""Stable-Baselines3's PPO on the processor, with the environments that its `make_vec_env` makes by
default."""

from __future__ import annotations

from typing import Any

from benchmarks.peers.protocol import Variant, serve


def build(library: Any, activation: Any, setting: dict) -> Any:
    """SB3's PPO, or SBX's, which takes the same arguments."""
    from stable_baselines3.common.env_util import make_vec_env

    batch = setting["num_envs"] * setting["num_steps"]
    hidden = list(setting["hidden_sizes"])
    return library.PPO(
        "MlpPolicy",
        make_vec_env(setting["environment"], n_envs=setting["num_envs"], seed=0),
        n_steps=setting["num_steps"],
        batch_size=batch // setting["num_minibatches"],
        n_epochs=setting["num_epochs"],
        learning_rate=setting["learning_rate"],
        gamma=setting["gamma"],
        gae_lambda=setting["gae_lambda"],
        clip_range=setting["clip_epsilon"],
        ent_coef=setting["entropy_coefficient"],
        vf_coef=setting["value_coefficient"],
        max_grad_norm=setting["max_grad_norm"],
        policy_kwargs={"net_arch": {"pi": hidden, "vf": hidden}, "activation_fn": activation},
        device="cpu",
        seed=0,
    )


def make(setting: dict) -> list[Variant]:
    """The model; every call of `learn` goes on where the last one ended."""
    import stable_baselines3
    import torch  # type: ignore[import-not-found, unused-ignore]

    batch = setting["num_envs"] * setting["num_steps"]
    model = build(stable_baselines3, {"tanh": torch.nn.Tanh}[setting["activation"]], setting)

    def train(iterations: int) -> None:
        model.learn(iterations * batch, log_interval=None, reset_num_timesteps=False)

    return [Variant("ppo", train, batch)]


if __name__ == "__main__":
    serve(make, ["stable_baselines3"], ["stable_baselines3", "torch", "gymnasium", "numpy"])
