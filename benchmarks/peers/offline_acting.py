"""A batch of actions: one draw of a policy for each of many observations, compiled."""

from __future__ import annotations

from benchmarks.peers.offline_data import OBSERVATION
from benchmarks.peers.one_core import keep_to_one_core
from benchmarks.peers.protocol import Variant, serve

# Batches of one iteration.
BATCHES = 10


def make(setting: dict) -> list[Variant]:
    """The mode "stochastic" of the agent, vmapped over observations."""
    import jax

    from jaxrl.algos.registry import load
    from jaxrl.config import override
    from jaxrl.envs.registry import make as make_environment
    from jaxrl.types import View

    env, spec = make_environment("Hopper-v5"), load(setting["algorithm"])
    sizes = {name: setting[name] for name in ("hidden_sizes",)}
    agent = spec.agent(env, override(spec.config_class(), sizes))
    policy = agent.init(jax.random.key(0))
    number = setting["observations"]

    def act(policy, observations, key):
        views = jax.vmap(lambda seen: View.at_start(seen, env.action_space))(observations)
        keys = jax.random.split(key, number)
        actions, _ = jax.vmap(agent.modes["stochastic"].act, in_axes=(None, None, 0, 0))(
            policy, agent.memory(policy), views, keys
        )
        return actions

    observations = jax.random.normal(jax.random.key(1), (number, OBSERVATION))
    compiled = jax.jit(act).lower(policy, observations, jax.random.key(2)).compile()
    key = jax.random.key(2)

    def train(iterations: int) -> None:
        for _ in range(iterations * BATCHES):
            jax.block_until_ready(compiled(policy, observations, key))

    return [Variant(setting["algorithm"], train, BATCHES)]


if __name__ == "__main__":
    keep_to_one_core()  # before JAX is imported
    serve(make, ["jaxrl.train.experiment"], ["jaxrl", "jax", "jaxlib", "flax"])
