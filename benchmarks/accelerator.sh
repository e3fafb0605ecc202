#!/usr/bin/env bash
# All that is measured on an accelerator, in one call: the tests, PPO and environments by size, a profile.
# Needs jaxrl with its `test` extra and a JAX that sees the accelerator. Results go to benchmarks/results/.
#
#     benchmarks/accelerator.sh [python]
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${1:-python}
sizes=(2048 16384 131072 1048576 4194304)

"$python" -c 'import jax; print(jax.devices()); assert jax.default_backend() != "cpu", "JAX sees no accelerator"' || exit 1
"$python" -m pytest -q --maxfail 20
"$python" -m benchmarks.environments --sizes "${sizes[@]}"
"$python" -m benchmarks.scaling --environments CartPole-v1 Pendulum-v1 Breakout-MinAtar --num-envs "${sizes[@]}" \
  --num-steps 16 --repeats 3
"$python" -m benchmarks.memory
"$python" -m benchmarks.compile_time
"$python" -m jaxrl.cli train ppo --env CartPole-v1 --num-envs 1048576 --num-steps 16 --minibatch-size 1048576 \
  --no-tuned --stagger --total-steps 2200000000 --folder runs/million --overwrite --profile
