"""Does the calibration look right? A check of the first seconds of a drive, once.

It looks at what the node has anyway: where the sensors are said to sit (placement.py), whether
radar returns fall into the cameras' pictures (coverage.py), whether radars see the motion that
odometry tells (doppler.py) and whether the pictures move as they should (flow.py).
Rules that lack data say nothing. Nothing is ever corrected.
"""

from __future__ import annotations

import contextlib
import time

import cv2
import numpy as np

from crkd_core import geometry
from crkd_core.sensors import CAMERAS, RADAR_XYZ, RADARS
from crkd_ros.calibration_check.coverage import CoverageRules, View
from crkd_ros.calibration_check.doppler import MotionRules, MovedSweep
from crkd_ros.calibration_check.flow import FlowRules, Shot
from crkd_ros.calibration_check.placement import (
    Finding,
    check_intrinsics,
    check_places,
    check_view,
)
from crkd_ros.convert.camera_model import PreparedImage
from crkd_ros.motion.poses import Array, EgoMotion, Extrinsics, MotionError
from crkd_ros.reporter import Reporter
from crkd_ros.sync.synchroniser import FrameSet

#: Pictures further apart in time than this are too different to follow.
_LONGEST_STEP_NS = 250_000_000
#: Pictures to follow per frame: each takes milliseconds of the thread that detects.
_FOLLOWED = 2
#: Of the time of the thread that detects, what ``watch`` may take in the mean.
SHARE = 0.05
#: It rests no longer than this, seconds, however slow the machine is.
_LONGEST_REST = 1.0


