"""When a frame need not wait any longer. Pure policy, see synchroniser.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from crkd_ros.parameters.framing import SyncConfig
from crkd_ros.sync.firing import Firing
from crkd_ros.sync.history import History
from crkd_ros.sync.triggers import Trigger


class Settling:
    """Says of a trigger whether its frame is settled, and when it will be made in any case.

    Args:
        config: ``wait``, ``dead_after`` and ``jitter`` are used.
        histories: sensor -> what was heard of it.
        firing: how the cameras fire at a reference.
    """

    def __init__(
        self,
        config: SyncConfig,
        *,
        histories: Mapping[str, History],
        firing: Callable[[int], Firing],
    ) -> None:
        self._wait, self._jitter = config.wait, config.jitter
        self._dead_after_ns = config.dead_after * 1e9
        self._histories, self._firing = histories, firing

    def deadline(self, trigger: Trigger) -> float:
        """When to stop waiting: what tells of a trigger comes later than what it lacks."""
        known = (trigger.known_ns - trigger.needs_ns) / 1e9
        return trigger.at + self._later(trigger) + max(0.0, self._wait - known)

    def settled(self, trigger: Trigger, *, first_ns: int | None, pose_ns: int | None) -> bool:
        """Whether nothing that is under way can be as old as what a frame needs.

        Args:
            trigger: asks for the frame.
            first_ns: the first stamp of all sensors.
            pose_ns: ego motion is known up to this stamp; None = nobody tells it.
        """
        after_ns = self._firing(trigger.reference_ns).after_ns
        needs_ns = max(trigger.needs_ns, trigger.reference_ns + round(after_ns))
        dead_after = self._dead_after_ns
        # A drive that begins: give every sensor a chance to say its first word.
        starting = first_ns is not None and needs_ns - first_ns < dead_after
        for history in self._histories.values():
            newest = history.newest_ns
            if newest is None:
                if starting:
                    return False
                continue
            if newest > needs_ns or needs_ns - newest > dead_after:
                continue
            # Where many messages are lost, the median is of more than one period.
            period = history.period_ns(share=0.25)
            if period is None or newest + period <= needs_ns + self._jitter * 1e9:
                return False
        posed_ns = trigger.needs_ns + round(self._later(trigger) * 1e9)
        return pose_ns is None or pose_ns >= posed_ns or posed_ns - pose_ns > dead_after

    def _later(self, trigger: Trigger) -> float:
        """How much later than its reference images of a frame come by more than jitter, s."""
        after = self._firing(trigger.reference_ns).after_ns / 1e9
        return after if after > self._jitter else 0.0
