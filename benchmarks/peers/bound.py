"""The matrix-product bound: the products of PPO's rollout and update, and nothing else of it.

The unit is one gradient step with its share of the rollout, 1 / (epochs · minibatches) of an
iteration: that share of the T steps forward through both networks, then on one minibatch of each
network's layers the forward product, the weight gradient, and for all but the first layer the input
gradient. No biases, nonlinearities, losses, environments, random numbers or optimiser. Rows are
independent, so the same products may be done in smaller tiles, and the rows may be split over
several XLA devices on the same cores: each way is a variant, and the fastest counts.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

from benchmarks.peers.protocol import Variant, serve
from jaxrl.cli import prepare_process

TILES = (256, 1024, 4096)
OBSERVATION, ACTIONS = 4, 2  # CartPole's
# The next unit's weights depend on this unit's gradients, else XLA would do the products once for
# all units; by so little that they stay what they are.
RATE = 1e-12


def make(setting: dict) -> list[Variant]:
    """A variant for each tile and number of devices that divide the rows."""
    import jax

    batch = setting["num_envs"] * setting["num_steps"]
    updates = setting["num_epochs"] * setting["num_minibatches"]
    minibatch = batch // setting["num_minibatches"]
    rollout, rest = divmod(setting["num_steps"], updates)
    if rest:
        raise ValueError(
            f"num_steps is {setting['num_steps']}, but must be a multiple of the {updates} "
            "gradient steps."
        )
    variants = []
    for devices in sorted({1, jax.local_device_count()}):
        if setting["num_envs"] % devices:
            continue
        rows, num_envs = minibatch // devices, setting["num_envs"] // devices
        for tile in [rows, *(tile for tile in TILES if tile < rows and rows % tile == 0)]:
            name = f"{'whole' if tile == rows else tile} × {devices}"
            shape = (rollout, num_envs, rows, tile)
            variants.append(
                Variant(
                    name, unit(shape, devices, tuple(setting["hidden_sizes"])), batch // updates
                )
            )
    return variants


def unit(shape: tuple[int, int, int, int], devices: int, hidden_sizes: tuple[int, ...]) -> Any:
    """`train(units)`, compiled for `devices` devices that each work on `shape`: see `products`."""
    import jax

    mesh = jax.make_mesh((devices,), ("device",), devices=jax.local_devices()[:devices])
    rows, replicated = jax.P("device"), jax.P()
    program = jax.jit(
        jax.shard_map(
            functools.partial(products, shape),
            mesh=mesh,
            in_specs=(replicated, rows, rows),
            out_specs=(rows, rows),
            check_vma=False,
        )
    )
    key, *keys = jax.random.split(jax.random.key(0), 3)
    observations = jax.random.normal(key, (devices * shape[2], OBSERVATION))
    sizes = [(OBSERVATION, *hidden_sizes, outputs) for outputs in (ACTIONS, 1)]
    networks = [initial(key, size) for key, size in zip(keys, sizes, strict=True)]
    weights = jax.tree.map(lambda leaf: jax.numpy.stack([leaf] * devices), networks)
    weights, observations = jax.device_put((weights, observations), jax.NamedSharding(mesh, rows))

    def train(units: int) -> None:
        jax.block_until_ready(program(jax.numpy.int32(units), weights, observations))

    return train


def initial(key: Any, sizes: tuple[int, ...]) -> list:
    """Weights that keep the size of what passes through them."""
    import jax

    shapes = list(itertools.pairwise(sizes))
    keys = jax.random.split(key, len(shapes))
    return [
        jax.random.normal(key, shape) / math.sqrt(shape[0])
        for key, shape in zip(keys, shapes, strict=True)
    ]


def products(
    shape: tuple[int, int, int, int], units: Any, weights: Any, observations: Any
) -> tuple:
    """The products of `units` units on one device: (weights, sum of the rollout's outputs).

    shape = (steps of the rollout in a unit, environments, rows of the minibatch, rows of a tile).
    weights: both networks' layers, [1, in, out] each; observations [rows, in].
    """
    import jax
    import jax.numpy as jnp

    steps, num_envs, rows, tile = shape
    acted = (
        observations
        if steps * num_envs <= rows
        else jnp.tile(observations, (-(-steps * num_envs // rows), 1))
    )
    acted = acted[: steps * num_envs].reshape(-1, min(tile, num_envs), OBSERVATION)
    learned = observations.reshape(-1, tile, OBSERVATION)

    def one_unit(_: Any, carry: tuple) -> tuple:
        networks, total = carry

        def act(total: Any, tile: Any) -> tuple:
            return jax.tree.map(
                jnp.add, total, [forward(network, tile)[-1] for network in networks]
            ), None

        def learn(sums: Any, tile: Any) -> tuple:
            return jax.tree.map(
                jnp.add, sums, [gradients(network, tile) for network in networks]
            ), None

        total, _ = jax.lax.scan(act, total, acted)
        sums, _ = jax.lax.scan(learn, jax.tree.map(jnp.zeros_like, networks), learned)
        return jax.tree.map(lambda leaf, gradient: leaf + RATE * gradient, networks, sums), total

    networks = jax.tree.map(lambda leaf: leaf[0], weights)
    total = [jnp.zeros((acted.shape[1], network[-1].shape[1])) for network in networks]
    return jax.tree.map(
        lambda leaf: leaf[None], jax.lax.fori_loop(0, units, one_unit, (networks, total))
    )


def forward(network: list, rows: Any) -> list:
    """What goes into each layer, and the last one's output."""
    outputs = [rows]
    for layer in network:
        outputs.append(outputs[-1] @ layer)
    return outputs


def gradients(network: list, rows: Any) -> list:
    """Forward, then each layer's weight gradient;
    the output itself stands for the loss's gradient."""
    *inputs, gradient = forward(network, rows)
    return weight_gradients(network, inputs, gradient)


def weight_gradients(network: list, inputs: list, gradient: Any) -> list:
    """Each layer's weight gradient, of what went into it and of the gradient of the output."""
    import jax

    result = []
    for place in reversed(range(len(network))):
        layer, entered = network[place], inputs[place]
        # XLA copies the wide operand of a product with one column, and does not copy that of a
        # product with one row. Others are faster where what entered is written down transposed.
        if layer.shape[1] == 1:
            result.append((gradient.T @ entered).T)
        else:
            result.append(jax.lax.optimization_barrier(entered.T) @ gradient)
        if place > 0:
            gradient = gradient @ layer.T
    return result[::-1]


if __name__ == "__main__":
    prepare_process()  # before JAX is imported: the devices that a training has
    serve(make, ["jax"], ["jax", "jaxlib"])
