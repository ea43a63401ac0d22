"""Where the node takes extrinsics and ego motion from, as its parameters say."""

from __future__ import annotations

from typing import Any

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time

from crkd_ros import convert, messages
from crkd_ros.calibration import Calibration
from crkd_ros.motion import MotionError, NoMotion, PoseBuffer, TfMotion
from crkd_ros.node_config import NodeConfig


class Sources:
    """Extrinsics and ego motion, from configuration to clean-up.

    Attributes:
        extrinsics: a motion.Extrinsics.
        motion: a motion.EgoMotion.

    Args:
        node: listens to tf, where tf is used.
        config: the node's parameters.

    Raises:
        MotionError: tf is asked for and not installed, or the calibration file cannot be used.
    """

    def __init__(self, node: Node, *, config: NodeConfig) -> None:
        path, source, base = config.calibration_file, config.motion.source, config.base_frame
        self._buffer: Any = None
        tf = None
        if source == "tf" or not path:
            if not messages.installed("tf2_ros"):
                raise MotionError(
                    "tf2_ros is not installed: set calibration_file (config/calibration.yaml "
                    "explains it), and motion.source to odom or off"
                )
            self._buffer = messages.tf_buffer(node)
            tf = TfMotion(
                buffer=self._buffer,
                time=lambda stamp_ns: Time(nanoseconds=stamp_ns),
                timeout=Duration(seconds=config.sync.wait),
                stamped_to_matrix=convert.transform_matrix,
                base=base,
                fixed=config.motion.fixed_frame,
            )
        self.extrinsics: Any = Calibration.load(path, base=base) if path else tf
        self.motion: Any = {"odom": PoseBuffer(), "tf": tf, "off": NoMotion()}[source]

    def clear(self) -> None:
        """Forget the motion so far: time was set back."""
        clear = getattr(self.motion, "clear", None)
        if clear is not None:
            clear()

    def close(self) -> None:
        """Stop listening to tf."""
        if self._buffer is not None:
            self._buffer.listener.unregister()
