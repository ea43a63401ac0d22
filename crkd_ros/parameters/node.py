"""Every parameter of the detector node: the one place for its name, default and description.

What the weights depend on is not here: it travels in the checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass

from crkd_core.boxes import SCORE_THRESHOLD
from crkd_core.config import Engine, Precision
from crkd_ros.convert.markers import MarkersConfig
from crkd_ros.parameters.framing import FramingConfig
from crkd_ros.parameters.health import CalibrationCheckConfig, HealthConfig
from crkd_ros.parameters.knobs import knob
from crkd_ros.parameters.outputs import RemapConfig, ThresholdsConfig, TrackingConfig


@dataclass(frozen=True, kw_only=True)
class WeightsConfig:
    """Which network runs, and on what."""

    weights: str = knob("", "Detector (.safetensors, run folder or file of crkd export); required")
    device: str = knob("cpu", "Device of the network: cpu, cuda or cuda:N")
    precision: Precision = knob("fp32", "Number format of the network: fp32, bf16 or fp16")
    engine: Engine = knob(
        "torch",
        "What computes the network: torch; cuda_graph on a GPU; export, onnxruntime or openvino "
        "on a CPU, best with weights of crkd export",
    )
    score_threshold: float = knob(
        SCORE_THRESHOLD,
        "Detections below this score are not published",
        low=0.0,
        high=0.999,
        dynamic=True,
    )


@dataclass(frozen=True, kw_only=True)
class NodeConfig(FramingConfig, WeightsConfig):
    """All parameters of the detector node; ``__post_init__`` of FramingConfig checks them."""

    autostart: bool = knob(
        True, "Configure and activate at once; false: leave the transitions to others"
    )
    output_frame: str = knob(
        "", "Frame of all outputs: one of tf, or that of the odometry; empty: base_frame"
    )
    objects: bool = knob(False, "Publish ~/objects too; needs Autoware's autoware_perception_msgs")
    drivable_area: bool = knob(
        True, "Publish ~/drivable_area; only with weights that have a head for it"
    )
    threads: int = knob(
        0,
        "Threads of a network on a CPU; 0: a core less than there are, for receiving and decoding",
        low=0,
        high=256,
    )
    decode_threads: int = knob(
        0, "Threads that decode and resize images; 0: 1 on two cores, else 2", low=0, high=64
    )
    calibration_check: CalibrationCheckConfig = CalibrationCheckConfig()
    health: HealthConfig = HealthConfig()
    thresholds: ThresholdsConfig = ThresholdsConfig()
    remap: RemapConfig = RemapConfig()
    tracking: TrackingConfig = TrackingConfig()
    markers: MarkersConfig = MarkersConfig()
    #: Of the loaded weights; () before. No parameter.
    classes: tuple[str, ...] = ()

    @property
    def frame_id(self) -> str:
        """Frame of all outputs. tf2 refuses the leading slash that tf1 had, and so do viewers."""
        return self.output_frame.lstrip("/") or self.base_frame.lstrip("/")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.classes:
            self.remap.check_classes(self.classes)


if __name__ == "__main__":
    from crkd_ros.parameters.parameter_file import as_yaml

    print(as_yaml(NodeConfig), end="")
