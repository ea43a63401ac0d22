"""What a detector knows of speeds and headings: `python tools/velocities.py WEIGHTS --data DATA`.

Errors say how far answers are off; this says whether there is an answer at all. Boxes are paired
with the nearest truth of their class within 2 m. A slope near 0 means that the network says that
everything stands; a heading that is right up to half a turn means that it sees sides and not
fronts.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from crkd_core.boxes import Detections, Truth
from crkd_core.command import run_function
from crkd_core.data.sets import frames_of, open_set
from crkd_core.geometry import wrap_angle
from crkd_core.infer.detector import Detector
from crkd_core.progress import counted
from crkd_core.tables import Table, print_tables
from crkd_core.train.samples import seen

#: Metres within which a box is that of an object.
NEAR = 2.0
#: From this speed on an object moves, m/s.
MOVING = 1.0
#: Radians within which a heading is right.
RIGHT = 0.3
COLUMNS = (
    *("class", "met", "moving", "slope of speed", "said of standing m/s"),
    *("error m/s", "error of zero m/s", "heading right", "or turned round"),
)


def pairs(found: Detections, truth: Truth, name: str) -> NDArray[np.float64]:
    """[P, 6] vx, vy, yaw as found, then the true ones, of the objects of a class that were met."""
    ours = found.select(np.flatnonzero(found.label == found.classes.index(name)))
    theirs = truth.select(np.flatnonzero(truth.label == truth.classes.index(name)))
    if not len(ours) or not len(theirs):
        return np.zeros((0, 6))
    apart = np.linalg.norm(ours.center[:, None, :2] - theirs.center[None, :, :2], axis=-1)
    nearest = apart.argmin(0)
    met = (apart.min(0) < NEAR) & np.isfinite(theirs.velocity).all(1)
    one, other = ours.select(nearest[met]), theirs.select(np.flatnonzero(met))
    return np.column_stack([one.velocity, one.yaw, other.velocity, other.yaw])


def row(name: str, met: NDArray[np.float64]) -> list[str]:
    """What is known of one class."""
    found, true = met[:, 0:2], met[:, 3:5]
    moving = np.linalg.norm(true, axis=1) > MOVING
    if not moving.any():
        return [name, str(len(met)), "0", *["-"] * 6]
    slope = (found[moving] * true[moving]).sum() / (true[moving] ** 2).sum()
    turned = np.abs(wrap_angle(met[:, 2] - met[:, 5]))
    error = np.linalg.norm(found - true, axis=1).mean()
    zero = np.linalg.norm(true, axis=1).mean()
    half = np.minimum(turned, np.pi - turned)
    return [
        name,
        str(len(met)),
        str(int(moving.sum())),
        f"{slope:.2f}",
        f"{np.linalg.norm(found[~moving], axis=1).mean():.2f}" if not moving.all() else "-",
        f"{error:.2f}",
        f"{zero:.2f}",
        f"{(turned < RIGHT).mean():.0%}",
        f"{(half < RIGHT).mean():.0%}",
    ]


def main(
    weights: Annotated[list[Path], typer.Argument(help="Weights files.")],
    data: Annotated[Path, typer.Option(help="Root of a nuScenes or View-of-Delft data set.")],
    split: Annotated[str, typer.Option(help="A split of it, or scenes.")] = "val",
    every: Annotated[int, typer.Option(min=1, help="Look at one sample in so many.")] = 3,
    score: Annotated[float, typer.Option(min=0, max=1, help="Boxes from this score on.")] = 0.15,
) -> None:
    """Say whether detectors know how fast objects are and which way they face."""
    tables = open_set(data, split=split)
    for path in weights:
        detector = Detector.load(path, score_threshold=score)
        frames = frames_of(tables, split, detector.config)
        met: dict[str, list[NDArray[np.float64]]] = {n: [] for n in detector.config.classes}
        places: Iterable[int] = counted(range(0, len(frames), every), path.stem)
        for place in places:
            frame = seen(frames[place])
            if frame.truth is None or not detector.can_use(frame):
                continue
            found = detector(frame)
            for name, own in met.items():
                if name in frame.truth.classes:
                    own.append(pairs(found, frame.truth, name))
        rows = [row(name, np.concatenate(own)) for name, own in met.items() if own]
        print_tables(Table(title=f"{path} on {split}", columns=COLUMNS, rows=rows))


if __name__ == "__main__":
    run_function(main)
