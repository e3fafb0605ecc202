"""jaxrl's TD3 or SAC, as its command line runs it."""

from __future__ import annotations

from typing import Any

from benchmarks.peers.one_core import keep_to_one_core
from benchmarks.peers.protocol import Variant, serve

# Settings that are not the algorithm's.
ELSEWHERE = {"algorithm", "environment", "seconds", "clock", "core", "full"}
# The budget: far more than is timed.
TOTAL_STEPS = 1_000_000_000


def make(setting: dict) -> list[Variant]:
    """The compiled program of an experiment; its state is donated from call to call.

    Its first iteration is longer than the warm-up.
    """
    import jax

    from jaxrl.train.build import build
    from jaxrl.train.experiment import Experiment, default_config

    name, environment = setting["algorithm"], setting["environment"]
    config = default_config(name, environment, use_tuned=False)[0]
    settings = {key: value for key, value in setting.items() if key not in ELSEWHERE}
    given = Experiment(name, environment, config).changed(settings | {"total_steps": TOTAL_STEPS})
    program = build(given)
    state, _ = jax.block_until_ready(program.chunk(program.init(), 1))
    if setting["full"]:
        state = filled(state)

    def train(iterations: int) -> None:
        nonlocal state
        state, _ = jax.block_until_ready(program.chunk(state, iterations))

    return [Variant(name, train, setting["num_steps"] * setting["num_envs"])]


def filled(state: Any) -> Any:
    """The state with a full replay buffer: what is in it, again and again."""
    from dataclasses import replace

    import jax
    import jax.numpy as jnp

    log = state.experience.log
    places = jnp.arange(log.capacity) % log.count
    rows = jax.tree.map(lambda leaf: leaf[places], log.rows)
    written = jnp.asarray([[log.capacity, 0]], jnp.uint32)
    log = replace(log, rows=rows, written=written)
    return replace(state, experience=replace(state.experience, log=log))


if __name__ == "__main__":
    keep_to_one_core()  # before JAX is imported
    serve(
        make,
        ["jaxrl.train.experiment", "jaxrl.algos.td3", "jaxrl.algos.sac"],
        ["jaxrl", "jax", "jaxlib", "flax", "optax", "gymnax", "mujoco"],
    )
