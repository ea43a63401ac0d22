"""Objects of label files to Boxes, and back.

Objects are upright in the LiDAR's axes: the rotation is about its z axis, and the height along it.
The camera, in whose axes places are told, is tilted against that by some degrees.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.boxes import EDGES, Boxes, Detections, Truth
from crkd_core.data.vod.classes import DONT_CARE
from crkd_core.data.vod.errors import VodError
from crkd_core.data.vod.labels import Objects, objects_of

# Edges of boxes are cut at this depth in front of the camera, metres.
_NEAR = 0.1


def to_truth(
    objects: Objects,
    *,
    ego_T_lidar: NDArray[np.float64],
    camera_T_lidar: NDArray[np.float64],
    classes: Sequence[str],
    source: str,
) -> Truth:
    """Labelled objects as truth in ego axes, without areas where nothing counts.

    Velocities are unknown. How many returns fell into a box is unknown too; it was drawn because
    the LiDAR showed it, so each counts as having had one.

    Args:
        objects: of one frame.
        ego_T_lidar: [4, 4], with parallel z axes.
        camera_T_lidar: [4, 4] of that frame.
        classes: names that objects can have.
        source: of the objects, for errors.

    Raises:
        VodError: an object of another class.
    """
    objects = objects.select(objects.name != DONT_CARE)
    unknown = sorted({*objects.name.tolist()} - {*classes})
    if unknown:
        raise VodError(
            f"{source}: unknown classes {', '.join(unknown)}; known: {', '.join(classes)}"
        )
    boxes = to_boxes(
        objects, ego_T_lidar=ego_T_lidar, camera_T_lidar=camera_T_lidar, classes=classes
    )
    count = len(boxes)
    return Truth(
        **boxes.arrays(),
        classes=boxes.classes,
        attribute=np.full(count, -1, np.int64),
        num_lidar_points=np.ones(count, np.int64),
        num_radar_points=np.zeros(count, np.int64),
    )


def to_boxes(
    objects: Objects,
    *,
    ego_T_lidar: NDArray[np.float64],
    camera_T_lidar: NDArray[np.float64],
    classes: Sequence[str],
) -> Boxes:
    """Objects of these classes as Boxes in ego axes, velocities unknown; see ``to_truth``."""
    size = objects.size[:, [2, 1, 0]]
    center = geometry.apply(geometry.invert(camera_T_lidar), objects.bottom)
    center[:, 2] += size[:, 2] / 2
    return Boxes(
        center=center,
        size=size,
        yaw=geometry.wrap_angle(-objects.rotation - np.pi / 2),
        velocity=np.full((len(objects), 2), np.nan),
        label=np.array([list(classes).index(name) for name in objects.name], np.int64),
        classes=tuple(classes),
    ).transformed(ego_T_lidar)


def to_objects(
    boxes: Boxes,
    *,
    ego_T_lidar: NDArray[np.float64],
    camera_T_lidar: NDArray[np.float64],
    intrinsics: NDArray[np.float64],
    image_size: tuple[int, int],
) -> Objects:
    """Boxes in ego axes as objects of a label or result file.

    Boxes that no part of the image shows have a 2D box without area, at the image's corner.

    Args:
        boxes: Detections keep their scores; others have 0.
        ego_T_lidar: [4, 4], with parallel z axes.
        camera_T_lidar: [4, 4].
        intrinsics: [3, 3] pixels of the recorded image.
        image_size: its width and height.
    """
    inside = boxes.transformed(geometry.invert(ego_T_lidar))
    low = inside.center.copy()
    low[:, 2] -= inside.size[:, 2] / 2
    bottom = geometry.apply(camera_T_lidar, low)
    rotation = geometry.wrap_angle(-inside.yaw - np.pi / 2)
    count = len(boxes)
    numbers = np.zeros((count, 15))
    numbers[:, 2] = geometry.wrap_angle(rotation - np.arctan2(bottom[:, 0], bottom[:, 2]))
    corners = geometry.apply(camera_T_lidar, inside.corners())
    numbers[:, 3:7] = image_boxes(corners, intrinsics=intrinsics, image_size=image_size)
    numbers[:, 7:10] = inside.size[:, [2, 1, 0]]
    numbers[:, 10:13] = bottom
    numbers[:, 13] = rotation
    if isinstance(boxes, Detections):
        numbers[:, 14] = boxes.score
    return objects_of([boxes.classes[label] for label in boxes.label], numbers)


def image_boxes(
    corners: NDArray[np.float64],
    *,
    intrinsics: NDArray[np.float64],
    image_size: tuple[int, int],
) -> NDArray[np.float64]:
    """[N, 4] the smallest upright rectangle around what an image shows of each box.

    Args:
        corners: [N, 8, 3] in the camera's axes, in the order of ``Boxes.corners``.
        intrinsics: [3, 3] pixels.
        image_size: width and height; rectangles end at the first and the last pixel's centre.

    Returns:
        left, top, right, bottom; zeros where nothing is in front of the camera and in the image.
    """
    start, end = corners[:, np.array(EDGES)[:, 0]], corners[:, np.array(EDGES)[:, 1]]  # [N, 12, 3]
    rise = end[..., 2] - start[..., 2]
    part = (_NEAR - start[..., 2]) / np.where(rise == 0, 1, rise)
    meeting = start + part[..., None] * (end - start)
    crosses = (start[..., 2] > _NEAR) != (end[..., 2] > _NEAR)
    points = np.concatenate([corners, meeting], 1)  # [N, 20, 3]
    seen = np.concatenate([corners[..., 2] > _NEAR, crosses], 1)
    depth = np.where(seen, points[..., 2], 1.0)
    pixels = (points @ intrinsics.T)[..., :2] / depth[..., None]
    low = np.where(seen[..., None], pixels, np.inf).min(1)
    high = np.where(seen[..., None], pixels, -np.inf).max(1)
    last = np.array(image_size, float) - 1
    shown = (low <= last).all(1) & (high >= 0).all(1)
    box = np.concatenate([np.clip(low, 0, last), np.clip(high, 0, last)], 1)
    return np.where(shown[:, None], box, 0.0)
