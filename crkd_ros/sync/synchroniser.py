"""Which images and radar sweeps form a frame. Pure policy: no ROS, no clock of its own.

Frames are asked for at certain stamps, the references: as a rule those of the anchor camera, see
triggers.py. A frame then takes, of every other camera, the latest image that the way in which the
cameras fire makes one of its turn (firing.py: in turn, not later than the reference), and of every
radar its last sweeps not later than the reference. All of it depends on
stamps only, so the live node and the deterministic replay form the same frames from the same
messages. What arrival order does change is WHEN the choice can be made: over DDS an image of the
same set may arrive after the trigger's. A reference is therefore settled when each live sensor has
delivered something newer, or when its next message is not due before the reference (judged by its
own median period), or when a short wait has passed. Replay, which sees messages in order, settles
by ``flush`` instead.

Partial sets are normal: a camera or radar without a recent message is absent, not waited for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from crkd_core.sensors import CAMERAS, RADARS, REFERENCES
from crkd_ros.parameters.framing import SyncConfig
from crkd_ros.sync.clock_jumps import ClockJumpGuard, Message
from crkd_ros.sync.firing import Firing
from crkd_ros.sync.firing_watch import FiringWatch
from crkd_ros.sync.history import Arrival, Counts, History, Timed
from crkd_ros.sync.settling import Settling
from crkd_ros.sync.triggers import Trigger, Triggers

#: Who triggers: the first of these that is alive, as in the reader of data sets.
TRIGGERS = REFERENCES

#: Images of a camera, and sweeps of a radar beyond those of a frame, that are kept whatever their
#: rate; and for how long besides the time that frames wait, s. Frames may still ask for those:
#: other sensors may be as much later than this one (triggers.py), and a frame reaches back from
#: the image that asks for it, farther for sweeps than for images.
_IMAGES_KEPT, _IMAGES_BACK = 8, 0.5
_SWEEPS_KEPT_BEYOND, _SWEEPS_BACK = 8, 1.0


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
        arrived: when the trigger's message came (the caller's clock, seconds).
    """

    stamp_ns: int
    trigger: str
    images: dict[str, Timed]
    sweeps: dict[str, tuple[Timed, ...]]
    arrived: float = 0.0


