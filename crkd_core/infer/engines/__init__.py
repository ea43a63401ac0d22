"""A network in fixed shapes, its files, and the engines that run them behind a Detector."""
