"""The synthetic world, written as a nuScenes dataset."""

from crkd_core.world.content.weather import parse_shares
from crkd_core.world.writer import WorldError, write_world

__all__ = ["WorldError", "parse_shares", "write_world"]
