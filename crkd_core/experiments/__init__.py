"""Many trainings that are compared: which, in which order, and what came of them."""
