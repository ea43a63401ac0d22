"""One network as several detectors, by engine and precision: for whatever compares them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from crkd_core.boxes import SCORE_THRESHOLD
from crkd_core.config import Engine, Precision
from crkd_core.frame import Frame
from crkd_core.infer.detector import Detector
from crkd_core.infer.engines.export import export
from crkd_core.infer.engines.inputs import Capacity
from crkd_core.infer.engines.runtimes import ENDINGS, check_engine
from crkd_core.model.detector import BevDetector


def variants(
    model: BevDetector,
    wanted: Sequence[tuple[Engine, Precision]],
    *,
    device: str | torch.device = "cpu",
    capacity: Capacity | None = None,
    calibration: Iterable[Frame] | None = None,
    score_threshold: float = SCORE_THRESHOLD,
) -> list[Detector]:
    """A detector for each engine and precision, from one export each kind of file.

    Args:
        model: as built or loaded; left as it is.
        wanted: engine and precision of each.
        device: see Detector; engines that run exported files are of the CPU.
        capacity: how much exported files hold; None = Capacity().
        calibration: Frames that show ranges: then the exported file is in int8, whatever precision
            is named.
        score_threshold: see Detector.

    Raises:
        InferError: an engine that is not there, not of this device, or without this precision.
        EngineError: the network has no form of fixed shapes; no Frame to calibrate on.
    """
    for engine, precision in wanted:
        check_engine(engine, precision, torch.device(device))
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for engine, precision in wanted:
            if engine in ENDINGS:
                path = Path(folder, f"network{ENDINGS[engine]}")
                if not path.exists():
                    export(model, path, capacity=capacity, calibration=calibration)
                one = Detector.load(
                    path, engine=engine, precision=precision, score_threshold=score_threshold
                )
            else:
                one = Detector(
                    model,
                    device=device,
                    engine=engine,
                    precision=precision,
                    score_threshold=score_threshold,
                )
            found.append(one)
    return found
