"""The losses of one gradient step of OFQL or Diffusion-QL, with all that they are made of.

    python -m benchmarks.peers.offline_reference SETTING PATH

writes parameters, a batch, the random numbers and jaxrl's losses into an .npz file, for other
implementations to be compared with before they are timed.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.peers.offline_jaxrl import made


def reference(setting: dict) -> dict[str, np.ndarray]:
    """Everything by name, as `benchmarks.peers.offline_torch.check` reads it."""
    import jax

    from jaxrl.envs.registry import make

    algorithm, config, dataset = made(setting)
    learner = algorithm.init(jax.random.key(0)).learner
    other = algorithm.init(jax.random.key(1)).learner
    # Averages of their own, or a network that is taken for another would not show.
    learner = replace(learner, policy=other.policy)
    rules = rules_of(setting, config)
    space = make("Hopper-v5").action_space
    batch = dataset.sample(jax.random.key(2), config.batch_size, config.gamma, space)
    key = jax.random.key(3)
    _, seen = rules.update(learner, batch, key)
    found = {name: seen[name] for name in ("critic_loss", "behavior_loss", "policy_q")}
    found |= {f"batch.{name}": leaf for name, leaf in vars(batch).items() if leaf is not None}
    found |= drawn(key, rules, batch)
    networks = {
        "actor": in_order(learner.actor),
        "averaged": in_order(learner.policy.actor),
        "critic": of_ensemble(learner.critic),
        "target": of_ensemble(learner.policy.critic),
    }
    for name, leaves in networks.items():
        found |= {f"{name}.{index}": leaf for index, leaf in enumerate(leaves)}
    return {name: np.asarray(leaf) for name, leaf in found.items()}


def rules_of(setting: dict, config: Any) -> Any:
    """What takes the gradient steps."""
    from jaxrl.algos import dql, ofql
    from jaxrl.envs.registry import make
    from jaxrl.nn.q_networks import Critic

    env = make("Hopper-v5")
    models = {"ofql": ofql.mean_flow_policy, "dql": dql.diffusion_policy}
    model = models[setting["algorithm"]](env, config)
    return ofql.GenerativeQ(config, model, Critic(config.network, 1))


def drawn(key: Any, rules: Any, batch: Any) -> dict[str, Any]:
    """The random numbers that a gradient step with `key` draws."""
    import jax

    from jaxrl.core import mean_flow

    key_critic, key_actor = jax.random.split(key)
    key_behavior, key_draw, key_lot = jax.random.split(key_actor, 3)
    key_noise, key_more = jax.random.split(key_behavior)
    shape, model = batch.action.shape, rules.model
    noises = (model.num_noises, *shape)
    found = {
        "noise_next": jax.random.normal(key_critic, noises),
        "noise_policy": jax.random.normal(key_draw, noises),
        "drawn.noise": jax.random.normal(key_noise, shape),
        "index": jax.random.randint(key_lot, (), 0, rules.config.network.num_critics),
    }
    if model.num_noises > 1:
        step = jax.random.randint(key_more, (len(batch.action),), 0, model.num_noises)
        return found | {"drawn.step": step}
    config = rules.config
    one, other = mean_flow.draw_times(
        key_more,
        (2, len(batch.action)),
        config.time_distribution,
        config.time_mean,
        config.time_std,
    )
    start, time = mean_flow.time_pairs(one, other, config.flow_ratio)
    return found | {"drawn.start": start[:, None], "drawn.time": time[:, None]}


def in_order(params: Any) -> list[Any]:
    """Weights and biases: of the times' layers one after the other, then of the network's."""
    layers = params["params"]
    embeddings = sorted(name for name in layers if name.startswith("TimeEmbedding"))
    groups = [layers[name]["QLayers_0"] for name in embeddings] + [layers["QLayers_0"]]
    return [leaf for group in groups for leaf in dense(group)]


def of_ensemble(params: Any) -> list[Any]:
    """Weights and biases of one critic after the other."""
    import jax

    layers = params["params"]["QLayers_0"]
    number = layers["Dense_0"]["bias"].shape[0]
    critics = [
        dense(jax.tree.map(lambda leaf, index=index: leaf[index], layers))
        for index in range(number)
    ]
    return [leaf for critic in critics for leaf in critic]


def dense(layers: Any) -> list[Any]:
    """Weights and biases of layers, in order."""
    names = [f"Dense_{index}" for index in range(len(layers))]
    return [layers[name][what] for name in names for what in ("kernel", "bias")]


if __name__ == "__main__":
    np.savez(sys.argv[2], **reference(json.loads(sys.argv[1])))
