"""SBX's PPO: Stable-Baselines3's loop and environments,
with the networks and gradient steps in JAX."""

from __future__ import annotations

from benchmarks.peers.protocol import Variant, serve
from benchmarks.peers.sb3_ppo import build


def make(setting: dict) -> list[Variant]:
    """The model; every call of `learn` goes on where the last one ended."""
    import flax.linen
    import jax
    import sbx

    batch = setting["num_envs"] * setting["num_steps"]
    model = build(sbx, getattr(flax.linen, setting["activation"]), setting)

    def train(iterations: int) -> None:
        model.learn(iterations * batch, log_interval=None, reset_num_timesteps=False)
        jax.block_until_ready((model.policy.actor_state, model.policy.vf_state))

    return [Variant("ppo", train, batch)]


if __name__ == "__main__":
    serve(
        make,
        ["sbx"],
        ["sbx-rl", "stable_baselines3", "jax", "jaxlib", "flax", "optax", "gymnasium", "numpy"],
    )
