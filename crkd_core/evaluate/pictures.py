"""Pictures of detections: seen from above, drawn into the cameras, and precision over recall.

Every function writes one PNG. Truth is drawn in white, without what no LiDAR or radar point
touched (the metrics leave it out too); detections are in the colour of their class.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.boxes import EDGES, Boxes, Detections, Truth
from crkd_core.colors import class_colors
from crkd_core.evaluate.metrics import Evaluation
from crkd_core.frame import Frame
from crkd_core.png import plain, write_figure, write_png
from crkd_core.sensors import CAMERAS, RADAR_COMPENSATED

#: RGB of nuScenes' classes; far apart also for most colour-blind eyes. Others: colors.py.
NUSCENES_COLORS = {
    "car": (255, 160, 40),
    "truck": (240, 80, 60),
    "bus": (255, 225, 70),
    "trailer": (190, 120, 70),
    "construction_vehicle": (255, 120, 190),
    "pedestrian": (70, 170, 255),
    "motorcycle": (190, 110, 255),
    "bicycle": (110, 110, 255),
    "traffic_cone": (60, 230, 200),
    "barrier": (130, 220, 90),
}

_TRUTH_COLOR = (255, 255, 255)
_BACKGROUND = "#14171c"
#: Panels of precision over recall that stand side by side.
_COLUMNS = 5
_NEAR = 0.2  # Edges are cut at this depth in front of a camera, metres.

#: The contact sheet as one looks around: left to right, front row and back row.
_SHEET = (
    ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT"),
    ("CAM_BACK_LEFT", "CAM_BACK", "CAM_BACK_RIGHT"),
)

#: The edges of a box, and a cross on its front face, which shows where it is heading.
_LINES = np.array([*EDGES, (0, 7), (3, 4)])


def draw_bev(
    frame: Frame,
    detections: Detections,
    path: Path,
    *,
    min_score: float = 0.25,
    reach: float = 55.0,
    title: str = "",
    classes: Sequence[str] | None = None,
) -> None:
    """Seen from above, x forward pointing up: radar returns, truth, detections, velocities.

    Args:
        frame: gives radar points and, where known, truth.
        detections: in ego axes.
        path: PNG to write.
        min_score: weaker detections are left out.
        reach: half the side of the square that is shown, metres.
        title: heading.
        classes: whose list gives the colours, of all pictures that are seen together; None =
            those of the detections.
    """
    figure = Figure(figsize=(8, 8.4), dpi=110, facecolor=_BACKGROUND)
    axes = figure.add_axes((0.085, 0.06, 0.9, 0.89))
    axes.set(facecolor=_BACKGROUND, xlim=(reach, -reach), ylim=(-reach, reach), aspect="equal")
    axes.tick_params(colors="#9aa4b2", labelsize=8)
    axes.set_xlabel("y left (m)", color="#9aa4b2", fontsize=8)
    axes.set_ylabel("x forward (m)", color="#9aa4b2", fontsize=8)
    axes.grid(color="#2a2f38", linewidth=0.6)
    for spine in axes.spines.values():
        spine.set_color("#2a2f38")

    # Left is +y: the horizontal axis shows y and runs from right to left.
    points = frame.radar[:, :2]
    velocity = frame.radar[:, RADAR_COMPENSATED]
    axes.scatter(points[:, 1], points[:, 0], s=3, color="#5e7a9c", linewidths=0, zorder=1)
    tails = np.stack([points[:, ::-1], (points + velocity)[:, ::-1]], 1)
    axes.add_collection(LineCollection(list(tails), colors="#5e7a9c", linewidths=0.5, zorder=1))

    handles = [_dot("#5e7a9c", "radar")]
    truth = _touched(frame)
    if truth is not None:
        _outline(axes, truth, ["#ffffff"] * len(truth), 1.6, 2)
        handles.append(_line("#ffffff", "truth"))
    shown = detections.select(detections.score >= min_score)
    by_name = colors_of(classes or shown.classes)
    colors = [_hex(by_name[name]) for name in shown.classes]
    _outline(axes, shown, [colors[label] for label in shown.label], 1.2, 3)
    handles += [_line(colors[k], shown.classes[k]) for k in np.unique(shown.label)]
    axes.plot([-0.9, -0.9, 0.9, 0.9, -0.9], [-1, 3.4, 3.4, -1, -1], color="#39d353", linewidth=1.5)
    axes.legend(
        handles=handles,
        loc="upper right",
        fontsize=8,
        facecolor=_BACKGROUND,
        edgecolor="#2a2f38",
        labelcolor="#d5dbe3",
    )
    axes.set_title(plain(title), color="#d5dbe3", fontsize=10)
    write_figure(figure, path)


def draw_cameras(
    frame: Frame,
    detections: Detections,
    path: Path,
    *,
    min_score: float = 0.25,
    cameras: Sequence[str] = CAMERAS,
    tile_width: int = 560,
    classes: Sequence[str] | None = None,
) -> None:
    """Contact sheet of the cameras with boxes: truth thin and white, detections by class.

    Args:
        frame: images, calibration and, where known, truth. A missing camera stays dark.
        detections: in ego axes.
        path: PNG to write.
        min_score: weaker detections are left out.
        cameras: of the rig; the others have no place on the sheet.
        tile_width: pixels per camera; a single one has twice as many.
        classes: whose list gives the colours, of all pictures that are seen together; None =
            those of the detections.
    """
    sizes = [image.shape[:2] for image in frame.images if image is not None]
    if len(cameras) == 1:
        tile_width *= 2
    height = round(tile_width * (sizes[0][0] / sizes[0][1] if sizes else 9 / 16))
    shown = detections.select(detections.score >= min_score)
    by_name = colors_of(classes or shown.classes)
    truth = _touched(frame)
    tiles = {}
    for i, name in enumerate(CAMERAS):
        if name not in cameras:
            continue
        tile = np.full((height, tile_width, 3), 24, np.uint8)
        image = frame.images[i]
        if image is not None:
            shrinks = image.shape[1] > tile_width
            mode = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            tile = np.ascontiguousarray(
                cv2.resize(image, (tile_width, height), interpolation=mode)
            )
            scale = np.array([tile_width / image.shape[1], height / image.shape[0], 1.0])
            project = scale[:, None] * frame.intrinsics[i]
            if truth is not None:
                colors = [_TRUTH_COLOR] * len(truth)
                _draw_boxes(tile, truth, colors, project, frame.ego_T_cam[i], 1)
            colors = [by_name[shown.classes[label]] for label in shown.label]
            _draw_boxes(tile, shown, colors, project, frame.ego_T_cam[i], 2)
        label = name if image is not None else f"{name} (missing)"
        for color, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.putText(
                tile, label, (8, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, color, thickness, cv2.LINE_AA
            )
        tiles[name] = tile
    rows = [[tiles[name] for name in row if name in tiles] for row in _SHEET]
    dark = np.full((height, tile_width, 3), 24, np.uint8)
    width = max(map(len, rows))
    sheet = [np.hstack([*row, *[dark] * (width - len(row))]) for row in rows if row]
    write_png(np.vstack(sheet), path)


def draw_precision_recall(evaluation: Evaluation, path: Path) -> None:
    """Precision over recall, one panel per class, one line per match distance."""
    classes = list(evaluation.summary["mean_dist_aps"])
    columns = min(len(classes), _COLUMNS)
    rows = -(-len(classes) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.7 * rows), dpi=100)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in panels.flat[len(classes) :]:
        axes.set_axis_off()
    shades = ("#c6dbef", "#6baed6", "#2171b5", "#08306b")
    rules = evaluation.rules
    for name, axes in zip(classes, panels.flat, strict=False):
        for k, distance in enumerate(rules.distances):
            curve = evaluation.curves[name, distance]
            ap = evaluation.summary["label_aps"][name][str(distance)]
            # Beyond the recall that was reached there is nothing to draw.
            reached = np.count_nonzero(curve.confidence)
            axes.plot(
                curve.recall[:reached],
                curve.precision[:reached],
                color=shades[k % len(shades)],
                label=f"{distance:g} m: {ap:.2f}",
            )
        axes.axvspan(0, rules.min_recall, color="#eeeeee", zorder=0)
        axes.axhspan(0, rules.min_precision, color="#eeeeee", zorder=0)
        average = evaluation.summary["mean_dist_aps"][name]
        axes.set_title(f"{plain(name)}  AP {average:.3f}", fontsize=9)
        axes.set(xlim=(0, 1), ylim=(0, 1.02))
        axes.legend(fontsize=7, loc="best", framealpha=0.6)
        axes.tick_params(labelsize=7)
    figure.supxlabel("recall", fontsize=9)
    figure.supylabel("precision", fontsize=9)
    figure.tight_layout()
    write_figure(figure, path)


def _touched(frame: Frame) -> Truth | None:
    """The truth that counts: hidden objects would fill the pictures with boxes behind walls."""
    truth = frame.truth
    if truth is None:
        return None
    return truth.select(truth.counts)


def _outline(axes, boxes: Boxes, colors: list[str], width: float, zorder: int) -> None:  # type: ignore[no-untyped-def]
    """Footprints with a line to the front, and velocity arrows one second long."""
    corners = boxes.corners()[:, :4, :2]
    front = (corners[:, 0] + corners[:, 3]) / 2
    lines = [np.vstack([c, c[:1]])[:, ::-1] for c in corners]
    lines += [np.stack([b, f])[:, ::-1] for b, f in zip(boxes.center[:, :2], front, strict=True)]
    axes.add_collection(
        LineCollection(lines, colors=colors + colors, linewidths=width, zorder=zorder)
    )
    moving = np.flatnonzero(np.linalg.norm(np.nan_to_num(boxes.velocity), axis=1) > 0.5)
    arrows = [np.stack([front[i], front[i] + boxes.velocity[i]])[:, ::-1] for i in moving]
    axes.add_collection(
        LineCollection(
            arrows, colors=[colors[i] for i in moving], linewidths=0.7, ls="--", zorder=zorder
        )
    )


def _draw_boxes(
    tile: NDArray[np.uint8],
    boxes: Boxes,
    colors: list[tuple[int, int, int]],
    project: NDArray[np.float64],
    ego_T_cam: NDArray[np.float64],
    thickness: int,
) -> None:
    """Draw box edges into an image; edges behind the camera are cut at its near plane."""
    if not len(boxes):
        return
    corners = geometry.apply(geometry.invert(ego_T_cam), boxes.corners())
    order = np.argsort(-corners[..., 2].mean(1))  # far ones first
    for i in order:
        start, end = corners[i][_LINES[:, 0]], corners[i][_LINES[:, 1]]
        seen = (start[:, 2] > _NEAR) | (end[:, 2] > _NEAR)
        start, end = start[seen], end[seen]
        rise = end[:, 2] - start[:, 2]
        cut = (_NEAR - start[:, 2]) / np.where(rise == 0, 1, rise)
        meeting = start + cut[:, None] * (end - start)
        start = np.where(start[:, 2:] > _NEAR, start, meeting)
        end = np.where(end[:, 2:] > _NEAR, end, meeting)
        for a, b in zip(start @ project.T, end @ project.T, strict=True):
            # Sixteenths of a pixel; far outside the picture int32 would overflow.
            p, q = (np.clip(v[:2] / v[2], -1e4, 1e4) * 16 for v in (a, b))
            cv2.line(
                tile,
                (round(float(p[0])), round(float(p[1]))),
                (round(float(q[0])), round(float(q[1]))),
                colors[i],
                thickness,
                cv2.LINE_AA,
                4,
            )


def colors_of(classes: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """Class -> RGB, 0 to 255. What is shown side by side has the colours of one list."""
    chosen = {n: (r / 255, g / 255, b / 255) for n, (r, g, b) in NUSCENES_COLORS.items()}
    return {
        name: (round(255 * r), round(255 * g), round(255 * b))
        for name, (r, g, b) in zip(classes, class_colors(classes, chosen), strict=True)
    }


def _hex(color: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)


def _dot(color: str, name: str) -> Line2D:
    return Line2D([], [], color=color, marker="o", markersize=3, linestyle="", label=plain(name))


def _line(color: str, name: str) -> Line2D:
    return Line2D([], [], color=color, label=plain(name))
