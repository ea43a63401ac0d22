"""Camera-radar 3D detection with knowledge distillation, without ROS."""

import os

# torch's OpenMP threads spin at barriers by default; beside any other process that costs whole
# time slices (a training step took 5 to 25 times longer). Must be set before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from crkd_core.boxes import Boxes, Detections, Truth
from crkd_core.frame import Frame, radar_returns

__all__ = ["Boxes", "Detections", "Detector", "Frame", "Truth", "radar_returns"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    # Detector needs torch; Frame and Boxes do not, and the bag tools start faster without it.
    if name == "Detector":
        from crkd_core.infer.detector import Detector

        return Detector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
