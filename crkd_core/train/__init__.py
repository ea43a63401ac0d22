"""Training: loop, schedule, checkpoints."""
