"""A drive from above that plays in the browser: truth, radar, and the boxes of every network.

The page's script is player.js; this makes what it shows.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np

from crkd_core.boxes import Boxes, Detections
from crkd_core.evaluate.pictures import colors_of
from crkd_core.frame import Frame
from crkd_core.sensors import RADAR_COMPENSATED

#: Weaker boxes cannot be made visible in the player.
MIN_SCORE = 0.1


def player(
    frames: Sequence[Frame],
    answers: Mapping[str, Sequence[Detections]],
    *,
    classes: Sequence[str],
    title: str,
) -> str:
    """The player as HTML that needs no other file.

    Args:
        frames: of a drive, in time order, with truth.
        answers: name of a network -> its detections in the axes of ego, one set per Frame.
        classes: of all networks; each has a colour.
        title: over it.
    """
    shown = {
        "colors": {name: f"rgb({r},{g},{b})" for name, (r, g, b) in colors_of(classes).items()},
        "networks": list(answers),
        "frames": [
            _frame(frame, frames[0].stamp_ns, {name: sets[i] for name, sets in answers.items()})
            for i, frame in enumerate(frames)
        ],
    }
    # "</" would end the script's element wherever it stands, "<!--<script" keep it from ending.
    data = json.dumps(shown, separators=(",", ":")).replace("<", "\\u003c")
    script = resources.files("crkd_core.report").joinpath("player.js").read_text("utf-8")
    return (
        f'<div class="player"><p><b>{html.escape(title)}</b></p></div>\n'
        f'<script type="application/json" class="player-data">{data}</script>\n'
        f"<script>{script}</script>\n"
    )


def _frame(frame: Frame, start_ns: int, answers: Mapping[str, Detections]) -> dict[str, Any]:
    """Radar [x, y, vx, vy] and boxes [x, y, length, width, yaw, vx, vy, class, score]."""
    radar = np.concatenate([frame.radar[:, :2], frame.radar[:, RADAR_COMPENSATED]], 1)
    truth = frame.truth
    boxes = []
    if truth is not None:
        boxes = _boxes(truth.select(truth.counts))
    return {
        "t": round((frame.stamp_ns - start_ns) * 1e-9, 2),
        "radar": _rounded(radar, 1),
        "truth": boxes,
        "found": {
            name: _boxes(found.select(found.score >= MIN_SCORE)) for name, found in answers.items()
        },
    }


def _boxes(boxes: Boxes) -> list[list[Any]]:
    score = getattr(boxes, "score", np.ones(len(boxes)))
    columns = [boxes.center[:, :2], boxes.size[:, :2], boxes.yaw[:, None]]
    columns += [np.nan_to_num(boxes.velocity), score[:, None]]
    rows = _rounded(np.concatenate(columns, 1), 2)
    return [
        [*row[:7], boxes.classes[label], row[7]]
        for row, label in zip(rows, boxes.label, strict=True)
    ]


def _rounded(values: Any, digits: int) -> list[list[float]]:
    rounded: list[list[float]] = np.round(np.asarray(values, float), digits).tolist()
    return rounded
