"""Brax's own version of a task on one of its physics back ends, with its wrappers,
in a compiled scan."""

from __future__ import annotations

from benchmarks.peers.mujoco_actions import random_actions
from benchmarks.peers.protocol import Variant, serve


def make(setting: dict) -> list[Variant]:
    """Time limits and resets are brax's: every episode of a row begins with the row's first
    state."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from brax import envs

    name, num_envs = setting["environment"].partition("-")[0].lower(), setting["num_envs"]
    env = envs.create(
        name, backend=setting["backend"], batch_size=num_envs, auto_reset=True, episode_length=1000
    )
    actions = random_actions(num_envs, np.full(env.action_size, -1.0), np.ones(env.action_size))

    def chunk(state: envs.State, actions: jax.Array) -> envs.State:
        return jax.lax.scan(lambda state, action: (env.step(state, action), None), state, actions)[
            0
        ]

    drawn, state = jnp.asarray(actions), jax.jit(env.reset)(jax.random.key(0))
    run = jax.jit(chunk).lower(state, drawn).compile()

    def train(iterations: int) -> None:
        nonlocal state
        for _ in range(iterations):
            state = run(state, drawn)
        jax.block_until_ready(state)

    return [Variant(setting["backend"], train, len(actions) * num_envs)]


if __name__ == "__main__":
    serve(make, ["jax", "brax.envs"], ["brax", "jax", "jaxlib"])
