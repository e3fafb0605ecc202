"""jaxrl's VectorEnv on MuJoCo's physics in JAX, in a compiled scan; all cores are XLA's."""

from __future__ import annotations

from benchmarks.peers.mujoco_jaxrl import make
from benchmarks.peers.protocol import serve

if __name__ == "__main__":
    serve(make, ["jax", "jaxrl.envs.registry"], ["jax", "jaxlib", "mujoco", "mujoco-mjx"])
