"""What nuScenes calls things: its detection classes, its categories, its attributes.

H. Caesar et al., "nuScenes: A multimodal dataset for autonomous driving", CVPR 2020, section 3.1;
docs/nuscenes.md, "Detection task".
"""

from __future__ import annotations

import re

#: The ten detection classes in the devkit's order.
NUSCENES_CLASSES = (
    "car",
    "truck",
    "bus",
    "trailer",
    "construction_vehicle",
    "pedestrian",
    "motorcycle",
    "bicycle",
    "traffic_cone",
    "barrier",
)

#: Fourteen of the 23 categories and their detection class; the others have none.
CATEGORY_CLASS = {
    "vehicle.car": "car",
    "vehicle.truck": "truck",
    "vehicle.bus.bendy": "bus",
    "vehicle.bus.rigid": "bus",
    "vehicle.trailer": "trailer",
    "vehicle.construction": "construction_vehicle",
    "human.pedestrian.adult": "pedestrian",
    "human.pedestrian.child": "pedestrian",
    "human.pedestrian.construction_worker": "pedestrian",
    "human.pedestrian.police_officer": "pedestrian",
    "vehicle.motorcycle": "motorcycle",
    "vehicle.bicycle": "bicycle",
    "movable_object.trafficcone": "traffic_cone",
    "movable_object.barrier": "barrier",
}

#: The other nine. Boxes of any further category are left out with a word.
CLASSLESS = (
    *("animal", "human.pedestrian.personal_mobility", "human.pedestrian.stroller"),
    *("human.pedestrian.wheelchair", "movable_object.debris", "movable_object.pushable_pullable"),
    *("static_object.bicycle_rack", "vehicle.emergency.ambulance", "vehicle.emergency.police"),
)

#: Attribute names; ``Truth.attribute`` of a nuScenes Frame indexes this tuple, -1 means none.
NUSCENES_ATTRIBUTES = (
    "vehicle.moving",
    "vehicle.parked",
    "vehicle.stopped",
    "cycle.with_rider",
    "cycle.without_rider",
    "pedestrian.moving",
    "pedestrian.standing",
    "pedestrian.sitting_lying_down",
)


def describes(text: str, word: str) -> bool:
    """Whether a scene's description has a word that begins so: "rain" is in "Rainy", not "train".

    nuScenes tells weather and light by "rain" and "night", in free words.
    """
    return re.search(rf"\b{word}", text, re.IGNORECASE) is not None
