"""Bags of other nuScenes converters, made into ours."""
