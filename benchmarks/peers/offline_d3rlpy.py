"""d3rlpy's TD3+BC or IQL, in PyTorch, with the layers of the setting, by its own `update`."""

from __future__ import annotations

from typing import Any

from benchmarks.peers.offline_data import rows
from benchmarks.peers.one_core import keep_to_one_core
from benchmarks.peers.protocol import Variant, serve

UPDATES = 20  # gradient steps of one iteration


def make(setting: dict) -> list[Variant]:
    """Its replay buffer draws the batches; its `update` takes a gradient step."""
    import d3rlpy
    import torch

    torch.set_num_threads(1)
    found = rows()
    dataset = d3rlpy.dataset.MDPDataset(
        observations=found["observation"],
        actions=found["action"],
        rewards=found["reward"],
        terminals=found["terminated"].astype("float32") * 0,
        timeouts=found["truncated"].astype("float32"),
    )
    encoder = d3rlpy.models.VectorEncoderFactory(hidden_units=list(setting["hidden_sizes"]))
    sizes = {"batch_size": setting["batch_size"], "actor_encoder_factory": encoder}
    sizes |= {"critic_encoder_factory": encoder}
    kinds: dict[str, Any] = {
        "td3_bc": lambda: d3rlpy.algos.TD3PlusBCConfig(**sizes),
        "iql": lambda: d3rlpy.algos.IQLConfig(**sizes, value_encoder_factory=encoder),
    }
    algorithm = kinds[setting["algorithm"]]().create(device="cpu:0")
    algorithm.build_with_dataset(dataset)

    def train(iterations: int) -> None:
        for _ in range(iterations * UPDATES):
            algorithm.update(dataset.sample_transition_batch(setting["batch_size"]))

    return [Variant(setting["algorithm"], train, UPDATES)]


if __name__ == "__main__":
    keep_to_one_core()
    serve(make, ["d3rlpy"], ["d3rlpy", "torch", "numpy"])
