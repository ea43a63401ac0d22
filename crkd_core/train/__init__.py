"""Training: the loop, the run folder, the order of samples."""
