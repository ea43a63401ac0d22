"""nuScenes data sets: tables to an index on disk, samples to Frames, without the devkit."""
