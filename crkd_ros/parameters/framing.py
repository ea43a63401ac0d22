"""Parameters of what forms frames, live and in replay: sensors, topics, limits, ego motion."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from crkd_core.config import DetectorConfig, RadarConfig
from crkd_core.data.radar import OLDEST, TIMEOUT
from crkd_core.sensors import ANCHOR_CAMERA, CAMERAS, RADARS
from crkd_ros.convert.camera_model import CamerasConfig
from crkd_ros.convert.radar_clouds import RadarFieldsConfig
from crkd_ros.parameters.knobs import ParameterError, check, knob
from crkd_ros.parameters.topics import SENSOR, TopicsConfig

CameraName = Literal[
    "CAM_FRONT",
    "CAM_FRONT_RIGHT",
    "CAM_FRONT_LEFT",
    "CAM_BACK",
    "CAM_BACK_LEFT",
    "CAM_BACK_RIGHT",
]


@dataclass(frozen=True, kw_only=True)
class SyncConfig:
    """Limits of a frame. All in seconds of message stamps, but ``wait``, which is real time."""

    policy: Literal["anchor", "message_filters"] = knob(
        "anchor",
        "Sets of images: anchor (survives lost messages and dead sensors), or message_filters "
        "(the stock ApproximateTimeSynchronizer: needs every camera in every set)",
    )
    anchor: CameraName = knob(
        ANCHOR_CAMERA, "Camera whose stamps frames have, while it lives: the one that fires last"
    )
    firing: Literal["auto", "in_turn", "at_once", "free"] = knob(
        "auto",
        "How the cameras fire: in_turn (a frame is a turn up to its anchor), at_once (a frame is "
        "one trigger), free (each at its own rate), or auto: measured once they run",
    )
    camera_spread: float = knob(
        0.1, "An image this much older than the reference is not used, s", low=0.0, high=10.0
    )
    #: Sweeps per radar. No parameter: the node takes it from the weights (config.radar_sweeps).
    sweeps: int = RadarConfig.sweeps
    radar_timeout: float = knob(
        TIMEOUT, "A radar whose newest sweep is older than this is masked, s", low=0.0, high=10.0
    )
    sweep_age: float = knob(
        OLDEST, "Radar sweeps older than this are not used, s", low=0.0, high=60.0
    )
    dead_after: float = knob(
        1.0, "A sensor silent for longer is not waited for, s", low=0.0, high=60.0
    )
    wait: float = knob(
        0.05, "Longest wait of a frame for messages under way, s of real time", low=0.0, high=5.0
    )
    jitter: float = knob(0.005, "Jitter of stamps around a sensor's period, s", low=0.0, high=1.0)
    jump: float = knob(
        1.0,
        "Stamps this far from the others': wrong, or time jumped if several agree, s",
        low=0.1,
        high=60.0,
    )
    slop: float = knob(
        0.1, "Policy message_filters: longest spread of a set of images, s", low=0.001, high=10.0
    )
    queue_size: int = knob(
        10, "Policy message_filters: images that each camera keeps", low=2, high=100
    )

    def __post_init__(self) -> None:
        check(self, "sync.")


@dataclass(frozen=True, kw_only=True)
class MotionConfig:
    """Where the ego motion between sensor stamps comes from."""

    source: Literal["odom", "tf", "none"] = knob(
        "odom", "Ego motion from: odom (nav_msgs/Odometry), tf, or none (vehicle stands still)"
    )
    fixed_frame: str = knob("odom", "Frame that stands still in the world, for source tf")

    def __post_init__(self) -> None:
        check(self, "motion.")


Framing = TypeVar("Framing", bound="FramingConfig")


@dataclass(frozen=True, kw_only=True)
class FramingConfig:
    """Of which messages a Frame is made, and how. The node's parameters are one, too."""

    sensors: tuple[str, ...] = knob(
        CAMERAS + RADARS, "Cameras and radars to subscribe to; the others are masked"
    )
    image_transport: Literal["compressed", "raw"] = knob(
        "compressed", "Images as compressed (CompressedImage, JPEG or PNG) or raw (Image)"
    )
    base_frame: str = knob("base_link", "Frame of the vehicle and of the detections")
    calibration_file: str = knob(
        "", "YAML with the sensors' poses (and intrinsics); empty: sensors' poses from tf"
    )
    topics: TopicsConfig = TopicsConfig()
    motion: MotionConfig = MotionConfig()
    sync: SyncConfig = SyncConfig()
    cameras: CamerasConfig = CamerasConfig()
    radar_fields: RadarFieldsConfig = RadarFieldsConfig()

    def __post_init__(self) -> None:
        check(self, "")
        unknown = set(self.sensors) - set(CAMERAS + RADARS)
        if unknown or not self.sensors:
            raise ParameterError(
                f"sensors: expected some of {', '.join(CAMERAS + RADARS)}, got "
                f"{', '.join(self.sensors) or 'none'}"
            )
        if not self.base_frame.strip("/"):
            raise ParameterError(
                f"base_frame: expected the name of the vehicle's frame, got {self.base_frame!r}"
            )

    def topic(self, sensor: str) -> str:
        """Topic of a camera's images, a radar's clouds, or "odometry"; not resolved yet."""
        topics = self.topics
        if sensor == "odometry":
            return topics.odometry
        images = topics.image_raw if self.image_transport == "raw" else topics.image_compressed
        return (topics.radar if sensor in RADARS else images).replace(SENSOR, sensor.lower())

    def info_topic(self, camera: str) -> str:
        """Topic of a camera's CameraInfo; not resolved yet."""
        return self.topics.camera_info.replace(SENSOR, camera.lower())

    def for_detector(self: Framing, detector: DetectorConfig) -> Framing:
        """The same for these weights: of ``sensors`` those that they read, and as many sweeps.

        Raises:
            ParameterError: weights that read LiDAR, which no frame of messages holds, or weights
                that read none of ``sensors``.
        """
        if "lidar" in detector.branches:
            raise ParameterError(
                f"weights: {detector.name} reads LiDAR, and frames of messages hold cameras and "
                "radars; take a detector without a LiDAR branch, for example a student that was "
                "distilled from it (crkd evaluate runs it on a data set)"
            )
        sensors = tuple(name for name in self.sensors if name in detector.sensors)
        if not sensors:
            raise ParameterError(
                f"sensors: {detector.name} has branches for {', '.join(detector.branches)} and "
                f"reads none of {', '.join(self.sensors)}"
            )
        # Without radars nothing counts their sweeps.
        sweeps = detector.radar_sweeps or self.sync.sweeps
        return replace(self, sensors=sensors, sync=replace(self.sync, sweeps=sweeps))
