"""Weights of the released CRKD code, read into our networks and conventions."""

from crkd_core.official.file import import_official, read_official
from crkd_core.official.networks import convert
from crkd_core.official.source import OfficialError

__all__ = ["OfficialError", "convert", "import_official", "read_official"]
