"""rejax's PPO: its own jitted `train`, without evaluations."""

from __future__ import annotations

from benchmarks.peers.protocol import Variant, serve


def make(setting: dict) -> list[Variant]:
    """`train` for a number of iterations is one program; its state goes from call to call."""
    import jax
    import rejax

    batch = setting["num_envs"] * setting["num_steps"]
    algorithm = rejax.get_algo("ppo").create(
        env=setting["environment"],
        agent_kwargs={
            "activation": setting["activation"],
            "hidden_layer_sizes": tuple(setting["hidden_sizes"]),
        },
        num_envs=setting["num_envs"],
        num_steps=setting["num_steps"],
        num_epochs=setting["num_epochs"],
        num_minibatches=setting["num_minibatches"],
        learning_rate=setting["learning_rate"],
        gamma=setting["gamma"],
        gae_lambda=setting["gae_lambda"],
        clip_eps=setting["clip_epsilon"],
        ent_coef=setting["entropy_coefficient"],
        vf_coef=setting["value_coefficient"],
        max_grad_norm=setting["max_grad_norm"],
        skip_initial_evaluation=True,
    )
    algorithm = algorithm.replace(eval_callback=lambda algorithm, state, key: ())
    compiled: dict = {}
    state = algorithm.init_state(jax.random.key(0))

    def train(iterations: int) -> None:
        nonlocal state
        if iterations not in compiled:
            steps = iterations * batch
            job = algorithm.replace(total_timesteps=steps, eval_freq=steps)
            compiled[iterations] = (
                jax.jit(lambda state: job.train(train_state=state)[0]).lower(state).compile()
            )
        state = jax.block_until_ready(compiled[iterations](state))

    return [Variant("ppo", train, batch)]


if __name__ == "__main__":
    serve(make, ["rejax"], ["rejax", "jax", "jaxlib", "flax", "optax", "gymnax", "distrax"])
