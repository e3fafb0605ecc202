#!/usr/bin/env bash
# Fifty seeds of PPO, ten in each of five tasks that share nothing: sbatch experiments/slurm_array.sh
#
# Settings go behind the script, one a word. Task t takes setting t mod 3 of these three, and the seeds t / 3 of them:
#   sbatch --array=0-14 experiments/slurm_array.sh --learning-rate=3e-4 --learning-rate=1e-3 --learning-rate=3e-3
# When all are done: jaxrl plot runs/slurm-JOB/*
#SBATCH --job-name=jaxrl-array
#SBATCH --array=0-4
#SBATCH --gpus=1
#SBATCH --cpus-per-task=4
#SBATCH --time=04:00:00
#SBATCH --signal=B:TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.log
set -euo pipefail

seeds=10
settings=("$@")
[ "$#" -gt 0 ] || settings=("")
setting=${settings[SLURM_ARRAY_TASK_ID % ${#settings[@]}]}
round=$((SLURM_ARRAY_TASK_ID / ${#settings[@]}))
first=$((round * seeds))

# A task that comes back, preempted or out of time, goes on where it had saved.
folder=runs/slurm-${SLURM_ARRAY_JOB_ID}/${SLURM_ARRAY_TASK_ID}
if [ -e "$folder/config.json" ]; then
  command=(resume "$folder")
else
  command=(train ppo --env Breakout-MinAtar --seed "$first" --num-seeds "$seeds" --folder "$folder"
    ${setting:+"$setting"})
fi

# SLURM's signal reaches this shell alone, five minutes before its time is up. jaxrl then saves, and ends with 143.
trap 'kill -TERM "${!:-}" 2>/dev/null || true' TERM
jaxrl "${command[@]}" &
status=0
wait "$!" || status=$?
while kill -0 "$!" 2>/dev/null; do # the signal has ended the waiting before it ends jaxrl
  status=0
  wait "$!" || status=$?
done
if [ "$status" -eq 143 ]; then
  scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
fi
exit "$status"
