"""The live detector: a lifecycle node, its inputs, worker, outputs and health."""
