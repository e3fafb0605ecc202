"""rejax's TD3: its own jitted `train`, without evaluations."""

from __future__ import annotations

from typing import Any

from benchmarks.peers.one_core import keep_to_one_core
from benchmarks.peers.protocol import Variant, serve

# Environment steps, and gradient steps, of one iteration.
STEPS = 50


def make(setting: dict) -> list[Variant]:
    """`train` for a number of iterations is one program; its state goes from call to call.

    Before it is timed, it takes the random steps that come before its first gradient step; from
    then on each environment step is followed by one gradient step.
    """
    import jax
    import rejax

    if setting["hidden_sizes"] != [64, 64]:
        raise ValueError("rejax's TD3 has hidden layers of 64 × 64 units, and no others.")
    network = {"activation": setting["activation"]}
    algorithm = rejax.get_algo("td3").create(
        env=setting["environment"],
        actor_kwargs=dict(network),
        critic_kwargs=dict(network),
        num_envs=setting["num_envs"],
        num_epochs=1,
        batch_size=setting["batch_size"],
        buffer_size=setting["replay_capacity"],
        fill_buffer=setting["warm_up"],
        learning_rate=setting["learning_rate"],
        gamma=setting["gamma"],
        polyak=1.0 - setting["tau"],
        policy_delay=setting["policy_delay"],
        exploration_noise=setting["exploration_noise"],
        target_noise=setting["target_noise"],
        target_noise_clip=setting["target_noise_clip"],
        skip_initial_evaluation=True,
    )
    algorithm = algorithm.replace(eval_callback=lambda algorithm, state, key: ())
    compiled: dict = {}
    # Copies, for the state is donated, as jaxrl donates its own, and may not hold an array twice.
    state = jax.tree.map(jax.numpy.array, algorithm.init_state(jax.random.key(0)))

    def train(iterations: int) -> None:
        nonlocal state
        if iterations not in compiled:
            job = algorithm.replace(total_timesteps=iterations * STEPS, eval_freq=STEPS)
            program = jax.jit(lambda state: job.train(train_state=state)[0], donate_argnums=0)
            compiled[iterations] = program.lower(state).compile()
        state = jax.block_until_ready(compiled[iterations](state))

    train(setting["warm_up"] // STEPS + 1)
    if setting["full"]:
        state = state.replace(replay_buffer=filled(state.replay_buffer))
    return [Variant("td3", train, STEPS)]


def filled(buffer: Any) -> Any:
    """The full replay buffer: what is in it, again and again."""
    import jax
    import jax.numpy as jnp

    places = jnp.arange(buffer.size) % buffer.num_entries
    data = jax.tree.map(lambda leaf: leaf[places], buffer.data)
    return buffer.replace(data=data, full=jnp.ones_like(buffer.full))


if __name__ == "__main__":
    keep_to_one_core()  # before JAX is imported
    serve(make, ["rejax"], ["rejax", "jax", "jaxlib", "flax", "optax", "gymnax"])
