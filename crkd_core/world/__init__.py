"""The synthetic world, written as a nuScenes dataset."""

from crkd_core.world.writer import WorldError, write_world

__all__ = ["WorldError", "write_world"]
