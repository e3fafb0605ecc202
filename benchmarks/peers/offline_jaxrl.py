"""jaxrl's offline algorithms: the compiled scan of an iteration, with the data on the device."""

from __future__ import annotations

from typing import Any

from benchmarks.peers.offline_data import rows
from benchmarks.peers.one_core import keep_to_one_core
from benchmarks.peers.protocol import Variant, serve

# Settings that are not the algorithm's.
ELSEWHERE = {"algorithm", "seconds", "clock", "core", "seeds", "reference"}
UPDATES = 50  # gradient steps of an iteration


def make(setting: dict) -> list[Variant]:
    """The algorithm's step, of one seed or of several side by side; its state is donated."""
    import jax

    algorithm, _, _ = made(setting)
    seeds = setting["seeds"]

    def steps(state: Any, iterations: Any) -> Any:
        return jax.lax.fori_loop(0, iterations, lambda _, state: algorithm.step(state)[0], state)

    init = algorithm.init if seeds == 1 else jax.vmap(algorithm.init)
    many = steps if seeds == 1 else jax.vmap(steps, in_axes=(0, None))
    key = jax.random.key(0)
    state = jax.jit(init)(key if seeds == 1 else jax.random.split(key, seeds))
    compiled = jax.jit(many, donate_argnums=0).lower(state, jax.numpy.int32(1)).compile()

    def train(iterations: int) -> None:
        nonlocal state
        state = jax.block_until_ready(compiled(state, jax.numpy.int32(iterations)))

    return [Variant(setting["algorithm"], train, UPDATES * seeds)]


def made(setting: dict) -> tuple[Any, Any, Any]:
    """(algorithm, configuration, dataset), of the settings that are the algorithm's."""
    from jaxrl.algos.registry import load
    from jaxrl.config import override
    from jaxrl.data.dataset import Dataset
    from jaxrl.data.recorded import Recorded, describe
    from jaxrl.envs.registry import make as make_environment

    spec, env = load(setting["algorithm"]), make_environment("Hopper-v5")
    own = {name: value for name, value in setting.items() if name not in ELSEWHERE}
    sizes = {"updates_per_iteration": UPDATES, "total_updates": 1_000_000_000}
    config = override(spec.config_class(), own | sizes)
    about = describe("random", "random numbers", environment="Hopper-v5")
    dataset = Dataset.of(Recorded(**rows(), about=about), env)
    return spec.factory(env, config, dataset=dataset), config, dataset


if __name__ == "__main__":
    keep_to_one_core()  # before JAX is imported
    serve(
        make,
        ["jaxrl.train.experiment", "jaxrl.data.dataset"],
        ["jaxrl", "jax", "jaxlib", "flax", "optax"],
    )
