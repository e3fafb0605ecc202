"""jaxrl's PPO, as its command line runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.peers.protocol import Variant, serve
from jaxrl.cli import prepare_process

if TYPE_CHECKING:
    from jaxrl.train.experiment import Experiment

# The budget: far more than is timed, so that the annealed learning rate stays what it is
ITERATIONS = 1_000_000


def experiment(setting: dict) -> Experiment:
    """What a setting of benchmarks/throughput.py asks of jaxrl."""
    from jaxrl.train.experiment import Experiment, default_config

    config = default_config("ppo", setting["environment"], use_tuned=False)[0]
    batch = setting["num_envs"] * setting["num_steps"]
    elsewhere = {"environment", "num_minibatches", "seconds"}
    settings = {name: value for name, value in setting.items() if name not in elsewhere}
    sizes = {
        "minibatch_size": batch // setting["num_minibatches"],
        "total_steps": batch * ITERATIONS,
    }
    return Experiment("ppo", setting["environment"], config).changed(settings | sizes)


def make(setting: dict) -> list[Variant]:
    """The compiled program of an experiment; its state is donated from call to call."""
    import jax

    from jaxrl.train.build import build

    batch = setting["num_envs"] * setting["num_steps"]
    program = build(experiment(setting))
    state = program.init()

    def train(iterations: int) -> None:
        nonlocal state
        state, _ = jax.block_until_ready(program.chunk(state, iterations))

    return [Variant(str(program.layout), train, batch)]


if __name__ == "__main__":
    prepare_process()  # before JAX is imported
    serve(
        make,
        ["jaxrl.train.experiment", "jaxrl.algos.ppo"],
        ["jaxrl", "jax", "jaxlib", "flax", "optax", "gymnax"],
    )
