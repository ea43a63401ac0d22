"""Camera-radar 3D detection with knowledge distillation, without ROS."""

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crkd_core.boxes import Boxes, Detections, Truth
    from crkd_core.frame import Frame, radar_returns
    from crkd_core.infer.detector import Detector

# torch's OpenMP threads spin at barriers by default; beside any other process that costs whole
# time slices (a training step took 5 to 25 times longer). Must be set before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__all__ = ["Boxes", "Detections", "Detector", "Frame", "Truth", "radar_returns"]
__version__ = "0.1.0"

#: Where the names above are. Imported when they are asked for: what is imported with the package
#: comes before a command can answer an interrupt, the bag tools start faster without torch, and
#: launch files are run by a Python that has none of it.
_MODULES = {
    **dict.fromkeys(("Boxes", "Detections", "Truth"), "boxes"),
    **dict.fromkeys(("Frame", "radar_returns"), "frame"),
    "Detector": "infer.detector",
}


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
