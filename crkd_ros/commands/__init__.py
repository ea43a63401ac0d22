"""Command lines over all of crkd_ros."""
