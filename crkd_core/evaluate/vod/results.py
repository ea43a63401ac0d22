"""Result files: one of label form a frame, with scores, as the published evaluation reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from crkd_core.boxes import Detections
from crkd_core.data.cameras import CameraError, jpeg_size
from crkd_core.data.vod.boxes import to_objects
from crkd_core.data.vod.classes import DONT_CARE, VOD_CLASSES
from crkd_core.data.vod.labels import Objects, encode_labels, read_labels
from crkd_core.data.vod.lidar import EGO_T_LIDAR
from crkd_core.data.vod.reader import VodFrames
from crkd_core.evaluate.scoring import EvaluateError
from crkd_core.evaluate.vod.rules import VodRules
from crkd_core.files import read_file, write_text


def results_of(frames: VodFrames, answers: Sequence[Detections]) -> list[Objects]:
    """What was found in each frame as objects, with the 2D boxes that the benchmark asks for.

    Args:
        frames: of the split.
        answers: detections of each frame, ego axes.

    Raises:
        VodError, CameraError: calibration or image of a frame cannot be read.
    """
    results = []
    for index, answer in zip(range(len(frames)), answers, strict=True):
        calibration = frames.calibration(index)
        path = frames.tables.image(frames.tokens[index])
        try:
            size = jpeg_size(read_file(path), source=str(path))
        except OSError as error:
            raise CameraError(
                f"{path}: cannot read image: {error.strerror}; results need its size"
            ) from error
        found = to_objects(
            answer,
            ego_T_lidar=EGO_T_LIDAR,
            camera_T_lidar=calibration.camera_T_sensor,
            intrinsics=calibration.intrinsics,
            image_size=size,
        )
        # Whatever the image does not show was not annotated either.
        results.append(found.select(found.shown))
    return results


def write_results(names: Sequence[str], results: Sequence[Objects], folder: Path) -> None:
    """Write one file a frame; what else lies in the folder stays, see ``folder.clear``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, found in zip(names, results, strict=True):
        write_text(encode_labels(found, scored=True), folder / f"{name}.txt")


def read_results(names: Sequence[str], folder: Path) -> list[Objects]:
    """The results of these frames.

    Raises:
        EvaluateError: no such folder, or a frame without a file.
        VodError: a malformed file, or a line without a score; names it.
    """
    missing = [name for name in names if not (folder / f"{name}.txt").is_file()]
    if missing:
        raise EvaluateError(
            f"{folder}: {len(missing)} of {len(names)} frames of the split have no file, first "
            f"{missing[0]}.txt; write an empty one where nothing was found"
        )
    return [read_labels(folder / f"{name}.txt", scored=True) for name in names]


def uncounted_note(results: Sequence[Objects], rules: VodRules) -> str:
    """Which lines of result files can count for nothing, whatever lies there; "" = none.

    Those of names that nobody annotates, and those without a 2D box.
    """
    total = sum(map(len, results))
    near = (name for names in rules.neighbours.values() for name in names)
    known = {name.lower() for name in (*VOD_CLASSES, DONT_CARE, *near)}
    foreign = Counter(
        str(name)
        for found in results
        for name, lower in zip(found.name, found.lower, strict=True)
        if lower not in known
    )
    notes = []
    if foreign:
        notes.append(
            f"{foreign.total()} of {total} detections are of {', '.join(sorted(foreign))}, which "
            f"is no class of View-of-Delft, and hit nothing; it has {', '.join(VOD_CLASSES)}."
        )
    if flat := sum(int((~found.shown).sum()) for found in results):
        notes.append(
            f"{flat} of {total} detections have a 2D box without area and count neither way: the "
            f"benchmark asks for {rules.min_height:g} pixels of height, for AP in space too."
        )
    return " ".join(notes)
