#!/usr/bin/env bash
# PPO on two nodes of four GPUs each, for as many turns as it takes: sbatch experiments/slurm_ppo.sh
#
# One process a GPU, and all GPUs of a node visible to each of its processes (no --gpus-per-task): so JAX takes its own.
#SBATCH --job-name=jaxrl-ppo
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=4
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail

# On a file system that all nodes see. A job that comes back, preempted or out of time, goes on where it had saved.
folder=runs/slurm-${SLURM_JOB_ID}
if [ -e "$folder/config.json" ]; then
  command=(resume "$folder")
else
  command=(train ppo --env Breakout-MinAtar --num-envs 65536 --num-steps 16 --minibatch-size 65536 --no-tuned
    --total-steps 1000000000 --stagger --folder "$folder")
fi
status=0
srun --kill-on-bad-exit=1 jaxrl "${command[@]}" --distributed || status=$?
if [ "$status" -eq 143 ]; then # stopped by SIGTERM, five minutes before its time was up, with everything saved
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
