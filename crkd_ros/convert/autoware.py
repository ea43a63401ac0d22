"""Detections as Autoware takes them: autoware_perception_msgs/DetectedObjects.

Its message has no class for construction vehicles, cones and barriers; these, and classes that the
table here does not know, are UNKNOWN. It has no ids for detections: tracking is Autoware's own
part there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from crkd_core import geometry
from crkd_core.boxes import Detections
from crkd_ros.convert.box_messages import Make, finite, header, pose, vector

#: Constants of autoware_perception_msgs/ObjectClassification by class names in lower case.
UNKNOWN = 0
LABELS = {
    "car": 1,
    "truck": 2,
    "bus": 3,
    "trailer": 4,
    "motorcycle": 5,
    "bicycle": 6,
    "pedestrian": 7,
    # A bicycle with its rider, as KITTI and data sets after it name it.
    "cyclist": 6,
}

#: Constants of DetectedObjectKinematics: what is known of the heading.
UNAVAILABLE, SIGN_UNKNOWN, AVAILABLE = 0, 1, 2
#: nuScenes gives cones no heading, and barriers one without front and back.
_HEADING = {"traffic_cone": UNAVAILABLE, "barrier": SIGN_UNKNOWN}

_BOUNDING_BOX = 0


def detected_objects(
    detections: Detections, *, stamp_ns: int, make: Make, frame_id: str = "base_link"
) -> Any:
    """An autoware_perception_msgs/DetectedObjects.

    The score is the existence probability; the class has probability 1, as in Autoware's own
    detectors. The twist is the velocity over ground in axes of the object, x forward. Covariances
    are not known, and the message says so.
    """
    detections = finite(detections)
    objects = []
    for index in range(len(detections)):
        yaw = float(detections.yaw[index])
        name = detections.classes[detections.label[index]].lower()
        heading = _HEADING.get(name, AVAILABLE)
        # Where the heading is not available the orientation is to be empty: the frame's own.
        shown = 0.0 if heading == UNAVAILABLE else yaw
        objects.append(
            make(
                "autoware_perception_msgs/msg/DetectedObject",
                existence_probability=float(detections.score[index]),
                classification=[
                    make(
                        "autoware_perception_msgs/msg/ObjectClassification",
                        label=LABELS.get(name, UNKNOWN),
                        probability=1.0,
                    )
                ],
                kinematics=make(
                    "autoware_perception_msgs/msg/DetectedObjectKinematics",
                    pose_with_covariance=make(
                        "geometry_msgs/msg/PoseWithCovariance",
                        pose=pose(detections.center[index], shown, make),
                    ),
                    has_position_covariance=False,
                    orientation_availability=heading,
                    twist_with_covariance=_twist(detections.velocity[index], shown, make),
                    has_twist=True,
                    has_twist_covariance=False,
                ),
                shape=make(
                    "autoware_perception_msgs/msg/Shape",
                    type=_BOUNDING_BOX,
                    dimensions=vector(detections.size[index], make),
                ),
            )
        )
    return make(
        "autoware_perception_msgs/msg/DetectedObjects",
        header=header(stamp_ns, frame_id, make),
        objects=objects,
    )


def _twist(velocity: Any, yaw: float, make: Make) -> Any:
    """A TwistWithCovariance of a velocity [2], turned into axes whose x points along ``yaw``."""
    frame_T_object = geometry.pose(np.zeros(3), geometry.yaw_to_quat_wxyz(yaw))
    along, across = geometry.rotate(geometry.invert(frame_T_object), velocity)
    twist = make("geometry_msgs/msg/Twist", linear=vector((along, across, 0.0), make))
    return make("geometry_msgs/msg/TwistWithCovariance", twist=twist)
