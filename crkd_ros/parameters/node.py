"""Every parameter of the detector node: the one place for its name, default and description.

What the weights depend on is not here: it travels in the checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from crkd_core.sensors import CAMERAS, RADARS
from crkd_ros.convert.camera_model import CamerasConfig
from crkd_ros.convert.markers import MarkersConfig
from crkd_ros.convert.radar_clouds import RadarFieldsConfig
from crkd_ros.node.sensor_health import HealthConfig
from crkd_ros.node.thresholds import RemapConfig, ThresholdsConfig
from crkd_ros.node.tracking import TrackingConfig
from crkd_ros.parameters.knobs import ParameterError, as_yaml, check, knob


@dataclass(frozen=True, kw_only=True)
class SyncConfig:
    """Limits of a frame. All in seconds of message stamps, but ``wait``, which is real time."""

    policy: Literal["anchor", "message_filters"] = knob(
        "anchor",
        "Sets of images: anchor (survives lost messages and dead sensors), or message_filters "
        "(the stock ApproximateTimeSynchronizer: needs every camera in every set)",
    )
    camera_spread: float = knob(
        0.1, "An image this much older than the reference is not used, s", low=0.0, high=10.0
    )
    #: Sweeps per radar. No parameter: the node takes it from the weights (config.radar.sweeps).
    sweeps: int = 6
    radar_timeout: float = knob(
        0.3, "A radar whose newest sweep is older than this is masked, s", low=0.0, high=10.0
    )
    sweep_age: float = knob(
        2.0, "Radar sweeps older than this are not used, s", low=0.0, high=60.0
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

    source: Literal["odom", "tf", "off"] = knob(
        "odom", "Ego motion from: odom (nav_msgs/Odometry), tf, or off (vehicle stands still)"
    )
    fixed_frame: str = knob("odom", "Frame that stands still in the world, for source tf")

    def __post_init__(self) -> None:
        check(self, "motion.")


@dataclass(frozen=True, kw_only=True)
class SelfCheckConfig:
    """The check of the calibration at the start, see self_check/check.py."""

    frames: int = knob(
        48,
        "Frames after activation on which the calibration is checked; 0: no check",
        low=0,
        high=10_000,
    )

    def __post_init__(self) -> None:
        check(self, "self_check.")


@dataclass(frozen=True, kw_only=True)
class TopicsConfig:
    """Input topics; {sensor} becomes cam_front, radar_front and so on. Single ones: remap."""

    image_compressed: str = knob(
        "{sensor}/image_rect_compressed", "Topic of each camera with image_transport compressed"
    )
    image_raw: str = knob("{sensor}/image_rect", "Topic of each camera with image_transport raw")
    camera_info: str = knob("{sensor}/camera_info", "CameraInfo topic of each camera")
    radar: str = knob("{sensor}", "PointCloud2 topic of each radar")
    odometry: str = knob("odom", "Topic of nav_msgs/Odometry, for motion.source odom")

    def __post_init__(self) -> None:
        for name in ("image_compressed", "image_raw", "camera_info", "radar"):
            topic = getattr(self, name)
            try:
                own = topic.format(sensor="a") != topic.format(sensor="b")
            except (KeyError, ValueError, IndexError):
                own = False
            if not own:
                raise ParameterError(
                    f"topics.{name}: expected a topic with {{sensor}}, which becomes the name of "
                    f"each sensor, got {topic!r}; topics of other names: remap each one"
                )


@dataclass(frozen=True, kw_only=True)
class NodeConfig:
    """All parameters of the detector node."""

    weights: str = knob("", "Checkpoint of the detector (.safetensors); required")
    device: str = knob("cpu", "Device of the network: cpu, cuda or cuda:N")
    precision: Literal["fp32", "bf16", "fp16"] = knob(
        "fp32", "Number format of the network: fp32, bf16 or fp16"
    )
    score_threshold: float = knob(
        0.1, "Detections below this score are not published", low=0.0, high=0.999, dynamic=True
    )
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
    output_frame: str = knob(
        "", "Frame of all outputs: one of tf, or that of the odometry; empty: base_frame"
    )
    objects: bool = knob(False, "Publish ~/objects too; needs Autoware's autoware_perception_msgs")
    decode_threads: int = knob(2, "Threads that decode and resize images", low=1, high=64)
    topics: TopicsConfig = TopicsConfig()
    motion: MotionConfig = MotionConfig()
    self_check: SelfCheckConfig = SelfCheckConfig()
    sync: SyncConfig = SyncConfig()
    health: HealthConfig = HealthConfig()
    thresholds: ThresholdsConfig = ThresholdsConfig()
    remap: RemapConfig = RemapConfig()
    tracking: TrackingConfig = TrackingConfig()
    markers: MarkersConfig = MarkersConfig()
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


if __name__ == "__main__":
    print(as_yaml(NodeConfig), end="")
