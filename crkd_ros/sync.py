"""Which images and radar sweeps form a frame. Pure policy: no ROS, no clock of its own.

One sensor is the trigger: each of its messages asks for a frame at its stamp, the reference. The
frame then takes, of every other camera, the latest image not later than the reference, and of
every radar its last sweeps not later than the reference. That choice depends on stamps only, so
the live node and the deterministic replay form the same frames from the same messages. What
arrival order does change is WHEN the choice can be made: over DDS an image of the same set may
arrive after the trigger's. A reference is therefore settled when each live sensor has delivered
something newer, or when its next message is not due before the reference (judged by its own median
period), or when a short wait has passed. Replay, which sees messages in order, settles by
``flush`` instead.

Partial sets are normal: a camera or radar without a recent message is absent, not waited for.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from crkd_core.frame import ANCHOR_CAMERA, CAMERAS, RADARS
from crkd_ros.node_config import SyncConfig
from crkd_ros.tracks import Counts, Timed, Track, stamp_of

#: Who triggers: the first of these that is alive. The cameras are in the reverse of a nuScenes
#: rig's firing order, so that a stand-in for the anchor still sees most of the others' images of
#: its set. Radars come last: with every camera dead, frames go on at the radar's rate.
TRIGGERS = (
    ANCHOR_CAMERA,
    *("CAM_BACK", "CAM_BACK_RIGHT", "CAM_FRONT_RIGHT", "CAM_FRONT", "CAM_FRONT_LEFT"),
    *RADARS,
)

_IMAGES_KEPT = 8
_SWEEPS_KEPT_BEYOND = 8
_MAX_PENDING = 8


class SyncError(ValueError):
    """A sensor name that the synchroniser does not know."""


@dataclass(frozen=True, kw_only=True)
class FrameSet:
    """The messages of one frame.

    Attributes:
        stamp_ns: the reference time: stamp of the trigger's message.
        trigger: which sensor set it.
        images: camera -> its image; absent cameras have no entry.
        sweeps: radar -> its sweeps, newest first, at least one; absent radars have no entry.
    """

    stamp_ns: int
    trigger: str
    images: dict[str, Timed]
    sweeps: dict[str, tuple[Timed, ...]]


class Synchronizer:
    """Forms FrameSets from messages of six cameras and five radars.

    Add messages as they come, then ask ``take`` (live) or ``flush`` (replay) for frames. ``now``
    is any steadily growing clock in seconds; it is only compared with itself. Not thread-safe.
    """

    def __init__(
        self,
        config: SyncConfig | None = None,
        *,
        cameras: Sequence[str] = CAMERAS,
        radars: Sequence[str] = RADARS,
        triggers: Sequence[str] = TRIGGERS,
    ) -> None:
        self.config = config or SyncConfig()
        self._cameras, self._radars = tuple(cameras), tuple(radars)
        names = (*cameras, *radars)
        self._triggers = tuple(name for name in triggers if name in names)
        if not self._triggers:
            raise SyncError(f"no trigger among the sensors {', '.join(names) or '(none)'}")
        radar_kept = self.config.sweeps + _SWEEPS_KEPT_BEYOND
        self._tracks = {
            name: Track(radar_kept if name in radars else _IMAGES_KEPT) for name in names
        }
        self._pose_ns: int | None = None
        self._pending: list[tuple[int, float, str]] = []  # reference, deadline, trigger
        self._last_ns: int | None = None  # the newest reference handed out
        self._first_ns: int | None = None  # the first stamp seen
        #: Times that the stamps went back and everything was forgotten.
        self.time_jumps = 0
        #: Frames given up because nobody took them.
        self.overflowed = 0

    @property
    def counts(self) -> dict[str, Counts]:
        """Per sensor: what happened to its messages."""
        return {name: track.counts for name, track in self._tracks.items()}

    def newest_ns(self, sensor: str) -> int | None:
        """The newest stamp of a sensor since the last ``clear``."""
        return self._track(sensor).newest_ns

    def add_image(self, camera: str, stamp_ns: int, item: Any, *, now: float = 0.0) -> bool:
        """Take one image. ``item`` is handed through untouched. False: refused (and counted)."""
        if camera not in self._cameras:
            raise SyncError(f"unknown camera {camera!r}; known: {', '.join(self._cameras)}")
        return self._add(camera, stamp_ns, item, now)

    def add_radar(self, radar: str, stamp_ns: int, item: Any, *, now: float = 0.0) -> bool:
        """Take one radar sweep, like ``add_image``."""
        if radar not in self._radars:
            raise SyncError(f"unknown radar {radar!r}; known: {', '.join(self._radars)}")
        return self._add(radar, stamp_ns, item, now)

    def add_pose(self, stamp_ns: int) -> None:
        """Note that ego motion is known up to this stamp: frames wait for it like for a sensor."""
        back = self._pose_ns is not None and stamp_ns < self._pose_ns - self.config.jump * 1e9
        if self._pose_ns is None or stamp_ns > self._pose_ns or back:
            self._pose_ns = stamp_ns

    def take(self, now: float) -> list[FrameSet]:
        """The frames that are settled, or have waited long enough, oldest first."""
        ready = 0
        for reference, deadline, _ in self._pending:
            if now < deadline and not self._settled(reference):
                break
            ready += 1
        return self._emit(ready)

    def flush(self, before_ns: int | None = None) -> list[FrameSet]:
        """The frames with references before a stamp (None: all), oldest first, settled or not.

        Replay calls this with each message's stamp before it adds the message: everything not
        later than those references has then been added.
        """
        ready = len(self._pending)
        if before_ns is not None:
            ready = sum(reference < before_ns for reference, _, _ in self._pending)
        return self._emit(ready)

    def deadline(self) -> float | None:
        """When ``take`` will have a frame even if no message comes; None: nothing is pending."""
        return self._pending[0][1] if self._pending else None

    def clear(self) -> None:
        """Forget all messages and pending frames; the counts stay."""
        for track in self._tracks.values():
            track.clear()
        self._pending.clear()
        self._pose_ns = self._last_ns = self._first_ns = None

    def _track(self, sensor: str) -> Track:
        if sensor not in self._tracks:
            raise SyncError(f"unknown sensor {sensor!r}; known: {', '.join(self._tracks)}")
        return self._tracks[sensor]

    def _add(self, sensor: str, stamp_ns: int, item: Any, now: float) -> bool:
        track = self._tracks[sensor]
        track.counts.received += 1
        if stamp_ns <= 0:
            track.counts.zero_stamp += 1
            return False
        newest = track.newest_ns
        if newest is not None and stamp_ns < newest - self.config.jump * 1e9:
            self.clear()
            self.time_jumps += 1
            newest = None
        place = bisect.bisect_left(track.messages, stamp_ns, key=stamp_of)
        if place < len(track.messages) and track.messages[place].stamp_ns == stamp_ns:
            track.counts.duplicate += 1
            return False
        track.messages.insert(place, Timed(stamp_ns, item))
        del track.messages[: -track.kept]
        if self._last_ns is not None and stamp_ns <= self._last_ns:
            track.counts.late += 1
        if newest is not None and stamp_ns < newest:
            track.counts.out_of_order += 1
        else:
            track.stamps.append(stamp_ns)
        if self._first_ns is None:
            self._first_ns = stamp_ns
        if self._is_trigger(sensor, stamp_ns):
            self._ask(stamp_ns, now + self.config.wait, sensor)
        return True

    def _is_trigger(self, sensor: str, stamp_ns: int) -> bool:
        """Whether no sensor before this one in the list of triggers is alive."""
        if sensor not in self._triggers:
            return False
        for name in self._triggers[: self._triggers.index(sensor)]:
            track = self._tracks[name]
            # One not heard from yet is given as long as a silent one.
            newest = self._first_ns if track.newest_ns is None else track.newest_ns
            limit = self.config.dead_after * 1e9
            if track.period_ns is not None:
                limit = min(limit, 3 * track.period_ns)
            if newest is not None and stamp_ns - newest <= limit:
                return False
        return True

    def _ask(self, stamp_ns: int, deadline: float, trigger: str) -> None:
        if self._last_ns is not None and stamp_ns <= self._last_ns:
            return  # Counted as late; references only grow.
        if all(reference != stamp_ns for reference, _, _ in self._pending):
            bisect.insort(self._pending, (stamp_ns, deadline, trigger))
            self.overflowed += max(0, len(self._pending) - _MAX_PENDING)
            del self._pending[:-_MAX_PENDING]

    def _settled(self, reference: int) -> bool:
        """Whether nothing that is under way can belong to this reference."""
        dead_after, jitter = self.config.dead_after * 1e9, self.config.jitter * 1e9
        # A drive that begins: give every sensor a chance to say its first word.
        starting = self._first_ns is not None and reference - self._first_ns < dead_after
        for track in self._tracks.values():
            newest, period = track.newest_ns, track.period_ns
            if newest is None:
                if starting:
                    return False
                continue
            if newest > reference or reference - newest > dead_after:
                continue
            if period is None or newest + period <= reference + jitter:
                return False
        pose = self._pose_ns
        return pose is None or pose >= reference or reference - pose > dead_after

    def _emit(self, count: int) -> list[FrameSet]:
        ready, self._pending = self._pending[:count], self._pending[count:]
        frames = [self._choose(reference, trigger) for reference, _, trigger in ready]
        if frames:
            self._last_ns = frames[-1].stamp_ns
        return frames

    def _choose(self, reference: int, trigger: str) -> FrameSet:
        images = {
            name: latest[-1]
            for name in self._cameras
            if (latest := self._within(name, reference, self.config.camera_spread))
        }
        sweeps = {
            name: tuple(reversed(recent[-self.config.sweeps :]))
            for name in self._radars
            if (recent := self._within(name, reference, self.config.sweep_age))
            and reference - recent[-1].stamp_ns <= self.config.radar_timeout * 1e9
        }
        return FrameSet(stamp_ns=reference, trigger=trigger, images=images, sweeps=sweeps)

    def _within(self, sensor: str, reference: int, age: float) -> list[Timed]:
        oldest = reference - age * 1e9
        messages: Iterable[Timed] = self._tracks[sensor].until(reference)
        return [message for message in messages if message.stamp_ns >= oldest]
