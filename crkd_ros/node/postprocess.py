"""From what the network answered to what is published: chosen, renamed, numbered, moved. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from crkd_core.boxes import Detections
from crkd_ros.motion.odometry import OdometryMotion
from crkd_ros.motion.poses import Array, EgoMotion, MotionError
from crkd_ros.node.thresholds import above, renamed
from crkd_ros.node.tracking import Tracker, numbered

if TYPE_CHECKING:
    from crkd_ros.parameters.node import NodeConfig

#: Boxes turn about z only: frames tilted further than a steep road are not theirs, degrees.
_STEEPEST = 30.0

#: ``frame_T_base`` [4, 4] of the output frame at a stamp. Raises MotionError.
Place = Callable[[int], Array]


class Postprocess:
    """Thresholds, published classes, ids and the output frame, in this order.

    Args:
        config: may be replaced between frames.
        motion: how the vehicle moves; tracks live where it says that the world stands still.
        place: where the vehicle is in the output frame; None: boxes stay in axes of the vehicle.
        problem: takes one sentence when ids cannot be given.
    """

    def __init__(
        self,
        config: NodeConfig,
        *,
        motion: EgoMotion,
        place: Place | None = None,
        problem: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.config = config
        self._motion, self._place, self._problem = motion, place, problem
        self._tracker = Tracker(config.tracking) if config.tracking.enabled else None
        self._stretch: int | None = None

    def __call__(self, detections: Detections, stamp_ns: int) -> Detections:
        """What is to be published of one frame.

        Args:
            detections: in axes of the vehicle.
            stamp_ns: of the frame; it stays that of the answer.

        Returns:
            The remaining boxes in the output frame, best score first; Tracked where ids are asked
            for.

        Raises:
            MotionError: the output frame's transform is not known at this time.
        """
        config = self.config
        # The place first: a frame that cannot be published must not be counted as seen.
        frame_T_base = None if self._place is None else self._place(stamp_ns)
        detections = renamed(above(detections, config.thresholds), config.remap)
        if config.tracking.enabled:
            detections = self._numbered(detections, stamp_ns)
        return detections if frame_T_base is None else detections.transformed(frame_T_base)

    def _numbered(self, detections: Detections, stamp_ns: int) -> Detections:
        tracker = self._tracker = self._tracker or Tracker()
        tracker.config = self.config.tracking
        try:
            fixed_T_base = self._motion.pose(stamp_ns)
        except MotionError as error:
            # Ids are a convenience, detections are not: they go out without.
            self._problem(f"no ids: {error}")
            return numbered(detections, np.zeros(len(detections), np.int64))
        before, self._stretch = self._stretch, self._motion.stretch(stamp_ns)
        if self._stretch != before:
            tracker.reset()  # Tracks are where the objects were before the map jumped.
        return tracker(detections, stamp_ns=stamp_ns, fixed_T_base=fixed_T_base)


def in_odometry(motion: OdometryMotion, frame: str) -> Place:
    """The place of the vehicle in the frame of odometry messages, which must be ``frame``."""

    def place(stamp_ns: int) -> Array | None:
        # First what no later frame will mend; a pose that is late would hide it.
        if motion.parent not in (None, frame.lstrip("/")):
            raise MotionError(
                f"output_frame is {frame!r} but odometry is in {motion.parent!r}: set "
                f"output_frame to {motion.parent!r}, or motion.source to tf, which knows all "
                "frames"
            )
        return motion.pose(stamp_ns)

    return upright(place, frame)


def upright(place: Callable[[int], Array | None], frame: str) -> Place:
    """The same, refusing a frame whose z axis does not point up: boxes have no roll and pitch."""

    def checked(stamp_ns: int) -> Array:
        frame_T_base = place(stamp_ns)
        if frame_T_base is None:
            raise MotionError(f"where the vehicle is in output_frame {frame!r} is not known")
        tilt = np.degrees(np.arccos(np.clip(frame_T_base[2, 2], -1, 1)))
        if tilt > _STEEPEST:
            raise MotionError(
                f"output_frame {frame!r} is tilted by {tilt:.0f} degrees against the vehicle: "
                "boxes stand upright, choose a frame whose z axis points up (no camera)"
            )
        return frame_T_base

    return checked
