"""What a training minimises against the truth: targets, detection and depth losses."""
