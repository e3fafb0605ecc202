"""What is on disk: the run folder, its lock, its logs and its checkpoints."""
