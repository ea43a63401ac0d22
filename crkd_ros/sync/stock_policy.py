"""``sync.policy: message_filters``: sets of images chosen by the stock ROS synchroniser.

The images go through the real ``message_filters.ApproximateTimeSynchronizer``: a set needs one
image of every camera, stamps within ``sync.slop``. Radar sweeps do not: it would use up each
message in one set, while a frame needs the last several sweeps of each radar. They are kept and
chosen as under policy ``anchor``. For comparison, and for those who must have the stock behaviour:
one dead camera stops all frames.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from crkd_core.sensors import CAMERAS, RADARS
from crkd_ros.convert import box_messages, ros_packages
from crkd_ros.parameters.framing import SyncConfig
from crkd_ros.sync.clock_jumps import Message
from crkd_ros.sync.history import Arrival, Timed
from crkd_ros.sync.synchroniser import FrameSet, SyncError, Synchronizer
from crkd_ros.sync.triggers import Trigger


class Stamped(NamedTuple):
    """What goes through message_filters in an image's place: it looks at ``header.stamp``."""

    header: Any
    sensor: str
    arrival: Arrival
    image: Timed


class StockFilters:
    """The stock synchroniser over some topics.

    Args:
        sensors: one topic each.
        slop: longest spread of a set, s.
        queue_size: messages that each topic keeps for a partner.

    Raises:
        SyncError: message_filters is not installed.
    """

    def __init__(self, sensors: Sequence[str], *, slop: float, queue_size: int) -> None:
        if not ros_packages.installed("message_filters"):
            raise SyncError(
                "sync.policy message_filters needs the ROS package message_filters, which is not "
                "installed (apt: ros-<distribution>-message-filters); sync.policy anchor needs "
                "nothing"
            )
        stock = importlib.import_module("message_filters")
        self._filters = {sensor: stock.SimpleFilter() for sensor in sensors}
        # The arguments that every ROS 2 distribution has, by position: their names differ.
        self._stock = stock.ApproximateTimeSynchronizer(
            list(self._filters.values()), queue_size, slop
        )
        self._stock.registerCallback(self._on_set)
        self._sets: list[tuple[Stamped, ...]] = []

    def add(self, sensor: str, arrival: Arrival, item: Any) -> list[tuple[Stamped, ...]]:
        """Give it one message; the sets that this completes."""
        header = box_messages.header(arrival.stamp_ns, "", ros_packages.make)
        image = Timed(arrival.stamp_ns, item)
        self._filters[sensor].signalMessage(Stamped(header, sensor, arrival, image))
        sets, self._sets = self._sets, []
        return sets

    def _on_set(self, *found: Stamped) -> None:
        # Called with its lock held: an exception here would leave it locked for ever.
        self._sets.append(found)


class FilterSynchronizer(Synchronizer):
    """A Synchronizer whose references and images are those of the stock synchroniser's sets.

    The reference is the stamp of a set's newest image. A set that is not newer than the last one
    handed out is dropped: references only grow.

    Raises:
        SyncError: message_filters is not installed, or there is no camera.
    """

    def __init__(
        self,
        config: SyncConfig | None = None,
        *,
        cameras: Sequence[str] = CAMERAS,
        radars: Sequence[str] = RADARS,
    ) -> None:
        if not cameras:
            raise SyncError("sync.policy message_filters needs a camera; use sync.policy anchor")
        super().__init__(config, cameras=cameras, radars=radars)
        self._begin()

    def clear(self) -> None:
        """Forget all messages and pending frames; the counts stay."""
        super().clear()
        # A queue keeps its newest stamps: after time went back, only old ones would stay in it.
        self._begin()

    def _begin(self) -> None:
        self._filters = StockFilters(
            self._cameras, slop=self.config.slop, queue_size=self.config.queue_size
        )
        self._sets: dict[Trigger, dict[str, Timed]] = {}

    def _insert(self, message: Message) -> bool:
        taken = super()._insert(message)
        if taken and message.sensor in self._cameras:
            for found in self._filters.add(message.sensor, message.arrival, message.item):
                newest = max(found, key=lambda one: one.arrival.stamp_ns)
                stamp_ns, at = newest.arrival
                trigger = Trigger(stamp_ns, newest.sensor, stamp_ns, stamp_ns, at)
                self._sets[trigger] = {one.sensor: one.image for one in found}
        return taken

    def _find(self, *, ended: bool = False) -> Trigger | None:
        last_ns = 0 if self._last is None else self._last.reference_ns
        self._sets = {
            trigger: images
            for trigger, images in self._sets.items()
            if trigger.reference_ns > last_ns
        }
        return min(self._sets, default=None)

    def _choose(self, trigger: Trigger) -> FrameSet:
        return dataclasses.replace(super()._choose(trigger), images=self._sets[trigger])


def make_synchronizer(
    config: SyncConfig, *, cameras: Sequence[str], radars: Sequence[str]
) -> Synchronizer:
    """The synchroniser of ``config.policy``. Raises SyncError."""
    kind = FilterSynchronizer if config.policy == "message_filters" else Synchronizer
    return kind(config, cameras=cameras, radars=radars)
