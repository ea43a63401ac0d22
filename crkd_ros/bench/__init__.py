"""Measures the real node over DDS: what it costs beside its network, and whether it lasts."""
