#!/usr/bin/env bash
# PPO on two nodes of four GPUs each, one process a node: sbatch experiments/slurm_ppo.sh
#SBATCH --job-name=jaxrl-ppo
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --output=%x-%j.log
set -euo pipefail

# --distributed reads the rest from SLURM. The folder must be on a file system that all nodes see.
folder=runs/slurm-${SLURM_JOB_ID}
srun --kill-on-bad-exit=1 jaxrl train ppo --env Breakout-MinAtar --num-envs 65536 --num-steps 16 \
  --minibatch-size 65536 --no-tuned --total-steps 1000000000 --stagger --distributed --folder "$folder"
