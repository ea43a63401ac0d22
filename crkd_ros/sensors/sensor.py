"""What the vehicle senses with: each sensor is one object, which knows all that concerns it.

What a sensor answers to a message is what the synchroniser keeps of it. Callers say when messages
came and what to do about those that cannot be used.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from crkd_core.config import ImageConfig
from crkd_ros.convert import arrays, radar_clouds
from crkd_ros.convert.camera_model import (
    CameraModel,
    CamerasConfig,
    PreparedImage,
    prepared_image,
)
from crkd_ros.convert.radar_clouds import RadarFieldsConfig
from crkd_ros.motion.calibration_file import Calibration
from crkd_ros.motion.odometry import OdometryMotion
from crkd_ros.motion.poses import Array, Extrinsics, MotionError
from crkd_ros.sensors.health import SensorHealth
from crkd_ros.sync.history import History

#: Decodes an image. Raises ConvertError.
Decode = Callable[[], PreparedImage]


class Deferred(Protocol):
    """An image that is decoded, or will be. Calling it gives the image, or raises ConvertError."""

    def begin(self) -> None:
        """A frame takes it, and the others of its set: decoding may begin, if it has not."""

    def __call__(self) -> PreparedImage:
        """The image."""


#: Says when and where a camera's image is decoded: takes its name and how.
Defer = Callable[[str, Decode], Deferred]


class NoIntrinsics(arrays.ConvertError):
    """An image whose camera is not known yet."""


@dataclass(frozen=True)
class WhenUsed:
    """Decode when the image is asked for, by who asks: not every image is."""

    camera: str
    decode: Decode

    def begin(self) -> None:
        """See Deferred."""

    def __call__(self) -> PreparedImage:
        """See Deferred."""
        return self.decode()


class Camera:
    """One camera.

    Args:
        name: one of CAMERAS.
        history: its recent images.
        health: how it does; knows its topic.
        cameras: how images and CameraInfo belong together.
        image: how images are prepared (``detector.config.image``).
        calibration: may know the camera where no CameraInfo comes.
        extrinsics: where it sits, which says where in its picture the horizon is. Asked in the
            thread that decodes.
        defer: when and where images are decoded.

    Attributes:
        model: of its images; None: no CameraInfo so far, or the last one cannot be used.
    """

    def __init__(
        self,
        name: str,
        *,
        history: History,
        health: SensorHealth,
        cameras: CamerasConfig,
        image: ImageConfig,
        calibration: Calibration | None = None,
        extrinsics: Extrinsics | None = None,
        defer: Defer = WhenUsed,
    ) -> None:
        self.name, self.history, self.health = name, history, health
        self.model: CameraModel | None = None
        self._refused = ""  # Why the last CameraInfo cannot be used.
        self._rectified, self._bits = cameras.is_rectified(health.topic), cameras.bits
        self._image = image
        self._calibration, self._extrinsics, self._defer = calibration, extrinsics, defer

    def on_info(self, message: Any) -> None:
        """Take a CameraInfo; it holds for images from now on.

        One that cannot be used ends what was known. One without numbers, as drivers publish of a
        camera that was never calibrated, is none where the calibration file knows the camera.

        Raises:
            ConvertError: it cannot be used.
        """
        self.health.info_received()
        self.model, self._refused = None, ""
        try:
            self.model = CameraModel.of_info(message, rectified=self._rectified)
        except Exception as error:
            if np.any(message.k) or np.any(message.p) or self._calibrated(message) is None:
                self._refused = str(error)
                raise

    def item(self, message: Any) -> Deferred:
        """How to decode an Image or CompressedImage, with the model as it is now.

        Raises:
            NoIntrinsics: neither CameraInfo nor the calibration says what its pixels mean, or the
                last CameraInfo was refused.
        """
        if self._refused:
            raise NoIntrinsics(f"{self.name}: image not used, {self._refused}")
        model = self.model or self._calibrated(message)
        if model is None:
            raise NoIntrinsics(f"{self.name}: no CameraInfo yet, image not used")
        return self._defer(self.name, functools.partial(self._decode, message, model))

    def _calibrated(self, message: Any) -> CameraModel | None:
        if self._calibration is None:
            return None
        entry = self._calibration.camera(message.header.frame_id or self.name)
        return None if entry is None else CameraModel.of_entry(entry, name=self.name)

    def _decode(self, message: Any, model: CameraModel) -> PreparedImage:
        """In whatever thread. A broken image counts, also one of a frame that was skipped."""
        try:
            return prepared_image(
                message,
                model,
                self._image,
                camera=self.name,
                bits=self._bits,
                up=self._up(message),
            )
        except Exception as error:
            self.health.trouble("unusable", str(error))
            raise

    def _up(self, message: Any) -> Array | None:
        """The vehicle's upward direction in the camera's axes; None while nobody knows it.

        Then no frame is made of the image either, unless it becomes known in between.
        """
        if self._extrinsics is None:
            return None
        frame = message.header.frame_id or self.name.lower()
        try:
            return self._extrinsics.base_T(frame, arrays.stamp_ns(message.header.stamp))[2, :3]
        except MotionError:
            return None


class Radar:
    """One radar.

    Args:
        name: one of RADARS.
        history: its recent sweeps.
        health: how it does; knows its topic.
        fields: what it calls the fields of its clouds.
    """

    def __init__(
        self, name: str, *, history: History, health: SensorHealth, fields: RadarFieldsConfig
    ) -> None:
        self.name, self.history, self.health = name, history, health
        self._fields = fields

    def item(self, message: Any) -> radar_clouds.Sweep:
        """A PointCloud2 as a sweep. Raises ConvertError."""
        return radar_clouds.sweep(message, radar=self.name, fields=self._fields)


class Odometry:
    """The vehicle's odometry.

    Args:
        motion: learns the poses.
        health: how it does; knows its topic.
    """

    name = "odometry"

    def __init__(self, *, motion: OdometryMotion, health: SensorHealth) -> None:
        self.health, self._motion = health, motion

    def on_pose(self, message: Any) -> bool:
        """Take a nav_msgs/Odometry; False: it contradicts those before it. Raises ConvertError."""
        stamp_ns = arrays.stamp_ns(message.header.stamp)
        if stamp_ns <= 0:
            raise arrays.ConvertError(
                f"odometry: the header's stamp is zero or negative ({stamp_ns * 1e-9:.3f} s), "
                "pose not used"
            )
        return self._motion.add(
            stamp_ns,
            arrays.odometry_pose(message),
            parent=message.header.frame_id,
            child=message.child_frame_id,
            twist=arrays.odometry_twist(message),
        )