class CalibrationCheck:
    """Takes the first frames of a drive and tells its doubts.

    Args:
        extrinsics: where the sensors are said to sit.
        motion: how the vehicle is said to move.
        frames: how many to look at; 0 = none.
        share: of the time that ``watch`` may take, in (0, 1]; 1 = every frame is looked at.
    """

    def __init__(
        self,
        *,
        extrinsics: Extrinsics,
        motion: EgoMotion,
        frames: int = 48,
        share: float = SHARE,
    ) -> None:
        self._extrinsics, self._motion, self._frames = extrinsics, motion, frames
        self._share, self._rest_until = share, -np.inf
        self._coverage, self._motions, self._flow = CoverageRules(), MotionRules(), FlowRules()
        self._before: FrameSet | None = None
        self._places: dict[str, Array] = {}
        self._taken = 0
        self.findings: list[Finding] = []

    @property
    def done(self) -> bool:
        """Whether everything was looked at."""
        return self._taken >= self._frames

    def watch(self, frame_set: FrameSet, reporter: Reporter) -> None:
        """``add`` for the node: nothing that goes wrong in the check may cost a frame.

        Nor may what goes right: a look takes as long as a third of a frame, and on a machine that
        just keeps up every frame of the first seconds would be late. So the check rests after each
        look, and takes more frames to be done.

        Args:
            frame_set: see ``add``.
            reporter: is told the summary and all doubts so far, and each new doubt as a problem.
        """
        if self.done:
            return
        start = time.monotonic()
        if start < self._rest_until:
            self._before = frame_set  # Pictures are followed from one frame to the next.
            return
        known = len(self.findings)
        try:
            new = self.add(frame_set)
        except MotionError as error:
            reporter.problem(
                "calibration check", f"the calibration was not checked with this frame: {error}"
            )
            return
        finally:
            end = time.monotonic()
            rest = (end - start) * (1 / self._share - 1)
            self._rest_until = end + min(rest, _LONGEST_REST)
        for number, finding in enumerate(new, known + 1):
            reporter.problem(f"calibration doubt {number}", f"calibration: {finding.text}")
        reporter.calibrated(self.summary(), [finding.text for finding in self.findings])

    def add(self, frame_set: FrameSet) -> list[Finding]:
        """Take the messages of one frame (PreparedImage and Sweep); its transforms are known.

        Returns:
            Doubts that are new: about places with the first frame that has the sensor, about the
            rest with the last frame.

        Raises:
            MotionError: a transform is not known; the frame does not count.
        """
        if self.done:
            return []
        found = self._look(frame_set)
        self._follow(frame_set)
        self._taken += 1  # Not before: what could not be looked at must not be the last frame.
        if self.done:
            for rules in (self._coverage, self._motions, self._flow):
                found += rules.findings()
            self._before = None
        known = {finding.text for finding in self.findings}
        new = [finding for finding in found if finding.text not in known]
        self.findings += new
        return new

    def summary(self) -> str:
        """How far the check is, and what it looked at."""
        if not self._frames:
            return "not checked (calibration_check.frames is 0)"
        if not self.done:
            return f"being checked ({self._taken} of {self._frames} frames)"
        checked = [f"places of {len(self._places)} sensors"]
        for rules in (self._coverage, self._motions, self._flow):
            checked += rules.checked
        return f"looks {'wrong' if self.findings else 'right'}; checked {', '.join(checked)}"

    def _look(self, frame_set: FrameSet) -> list[Finding]:
        found: list[Finding] = []
        views, fresh = {}, False
        for camera, (stamp, image) in frame_set.images.items():
            pose = self._base_T(image, stamp)
            height, width = image.pixels.shape[:2]
            if camera not in self._places:
                fresh = True
                found += check_intrinsics(camera, image.intrinsics, width, height)
                found += check_view(camera, pose, image.intrinsics, width, height)
            self._places[camera] = pose
            views[camera] = View(pose, image.intrinsics, width, height)
        clouds = [np.zeros((0, 3))]
        for radar in RADARS:
            sweeps = frame_set.sweeps.get(radar, ())
            if not sweeps:
                continue
            pose = self._extrinsics.base_T(sweeps[0].item.frame_id, sweeps[0].stamp_ns)
            fresh |= radar not in self._places
            self._places[radar] = pose
            clouds.append(geometry.apply(pose, sweeps[0].item.points[:, RADAR_XYZ]))
            newest = sweeps[0].stamp_ns
            moved = [
                MovedSweep(
                    stamp_ns=stamp,
                    points=sweep.points,
                    relative=sweep.relative,
                    newest_T_ego=self._motion.ego_T_ego(stamp, newest),
                )
                for stamp, sweep in sweeps
            ]
            self._motions.add(radar, pose, moved)
        self._coverage.add(np.concatenate(clouds), views)
        if fresh:
            found += check_places(self._places)
        return found

    def _follow(self, frame_set: FrameSet) -> None:
        """How some cameras' pictures moved since the frame before; others the next time."""
        before, self._before = self._before, frame_set
        if before is None:
            return
        for step in range(_FOLLOWED):
            camera = CAMERAS[((self._taken + 1) * _FOLLOWED + step) % len(CAMERAS)]
            if camera not in before.images or camera not in frame_set.images:
                continue
            (then, first), (now, second) = before.images[camera], frame_set.images[camera]
            if first.pixels.shape != second.pixels.shape or not 0 < now - then <= _LONGEST_STEP_NS:
                continue
            # The pose may have jumped since the frame before: that tells nothing of the camera.
            with contextlib.suppress(MotionError):
                moved = self._motion.ego_T_ego(then, now)
                shots = self._shot(first, then), self._shot(second, now)
                self._flow.add(camera, *shots, moved)

    def _shot(self, image: PreparedImage, stamp_ns: int) -> Shot:
        return Shot(
            grey=cv2.cvtColor(image.pixels, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False),
            intrinsics=image.intrinsics,
            base_T_cam=self._base_T(image, stamp_ns),
        )

    def _base_T(self, image: PreparedImage, stamp_ns: int) -> Array:
        pose = self._extrinsics.base_T(image.frame_id, stamp_ns).copy()
        pose[:3, :3] = pose[:3, :3] @ np.array(image.rotation)
        return pose
