"""What each sensor sees of the content: one ray caster, cameras, LiDAR and radars on it."""
