"""When it is measured how the cameras fire: once they have begun, and anew when one joins. Pure.

One that was restarted joins, too: it may fire at other times than before.

Drivers come up one after another, so the first second of a drive may hold one camera or none. It
depends on stamps alone, and what was measured holds for references after the stamps that it was
measured from: live node and replay form the same frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from crkd_ros.parameters.framing import SyncConfig
from crkd_ros.sync.firing import Firing, measure, unmeasured
from crkd_ros.sync.first_stamps import WINDOWS_NS
from crkd_ros.sync.history import History

#: Images of one trigger are so near, ns: those of the trigger with which a camera joins count.
_MARGIN_NS = 20_000_000
#: A camera that missed so many of its images in a row, and was silent for so long, ns, was
#: restarted. No shorter than it is measured: one that comes and goes is measured, too.
_MISSED, _MISSED_NS = 5, WINDOWS_NS[0]


class FiringWatch:
    """Knows the rule of a frame's images at every reference.

    Args:
        config: ``firing``, ``wait`` and what ``measure`` uses.
        histories: sensor -> what was heard of it.
        cameras: those that may join, the best one to set the reference first.
    """

    def __init__(
        self, config: SyncConfig, *, histories: Mapping[str, History], cameras: Sequence[str]
    ) -> None:
        self._config, self._histories, self._cameras = config, histories, tuple(cameras)
        #: What was measured, and the stamp from which on it holds; the newest last.
        self._measured: list[tuple[int, Firing]] = []
        self._unmeasured = unmeasured(config)
        #: Cameras heard, and those that were measured anew for after all.
        self._joined: set[str] = set()
        self._again: set[str] = set()
        self._from_ns: int | None = None
        self._windows = list[int]()

    def rule(self, reference_ns: int | None = None) -> Firing:
        """How the cameras fire at a reference; None: the latest known."""
        for since, firing in reversed(self._measured):
            if reference_ns is None or reference_ns > since:
                return firing
        return self._unmeasured

    def heard(self, sensor: str, stamp_ns: int) -> None:
        """A message was taken, and is in the histories."""
        if sensor in self._cameras and (
            sensor not in self._joined or self._returns(sensor, stamp_ns)
        ):
            self._joined.add(sensor)
            self._begin(stamp_ns)
        if self._from_ns is None or not self._windows:
            return
        until = self._from_ns + self._windows[0]
        # From then on it holds: a frame of before may have been handed out already.
        since = until + round(self._config.wait * 1e9)
        if stamp_ns <= since:
            return
        self._windows.pop(0)
        first = self._from_ns - _MARGIN_NS
        stamps = {
            name: [
                one.stamp_ns
                for one in self._histories[name].heard
                if first <= one.stamp_ns <= until
            ]
            for name in self._cameras
        }
        found = measure(stamps, self._cameras, self._config, complete=not self._windows)
        if found is None:
            return
        self._measured = [*self._measured[-1:], (since, found)]
        self._windows.clear()
        # Who said a word and then nothing, while others were measured, joins when it speaks.
        lacking = {name for name in self._joined if name not in found.periods_ns} - self._again
        self._again |= lacking
        self._joined -= lacking

    def _returns(self, camera: str, stamp_ns: int) -> bool:
        """Whether this is its first image after it was dead."""
        history = self._histories[camera]
        before, period = history.before(stamp_ns), history.period_ns(stamp_ns - 1)
        if before is None or period is None:
            return False
        return stamp_ns - before > max(_MISSED_NS, _MISSED * period)

    def _begin(self, stamp_ns: int) -> None:
        """Measure from a stamp on; of several cameras that join, from the last one's."""
        self._from_ns = max(self._from_ns or stamp_ns, stamp_ns)
        self._windows = list(WINDOWS_NS)

    def clear(self) -> None:
        """Time was set: the rig is the same, so what was measured of it holds."""
        self._measured = [(0, firing) for _, firing in self._measured[-1:]]
        self._joined = {name for _, firing in self._measured for name in firing.periods_ns}
        self._again.clear()
        self._from_ns, self._windows = None, []
