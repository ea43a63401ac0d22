"""The synthetic world, written as a nuScenes or a View-of-Delft dataset."""

from crkd_core.world.content.weather import parse_shares
from crkd_core.world.vod import write_vod_world
from crkd_core.world.writer import WorldError, write_world

__all__ = ["WorldError", "parse_shares", "write_vod_world", "write_world"]
