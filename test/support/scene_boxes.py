"""Where the objects of a made-up scene are."""

from __future__ import annotations

import numpy as np

from crkd_core.boxes import Boxes
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.world.content.scene import Scene


def boxes_at(scene: Scene, t: float) -> tuple[Boxes, np.ndarray]:
    """Boxes of all objects at a time, and their numbers in the scene."""
    state = scene.state(t)
    boxes = Boxes(
        center=state.position,
        size=scene.sizes[state.index],
        yaw=state.yaw,
        velocity=state.velocity,
        label=scene.labels[state.index],
        classes=NUSCENES_CLASSES,
    )
    return boxes, state.index
