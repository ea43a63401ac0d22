"""Detections as Autoware takes them, and label info: by definitions and by the real classes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from rosbags.typesys import get_types_from_msg

from crkd_core.boxes import Detections
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_ros.bags import message_types
from crkd_ros.convert import arrays, autoware, box_messages, ros_packages

STAMP = 1_700_000_000_123_456_789

#: Fields of autoware_perception_msgs 1.x, without their comments.
AUTOWARE = {
    "Shape": "uint8 BOUNDING_BOX=0\nuint8 CYLINDER=1\nuint8 POLYGON=2\nuint8 type\n"
    "geometry_msgs/Polygon footprint\ngeometry_msgs/Vector3 dimensions\n",
    "ObjectClassification": "uint8 UNKNOWN=0\nuint8 CAR=1\nuint8 TRUCK=2\nuint8 BUS=3\n"
    "uint8 TRAILER=4\nuint8 MOTORCYCLE=5\nuint8 BICYCLE=6\nuint8 PEDESTRIAN=7\n"
    "uint8 label\nfloat32 probability\n",
    "DetectedObjectKinematics": "uint8 UNAVAILABLE=0\nuint8 SIGN_UNKNOWN=1\nuint8 AVAILABLE=2\n"
    "geometry_msgs/PoseWithCovariance pose_with_covariance\nbool has_position_covariance\n"
    "uint8 orientation_availability\n"
    "geometry_msgs/TwistWithCovariance twist_with_covariance\n"
    "bool has_twist\nbool has_twist_covariance\n",
    "DetectedObject": "float32 existence_probability\nObjectClassification[] classification\n"
    "DetectedObjectKinematics kinematics\nShape shape\n",
    "DetectedObjects": "std_msgs/Header header\nDetectedObject[] objects\n",
}


@pytest.fixture(params=["definitions", "installed"])
def make(request):
    if request.param == "installed":
        pytest.importorskip("autoware_perception_msgs")
        return ros_packages.make
    store = message_types.typestore()
    if "autoware_perception_msgs/msg/DetectedObjects" not in store.types:
        for name, text in AUTOWARE.items():
            store.register(get_types_from_msg(text, f"autoware_perception_msgs/msg/{name}"))
    return message_types.make


def one_of_each_class() -> Detections:
    rng = np.random.default_rng(0)
    return Detections(
        center=rng.uniform(-50, 50, (10, 3)),
        size=rng.uniform(0.3, 12, (10, 3)),
        yaw=rng.uniform(-np.pi, np.pi, 10),
        velocity=rng.normal(0, 5, (10, 2)),
        label=np.arange(10),
        score=rng.uniform(0, 1, 10),
        classes=NUSCENES_CLASSES,
    )


def constant(make, kind: str, name: str) -> int:
    """A constant as the message package itself defines it."""
    return int(getattr(type(make(f"autoware_perception_msgs/msg/{kind}")), name))


def test_objects_carry_class_pose_extent_and_twist(make):
    found = one_of_each_class()
    array = autoware.detected_objects(found, stamp_ns=STAMP, frame_id="base", make=make)
    assert arrays.stamp_ns(array.header.stamp) == STAMP
    assert array.header.frame_id == "base"
    assert len(array.objects) == 10
    for index, thing in enumerate(array.objects):
        name = NUSCENES_CLASSES[index]
        (classification,) = thing.classification
        same = name.upper() if name.upper() in AUTOWARE["ObjectClassification"] else "UNKNOWN"
        assert classification.label == constant(make, "ObjectClassification", same)
        assert classification.probability == 1.0
        assert thing.existence_probability == pytest.approx(found.score[index], rel=1e-6)
        kinematics = thing.kinematics
        p = kinematics.pose_with_covariance.pose.position
        np.testing.assert_allclose([p.x, p.y, p.z], found.center[index])
        dimensions = thing.shape.dimensions
        assert thing.shape.type == constant(make, "Shape", "BOUNDING_BOX")
        np.testing.assert_allclose([dimensions.x, dimensions.y, dimensions.z], found.size[index])
        assert kinematics.has_twist
        assert not kinematics.has_twist_covariance
        assert not kinematics.has_position_covariance
        heading = {"traffic_cone": "UNAVAILABLE", "barrier": "SIGN_UNKNOWN"}.get(name, "AVAILABLE")
        assert kinematics.orientation_availability == constant(
            make, "DetectedObjectKinematics", heading
        )
        # The twist is along the object's own axes: turned by its orientation it is the velocity.
        q = kinematics.pose_with_covariance.pose.orientation
        yaw = 2 * np.arctan2(q.z, q.w)
        twist = kinematics.twist_with_covariance.twist.linear
        c, s = np.cos(yaw), np.sin(yaw)
        over_ground = [c * twist.x - s * twist.y, s * twist.x + c * twist.y]
        np.testing.assert_allclose(over_ground, found.velocity[index], atol=1e-9)
        assert twist.z == 0.0
        expected = 0.0 if heading == "UNAVAILABLE" else found.yaw[index]
        np.testing.assert_allclose([c, s], [np.cos(expected), np.sin(expected)], atol=1e-9)


def test_a_car_that_drives_along_its_heading_has_a_twist_forward(make):
    yaw = 2.0
    car = Detections(
        center=np.zeros((1, 3)),
        size=np.ones((1, 3)),
        yaw=np.array([yaw]),
        velocity=7.0 * np.array([[np.cos(yaw), np.sin(yaw)]]),
        label=np.zeros(1, np.int64),
        score=np.ones(1),
        classes=NUSCENES_CLASSES,
    )
    (thing,) = autoware.detected_objects(car, stamp_ns=STAMP, make=make).objects
    twist = thing.kinematics.twist_with_covariance.twist.linear
    np.testing.assert_allclose([twist.x, twist.y], [7.0, 0.0], atol=1e-9)


def test_nothing_found_is_an_empty_array_and_broken_boxes_are_left_out(make):
    empty = autoware.detected_objects(
        Detections.empty(NUSCENES_CLASSES), stamp_ns=STAMP, make=make
    )
    assert len(empty.objects) == 0
    found = one_of_each_class()
    found.velocity[3] = np.nan
    assert len(autoware.detected_objects(found, stamp_ns=STAMP, make=make).objects) == 9


def test_other_class_lists_keep_the_labels_that_autoware_knows(make):
    names = ("Car", "tram", "Pedestrian", "Cyclist")
    few = one_of_each_class().select(np.arange(4))
    found = dataclasses.replace(few, label=np.arange(4), classes=names)
    array = autoware.detected_objects(found, stamp_ns=STAMP, make=make)
    wanted = [
        constant(make, "ObjectClassification", label)
        for label in ("CAR", "UNKNOWN", "PEDESTRIAN", "BICYCLE")
    ]
    assert [thing.classification[0].label for thing in array.objects] == wanted
    assert {thing.kinematics.orientation_availability for thing in array.objects} == {
        constant(make, "DetectedObjectKinematics", "AVAILABLE")
    }


@pytest.mark.parametrize("factory", ["definitions", "installed"])
def test_label_info_names_the_labels_of_boxes(factory):
    if factory == "installed":
        pytest.importorskip("vision_msgs")
    make = ros_packages.make if factory == "installed" else message_types.make
    info = box_messages.label_info(NUSCENES_CLASSES, stamp_ns=STAMP, make=make, threshold=0.25)
    assert arrays.stamp_ns(info.header.stamp) == STAMP
    assert [(c.class_id, c.class_name) for c in info.class_map] == list(
        enumerate(NUSCENES_CLASSES)
    )
    assert info.threshold == 0.25
    assert arrays.classes_of(info) == NUSCENES_CLASSES
    info.class_map[0].class_id = 3
    with pytest.raises(arrays.ConvertError, match="label info: expected 0, 1, 2"):
        arrays.classes_of(info)
