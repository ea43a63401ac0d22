"""Every parameter of the detector node: the one place for its name, default and description.

What the weights depend on is not here: it travels in the checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from crkd_core.config import Precision
from crkd_core.sensors import CAMERAS, RADARS
from crkd_ros.convert.camera_model import CamerasConfig
from crkd_ros.convert.markers import MarkersConfig
from crkd_ros.convert.radar_clouds import RadarFieldsConfig
from crkd_ros.parameters.framing import MotionConfig, SyncConfig, TopicsConfig
from crkd_ros.parameters.health import CalibrationCheckConfig, HealthConfig
from crkd_ros.parameters.knobs import ParameterError, as_yaml, check, knob
from crkd_ros.parameters.outputs import RemapConfig, ThresholdsConfig, TrackingConfig


@dataclass(frozen=True, kw_only=True)
class NodeConfig:
    """All parameters of the detector node."""

    weights: str = knob("", "Checkpoint of the detector (.safetensors); required")
    device: str = knob("cpu", "Device of the network: cpu, cuda or cuda:N")
    precision: Precision = knob("fp32", "Number format of the network: fp32, bf16 or fp16")
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
    calibration_check: CalibrationCheckConfig = CalibrationCheckConfig()
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