class Synchronizer:
    """Forms FrameSets from messages of six cameras and five radars.

    Add messages as they come, then ask ``take`` (live) or ``flush`` (replay) for frames. ``now``
    and times of arrival are of any steadily growing clock in seconds, which is only compared with
    itself. Not thread-safe.

    Attributes:
        histories: sensor -> its recent messages, and what happened to all.
    """

    def __init__(
        self,
        config: SyncConfig | None = None,
        *,
        cameras: Sequence[str] = CAMERAS,
        radars: Sequence[str] = RADARS,
    ) -> None:
        self.config = config or SyncConfig()
        self._cameras, self._radars = tuple(cameras), tuple(radars)
        names = (*cameras, *radars)
        anchor = self.config.anchor
        triggers = (anchor, *(name for name in TRIGGERS if name != anchor))
        triggers = tuple(name for name in triggers if name in names)
        if not triggers:
            raise SyncError(f"no trigger among the sensors {', '.join(names) or '(none)'}")
        radar_kept = self.config.sweeps + _SWEEPS_KEPT_BEYOND
        self.histories = {
            name: History(radar_kept, self._kept_ns(_SWEEPS_BACK))
            if name in radars
            else History(_IMAGES_KEPT, self._kept_ns(_IMAGES_BACK))
            for name in names
        }
        self._watch = FiringWatch(
            self.config,
            histories=self.histories,
            cameras=[name for name in triggers if name in cameras],
        )
        self._triggers = Triggers(
            self.config,
            histories=self.histories,
            triggers=triggers,
            cameras=self._cameras,
            firing=self.firing,
        )
        self._settling = Settling(self.config, histories=self.histories, firing=self.firing)
        self._guard = ClockJumpGuard(self.config.jump * 1e9, self.histories)
        self._pose_ns: int | None = None
        self._last: Trigger | None = None  # The newest one handed out.
        self._next: Trigger | None = None  # The one after it, as far as is known yet.
        self._first_ns: int | None = None  # The first stamp seen.
        #: Times that the stamps went back and everything was forgotten.
        self.clock_jumps = 0
        #: The newest stamp before the last of them.
        self.jumped_from_ns = 0
        #: Frames given up because nobody took them.
        self.overflowed = 0

    @property
    def counts(self) -> dict[str, Counts]:
        """Per sensor: what happened to its messages."""
        return {name: history.counts for name, history in self.histories.items()}

    def newest_ns(self, sensor: str) -> int | None:
        """The newest stamp of a sensor since the last ``clear``."""
        if sensor not in self.histories:
            raise SyncError(f"unknown sensor {sensor!r}; known: {', '.join(self.histories)}")
        return self.histories[sensor].newest_ns

    def add(self, sensor: str, arrival: Arrival, item: Any) -> bool:
        """Take what a camera or radar sent. ``item`` is handed through untouched.

        Returns:
            False: refused, and counted.
        """
        if sensor not in self.histories:
            raise SyncError(f"unknown sensor {sensor!r}; known: {', '.join(self.histories)}")
        return self._add(Message(sensor, arrival, item))

    def add_pose(self, stamp_ns: int) -> None:
        """Note that ego motion is known up to this stamp: frames wait for it like for a sensor."""
        back = self._pose_ns is not None and stamp_ns < self._pose_ns - self.config.jump * 1e9
        if self._pose_ns is None or stamp_ns > self._pose_ns or back:
            self._pose_ns = stamp_ns

    def firing(self, reference_ns: int | None = None) -> Firing:
        """The rule of a frame's images at a reference; None: the latest known."""
        return self._watch.rule(reference_ns)

    def take(self, now: float) -> list[FrameSet]:
        """The frames that are settled, or have waited long enough, oldest first."""
        frames = []
        while (trigger := self._next) is not None:
            if now < self._settling.deadline(trigger) and not self._settling.settled(
                trigger, first_ns=self._first_ns, pose_ns=self._pose_ns
            ):
                break
            frames += self._made(trigger)
        return frames

    def flush(self, before_ns: int | None = None) -> list[FrameSet]:
        """The frames that messages before a stamp (None: all) ask for, oldest first.

        Replay calls this with each message's stamp before it adds the message: everything that
        bears on those frames has then been added.
        """
        frames = []
        while (trigger := self._next) is not None:
            if before_ns is not None:
                after_ns = self.firing(trigger.reference_ns).after_ns
                if max(trigger.known_ns, trigger.reference_ns + after_ns) >= before_ns:
                    break
            frames += self._made(trigger)
        if before_ns is None and self._last_turn() is not None:
            return frames + self.flush()
        return frames

    def _last_turn(self) -> Trigger | None:
        """At the end of all messages: the frame that only a message to come would ask for."""
        self._next = self._find(ended=True)
        return self._next

    def deadline(self) -> float | None:
        """When ``take`` will have a frame even if no message comes; None: nothing is pending."""
        return None if self._next is None else self._settling.deadline(self._next)

    def clear(self) -> None:
        """Forget all messages and pending frames; the counts stay."""
        for history in self.histories.values():
            history.clear()
        self._guard.clear()
        self._watch.clear()
        self._pose_ns = self._last = self._next = self._first_ns = None

    def _add(self, message: Message) -> bool:
        counts = self.histories[message.sensor].counts
        counts.received += 1
        if message.stamp_ns <= 0:
            counts.zero_stamp += 1
            return False
        last_ns = None if self._last is None else self._last.reference_ns
        before = self.histories[message.sensor].newest_ns
        verdict = self._guard.judge(message, last_ns)
        for stray in verdict.strays:
            self.histories[stray.sensor].counts.outlier += 1
        if verdict.forget:
            heard = [h.newest_ns for h in self.histories.values() if h.newest_ns is not None]
            self.jumped_from_ns = max(heard, default=0)
            self.clear()
            self._guard.told(verdict.take)
            self.clock_jumps += 1
        taken = True  # Perhaps only later: it may have been set aside.
        for one in verdict.take:
            taken = self._insert(one)
        if verdict.take or before != self.histories[message.sensor].newest_ns:
            self._watch.heard(message.sensor, message.stamp_ns)
            self._next = self._find()
        return taken

    def _insert(self, message: Message) -> bool:
        history, stamp_ns = self.histories[message.sensor], message.stamp_ns
        if stamp_ns in history:
            history.counts.duplicate += 1
            return False
        if self._last is not None and stamp_ns <= self._last.needs_ns:
            history.counts.late += 1
        if history.newest_ns is not None and stamp_ns < history.newest_ns:
            history.counts.out_of_order += 1
        if self._first_ns is None:
            self._first_ns = stamp_ns
        for dropped in history.add(message.arrival, message.item):
            while self._next is not None and self._next.reference_ns <= dropped.stamp_ns:
                self.overflowed += 1
                self._went(self._next)
        return True

    def _kept_ns(self, back: float) -> int:
        """How far back messages are kept that frames may still ask for, ns."""
        return round((self.config.wait + back) * 1e9)

    def _find(self, *, ended: bool = False) -> Trigger | None:
        """The next trigger, as far as the messages tell; ``ended``: no more will come."""
        return self._triggers.next(self._last, self._first_ns, ended=ended)

    def _went(self, trigger: Trigger) -> None:
        """A trigger was handed out or given up: references only grow."""
        self._last = trigger
        self._next = self._find()

    def _made(self, trigger: Trigger) -> list[FrameSet]:
        """Its frame; none if the message that asks for it has been forgotten."""
        own = self._within(trigger.sensor, trigger.reference_ns, trigger.reference_ns)
        frames = [self._choose(trigger)] if own else []
        self.overflowed += not own
        self._went(trigger)
        return frames

    def _choose(self, trigger: Trigger) -> FrameSet:
        reference = trigger.reference_ns
        firing = self.firing(reference)
        # In whole numbers: a float is 256 ns off at such times.
        newest = reference + round(firing.after_ns)
        images = {
            name: latest[-1]
            for name in self._cameras
            if (latest := self._sure(name, reference - round(firing.oldest_ns(name)), newest))
        }
        if trigger.sensor in images:  # Its next image may be as near.
            own = self._within(trigger.sensor, reference, reference)
            images[trigger.sensor] = own[-1] if own else images[trigger.sensor]
        timeout, oldest = (
            round(age * 1e9) for age in (self.config.radar_timeout, self.config.sweep_age)
        )
        sweeps = {
            name: tuple(reversed(recent[-self.config.sweeps :]))
            for name in self._radars
            if (recent := self._sure(name, reference - oldest, reference))
            and reference - recent[-1].stamp_ns <= timeout
        }
        return FrameSet(
            stamp_ns=reference,
            trigger=trigger.sensor,
            images=images,
            sweeps=sweeps,
            arrived=self.histories[trigger.sensor].came_at(reference, trigger.at),
        )

    def _within(self, sensor: str, oldest: int, newest: int) -> list[Timed]:
        messages: Iterable[Timed] = self.histories[sensor].until(newest)
        return [message for message in messages if message.stamp_ns >= oldest]

    def _sure(self, sensor: str, oldest: int, newest: int) -> list[Timed]:
        """Those of them that can be of no other time."""
        doubted = self._guard.doubted(sensor)
        return [one for one in self._within(sensor, oldest, newest) if one.stamp_ns not in doubted]
