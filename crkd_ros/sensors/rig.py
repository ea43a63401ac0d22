"""The sensors of a vehicle, and the synchroniser over them."""

from __future__ import annotations

from collections.abc import Mapping

from crkd_core.config import ImageConfig
from crkd_core.sensors import CAMERAS, RADARS
from crkd_ros.motion.calibration_file import Calibration
from crkd_ros.motion.odometry import OdometryMotion
from crkd_ros.motion.poses import Extrinsics
from crkd_ros.parameters.framing import FramingConfig
from crkd_ros.parameters.health import HealthConfig
from crkd_ros.sensors.health import SensorHealth
from crkd_ros.sensors.sensor import Camera, Defer, Odometry, Radar, WhenUsed
from crkd_ros.sync.stock_policy import make_synchronizer


class Rig:
    """What messages are heard of, from the first to the last.

    Args:
        framing: which sensors, what they send, and the limits of a frame.
        image: how images are prepared (``detector.config.image``).
        topics: sensor -> its topic as resolved, or as found in a bag; "odometry" too.
        calibration: may know cameras without CameraInfo.
        extrinsics: where the cameras sit.
        motion: learns the poses of odometry; None: there is none.
        health: limits of what is healthy.
        defer: when and where images are decoded.

    Attributes:
        cameras, radars: name -> Camera, Radar; of those in ``framing.sensors``.
        sensors: both, what the synchroniser is over.
        odometry: None without ``motion``.
        healths: of every sensor, "odometry" among them.
        sync: the synchroniser; whoever uses it from several threads guards it.

    Raises:
        SyncError: the policy cannot be had with these sensors.
    """

    def __init__(
        self,
        framing: FramingConfig,
        *,
        image: ImageConfig,
        topics: Mapping[str, str],
        calibration: Calibration | None = None,
        extrinsics: Extrinsics | None = None,
        motion: OdometryMotion | None = None,
        health: HealthConfig | None = None,
        defer: Defer = WhenUsed,
    ) -> None:
        cameras = [name for name in CAMERAS if name in framing.sensors]
        radars = [name for name in RADARS if name in framing.sensors]
        self.sync = make_synchronizer(framing.sync, cameras=cameras, radars=radars)
        histories, counts = self.sync.histories, self.sync.counts
        self.healths = {
            name: SensorHealth(
                topic=topics.get(name, framing.topic(name)),
                config=health or HealthConfig(),
                counts=counts.get(name),
            )
            for name in (*cameras, *radars, *([] if motion is None else ["odometry"]))
        }
        self.cameras = {
            name: Camera(
                name,
                history=histories[name],
                health=self.healths[name],
                cameras=framing.cameras.of(name),
                image=image,
                calibration=calibration,
                extrinsics=extrinsics,
                defer=defer,
            )
            for name in cameras
        }
        self.radars = {
            name: Radar(
                name,
                history=histories[name],
                health=self.healths[name],
                fields=framing.radar_fields.of(name),
            )
            for name in radars
        }
        self.sensors: dict[str, Camera | Radar] = {**self.cameras, **self.radars}
        self.odometry: Odometry | None = None
        if motion is not None:
            self.odometry = Odometry(motion=motion, health=self.healths["odometry"])
