"""Camera-radar 3D detection with knowledge distillation, without ROS."""

import importlib
import os
from typing import TYPE_CHECKING

# torch's OpenMP threads spin at barriers by default; beside any other process that costs whole
# time slices (a training step took 5 to 25 times longer). Must be set before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from crkd_core.boxes import Boxes, Detections, Truth
    from crkd_core.frame import Frame, radar_returns
    from crkd_core.infer.detector import Detector

__all__ = ["Boxes", "Detections", "Detector", "Frame", "Truth", "radar_returns"]
__version__ = "0.1.0"

#: Where each name is. Imported when it is asked for: what is imported with the package comes
#: before a command can answer an interrupt, and Detector needs torch.
_PLACES = {
    "Boxes": "boxes",
    "Detections": "boxes",
    "Detector": "infer.detector",
    "Frame": "frame",
    "Truth": "boxes",
    "radar_returns": "frame",
}


def __getattr__(name: str) -> object:
    if name in _PLACES:
        return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
