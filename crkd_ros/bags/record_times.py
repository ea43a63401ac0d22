"""When the messages of a bag's sensors were recorded, found by their stamps."""

from __future__ import annotations

from array import array
from collections.abc import Iterable


class RecordTimes:
    """Grows while a bag is read, by 16 bytes a message."""

    def __init__(self, sensors: Iterable[str]) -> None:
        self._stamps = {name: array("q") for name in sensors}
        self._records = {name: array("q") for name in self._stamps}

    def add(self, sensor: str, stamp_ns: int, record_ns: int) -> None:
        """A message was read."""
        self._stamps[sensor].append(stamp_ns)
        self._records[sensor].append(record_ns)

    def of(self, sensor: str, stamp_ns: int) -> int:
        """Of the last message with this stamp: time may have gone back since one before.

        Raises:
            IndexError: there was none.
        """
        # From the end: who asks makes a frame of what came last.
        stamps = self._stamps[sensor]
        place = len(stamps) - 1
        while stamps[place] != stamp_ns:
            place -= 1
        return self._records[sensor][place]
