"""nuScenes detection metrics, submissions and reports."""
