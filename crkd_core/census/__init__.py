"""What a data set counts: boxes hit, radar and LiDAR sweeps, beside real nuScenes."""
