"""jaxrl's VectorEnv on a MuJoCo task, in a compiled scan: observations, rewards,
exact resets, episode statistics."""

from __future__ import annotations

from benchmarks.peers.mujoco_actions import random_actions
from benchmarks.peers.protocol import Variant, serve
from jaxrl.cli import prepare_process


def make(setting: dict) -> list[Variant]:
    """The first episodes have lengths of their own (`stagger`),
    so that resets come as in a long run."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxrl.envs.registry import make
    from jaxrl.envs.starts.fresh import Fresh
    from jaxrl.envs.vector import VectorEnv, episode_metrics, no_episodes

    env, num_envs = make(setting["environment"], backend=setting["backend"]), setting["num_envs"]
    space, vector = env.action_space, VectorEnv(env, Fresh(env), num_envs, stagger=True)
    actions = random_actions(
        num_envs, np.full(space.shape, space.low), np.full(space.shape, space.high)
    )

    def one_step(carry: tuple, drawn: tuple) -> tuple[tuple, None]:
        state, episodes, rewards = carry
        action, key = drawn
        state, seen = vector.step(state, action, key)
        return (
            state,
            jax.tree.map(jnp.add, episodes, episode_metrics(seen)),
            rewards + seen.reward,
        ), None

    def chunk(carry: tuple, actions: jax.Array, key: jax.Array) -> tuple:
        return jax.lax.scan(one_step, carry, (actions, jax.random.split(key, len(actions))))[0]

    carry = jax.jit(lambda key: (vector.init(key), no_episodes(vector), jnp.zeros(num_envs)))(
        jax.random.key(0)
    )
    drawn, key = jnp.asarray(actions), jax.random.key(1)
    run = jax.jit(chunk, donate_argnums=0).lower(carry, drawn, key).compile()

    def train(iterations: int) -> None:
        nonlocal carry
        for _ in range(iterations):
            carry = run(carry, drawn, key)
        jax.block_until_ready(carry)

    return [Variant("vector", train, len(actions) * num_envs)]


if __name__ == "__main__":
    prepare_process()  # before JAX is imported: XLA leaves the cores to MuJoCo's threads
    serve(make, ["jax", "jaxrl.envs.registry"], ["jax", "jaxlib", "mujoco"])
