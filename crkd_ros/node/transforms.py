"""Where the node takes extrinsics and ego motion from, as its parameters say."""

from __future__ import annotations

import functools
from typing import Any

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time

from crkd_core.sensors import RADARS
from crkd_ros.convert import arrays, ros_packages
from crkd_ros.motion.calibration_file import Calibration
from crkd_ros.motion.odometry import OdometryMotion
from crkd_ros.motion.poses import MotionError, NoMotion
from crkd_ros.motion.tf_tree import TfMotion
from crkd_ros.node.postprocess import Place, in_odometry, upright
from crkd_ros.parameters.framing import FramingConfig
from crkd_ros.reporter import Reporter


class Transforms:
    """Extrinsics and ego motion, from configuration to clean-up.

    Attributes:
        extrinsics: a motion.Extrinsics.
        motion: a motion.EgoMotion.

    Args:
        node: listens to tf, where tf is used.
        config: the node's parameters.
        reporter: is told what the user should know.

    Raises:
        MotionError: tf is asked for and not installed, or the calibration file cannot be used.
    """

    def __init__(self, node: Node, *, config: FramingConfig, reporter: Reporter) -> None:
        path, source, base = config.calibration_file, config.motion.source, config.base_frame
        radars = [config.radar_fields.of(name) for name in config.sensors if name in RADARS]
        if source == "none" and any(fields.relative for fields in radars):
            reporter.problem(
                "radar speeds",
                "radar_fields gives speeds relative to the radars and motion.source is off: right "
                "only while the vehicle stands; set motion.source to odom or tf",
            )
        self._node, self._buffer = node, None
        self._base, self._tf, tf = base.lstrip("/"), None, None
        if source == "tf" or not path:
            if not ros_packages.installed("tf2_ros"):
                raise MotionError(
                    "tf2_ros is not installed: set calibration_file (config/calibration.yaml "
                    "explains it), and motion.source to odom or none"
                )
            self._buffer = ros_packages.tf_buffer(node)
            self._tf = functools.partial(
                TfMotion,
                buffer=self._buffer,
                time=lambda stamp_ns: Time(nanoseconds=stamp_ns),
                timeout=Duration(seconds=config.sync.wait),
                error=ros_packages.tf_error(),
                stamped_to_matrix=arrays.transform_matrix,
                base=base,
                report=reporter.of("tf"),
            )
            tf = self._tf(fixed=config.motion.fixed_frame)
        extrinsics: Any = Calibration.load(path, base=base) if path else tf
        self.extrinsics = extrinsics
        odometry = OdometryMotion(extrinsics=extrinsics, base=base, report=reporter.of("odometry"))
        self.motion: Any = {"odom": odometry, "tf": tf, "none": NoMotion()}[source]

    def place(self, frame: str) -> Place | None:
        """Where the vehicle is in the frame of the outputs; None for '' and its own frame.

        Raises:
            MotionError: no source of the ego motion knows that frame.
        """
        if frame.lstrip("/") in ("", self._base):
            return None
        if self._tf is not None:
            return upright(self._tf(fixed=frame).pose, frame)
        if isinstance(self.motion, OdometryMotion):
            return in_odometry(self.motion, frame)
        raise MotionError(
            f"output_frame {frame!r} needs to know how the vehicle moves: set motion.source to "
            "tf, or to odom and output_frame to the frame of the odometry"
        )

    def clear(self) -> None:
        """Forget the motion so far: time was set back."""
        self.motion.clear()
        self._forget_tf()

    def jumped(self, stamp_ns: int, *, from_ns: int) -> None:
        """The sensors' stamps jumped from one time to another.

        Odometry notices a jump of a second by itself, a tf2 buffer none.
        """
        if isinstance(self.motion, TfMotion):
            self.motion.clear()
        elif isinstance(self.motion, OdometryMotion):
            self.motion.set_back(stamp_ns, from_ns=from_ns)
        self._forget_tf()

    def _forget_tf(self) -> None:
        """Old transforms would make the buffer refuse those to come; static ones stay."""
        if self._buffer is not None:
            self._buffer.clear()

    def close(self) -> None:
        """Stop listening to tf."""
        if self._buffer is not None:
            ros_packages.close_tf(self._node, self._buffer)
            self._buffer = None
