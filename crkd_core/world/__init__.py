"""The synthetic world, written as a nuScenes dataset."""
