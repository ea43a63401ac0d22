"""Detections to messages and back, by both factories."""

from __future__ import annotations

import dataclasses

import numpy as np
import other_classes
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crkd_core import geometry
from crkd_core.boxes import Boxes, Detections, Tracked
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_ros.bags import message_types
from crkd_ros.convert import arrays, box_messages, markers, ros_packages

STAMP = 1_700_000_000_123_456_789
ADD, DELETEALL = 0, 3


def detections(count: int, seed: int = 0) -> Detections:
    rng = np.random.default_rng(seed)
    return Detections(
        center=rng.uniform(-50, 50, (count, 3)),
        size=rng.uniform(0.3, 12, (count, 3)),
        yaw=rng.uniform(-np.pi, np.pi, count),
        velocity=rng.normal(0, 5, (count, 2)),
        label=rng.integers(0, 10, count),
        score=np.sort(rng.uniform(0, 1, count))[::-1],
        classes=NUSCENES_CLASSES,
    )


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 40), st.integers(0, 2**32))
def test_boxes_come_back_from_the_cloud(count, seed):
    want = detections(count, seed)
    cloud = box_messages.boxes_cloud(want, stamp_ns=STAMP, make=message_types.make)
    got = arrays.boxes_from_cloud(cloud, NUSCENES_CLASSES)
    for name in ("center", "size", "yaw", "velocity", "score"):
        np.testing.assert_array_equal(
            getattr(got, name), getattr(want, name).astype(np.float32), err_msg=name
        )
    np.testing.assert_array_equal(got.label, want.label)


def test_the_cloud_is_what_the_contract_says(make):
    found = detections(3)
    cloud = box_messages.boxes_cloud(found, stamp_ns=STAMP, frame_id="base", make=make)
    assert arrays.stamp_ns(cloud.header.stamp) == STAMP
    assert cloud.header.frame_id == "base"
    names = ["x", "y", "z", "length", "width", "height", "yaw", "vx", "vy", "score", "label"]
    assert [field.name for field in cloud.fields] == names
    assert {(field.datatype, field.count) for field in cloud.fields} == {(7, 1)}
    assert (cloud.height, cloud.width, cloud.point_step, cloud.row_step) == (1, 3, 44, 132)
    values = np.frombuffer(bytes(cloud.data), "<f4").reshape(3, 11)
    np.testing.assert_allclose(values[:, 3:6], found.size, rtol=1e-6)
    np.testing.assert_allclose(values[:, 6], found.yaw, rtol=1e-6)
    with pytest.raises(arrays.ConvertError, match="boxes: expected fields x, y, z, length"):
        cloud.fields[0].name = "lat"
        arrays.boxes_from_cloud(cloud, NUSCENES_CLASSES)


def test_nothing_found_is_an_empty_array_with_the_header(make):
    empty = Detections.empty(NUSCENES_CLASSES)
    cloud = box_messages.boxes_cloud(empty, stamp_ns=STAMP, make=make)
    assert (cloud.width, len(cloud.data), cloud.header.frame_id) == (0, 0, "base_link")
    assert len(arrays.boxes_from_cloud(cloud, NUSCENES_CLASSES)) == 0
    array = markers.marker_array(empty, stamp_ns=STAMP, make=make)
    assert [(m.ns, m.action) for m in array.markers] == [
        ("boxes", DELETEALL),
        ("labels", DELETEALL),
        ("velocity", DELETEALL),
    ]


def test_markers_replace_what_was_shown_and_never_share_a_name(make):
    found = detections(12)
    found.velocity[:4] = 0.1
    array = markers.marker_array(found, stamp_ns=STAMP, make=make)
    assert [m.action for m in array.markers[:3]] == [DELETEALL] * 3
    names = [(m.ns, m.id) for m in array.markers]
    assert len(set(names)) == len(names) == 3 + 12 + 12 + 8
    for marker in array.markers:
        assert arrays.stamp_ns(marker.header.stamp) == STAMP
        assert not marker.frame_locked
    boxes = [m for m in array.markers if m.ns == "boxes" and m.action == ADD]
    for index, marker in enumerate(boxes):
        p, q = marker.pose.position, marker.pose.orientation
        np.testing.assert_allclose([p.x, p.y, p.z], found.center[index])
        # x is length, y width, z height.
        size = [marker.scale.x, marker.scale.y, marker.scale.z]
        np.testing.assert_allclose(size, found.size[index])
        pose = geometry.pose([0, 0, 0], [q.w, q.x, q.y, q.z])
        assert geometry.yaw_of(pose) == pytest.approx(found.yaw[index])
        assert marker.type == 1
        assert marker.color.a == pytest.approx(0.4)
    labels = [m for m in array.markers if m.ns == "labels" and m.action == ADD]
    assert labels[0].text == f"{NUSCENES_CLASSES[found.label[0]]} {found.score[0]:.2f}"
    assert labels[0].type == 9
    assert labels[0].scale.z > 0
    arrows = {m.id: m for m in array.markers if m.ns == "velocity" and m.action == ADD}
    assert sorted(arrows) == list(range(4, 12))
    for index, arrow in arrows.items():
        start, tip = arrow.points
        way = [tip.x - start.x, tip.y - start.y, tip.z - start.z]
        np.testing.assert_allclose(way, [*found.velocity[index], 0.0], atol=1e-9)
        np.testing.assert_allclose([start.x, start.y, start.z], found.center[index])
        assert arrow.type == 0


def test_truth_has_no_score_and_may_not_know_its_velocity(make):
    fields = {
        name: getattr(detections(2), name)
        for name in ("center", "size", "yaw", "velocity", "label")
    }
    truth = Boxes(**fields, classes=NUSCENES_CLASSES)
    truth.velocity[0] = np.nan
    names = ("truth", "names", "speed")
    array = markers.marker_array(truth, stamp_ns=STAMP, make=make, namespaces=names)
    added = [m for m in array.markers if m.action == ADD]
    assert [m.ns for m in added] == ["truth", "truth", "names", "names", "speed"]
    assert added[2].text == NUSCENES_CLASSES[truth.label[0]]


@pytest.mark.parametrize("field", ["center", "size", "yaw", "velocity", "score"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_boxes_that_are_not_finite_are_left_out(field, value):
    found = detections(5)
    getattr(found, field)[2] = value
    array = markers.marker_array(found, stamp_ns=STAMP, make=message_types.make)
    assert sum(m.ns == "boxes" and m.action == ADD for m in array.markers) == 4
    assert box_messages.boxes_cloud(found, stamp_ns=STAMP, make=message_types.make).width == 4
    kept = box_messages.finite(found)
    np.testing.assert_array_equal(kept.label, np.delete(found.label, 2))


def test_a_box_without_extent_is_left_out():
    found = detections(2)
    found.size[1, 0] = 0.0
    assert len(box_messages.finite(found)) == 1


def test_detection3d_arrays_carry_names_and_the_arrays_header():
    found = detections(3)
    array = box_messages.detection_array(found, stamp_ns=STAMP, make=message_types.make)
    assert len(array.detections) == 3
    for index, detection in enumerate(array.detections):
        assert detection.header == array.header
        (result,) = detection.results
        assert result.hypothesis.class_id == NUSCENES_CLASSES[found.label[index]]
        assert result.hypothesis.score == found.score[index]
        size, q = detection.bbox.size, detection.bbox.center.orientation
        np.testing.assert_allclose([size.x, size.y, size.z], found.size[index])
        pose = geometry.pose([0, 0, 0], [q.w, q.x, q.y, q.z])
        assert geometry.yaw_of(pose) == pytest.approx(found.yaw[index])
        assert result.pose.pose == detection.bbox.center


def test_both_factories_write_the_same_message():
    pytest.importorskip("rclpy")
    from rclpy.serialization import serialize_message

    found = detections(6)
    for build in (box_messages.boxes_cloud, markers.marker_array):
        live = build(found, stamp_ns=STAMP, make=ros_packages.make)
        replayed = build(found, stamp_ns=STAMP, make=message_types.make)
        kind = replayed.__msgtype__
        # Through one writer: Fast DDS leaves what it likes in the padding.
        read = message_types.deserialize(bytes(serialize_message(live)), kind)
        assert message_types.serialize(read) == message_types.serialize(replayed)


def tracked(found: Detections, ids) -> Tracked:
    fields = {f.name: getattr(found, f.name) for f in dataclasses.fields(Detections)}
    return Tracked(**fields, id=np.asarray(ids, np.int64))


def test_ids_are_in_every_output_and_old_readers_still_read(make):
    found = tracked(detections(4), [7, 0, 2**31 - 1, 0])
    cloud = box_messages.boxes_cloud(found, stamp_ns=STAMP, make=make)
    assert cloud.fields[-1].name == "id"
    assert (cloud.fields[-1].datatype, cloud.fields[-1].offset, cloud.point_step) == (6, 44, 48)
    assert ros_packages.read_points(cloud)["id"].tolist() == [7, 0, 2**31 - 1, 0]
    old = arrays.boxes_from_cloud(cloud, NUSCENES_CLASSES)
    np.testing.assert_allclose(old.center, found.center, rtol=1e-6)

    array = markers.marker_array(found, stamp_ns=STAMP, make=make)
    names = [(m.ns, m.id) for m in array.markers]
    assert len(set(names)) == len(names)
    cubes = [m.id for m in array.markers if m.ns == "boxes" and m.action == ADD]
    assert [number for number in cubes if number > 0] == [7, 2**31 - 1]
    texts = [m.text for m in array.markers if m.ns == "labels" and m.action == ADD]
    assert [text.partition(" #")[2] for text in texts] == ["7", "", str(2**31 - 1), ""]


@pytest.mark.parametrize("factory", ["rosbags", "installed"])
def test_detection3d_ids_are_text_and_empty_where_there_is_none(factory):
    if factory == "installed":
        pytest.importorskip("vision_msgs")
    make = ros_packages.make if factory == "installed" else message_types.make
    found = tracked(detections(3), [12, 0, 3])
    array = box_messages.detection_array(found, stamp_ns=STAMP, make=make)
    assert [detection.id for detection in array.detections] == ["12", "", "3"]
    array = box_messages.detection_array(detections(2), stamp_ns=STAMP, make=make)
    assert [detection.id for detection in array.detections] == ["", ""]


def test_kinds_of_markers_can_be_switched_off_and_vanish_by_themselves(make):
    found = detections(3)
    found.velocity[:] = 5.0
    for kind in markers.NAMESPACES:
        config = markers.MarkersConfig(**{kind: False}, lifetime=1.25, alpha=0.7)
        array = markers.marker_array(found, stamp_ns=STAMP, make=make, config=config)
        # What was shown before it was switched off goes away too.
        assert [m.ns for m in array.markers if m.action == DELETEALL] == list(markers.NAMESPACES)
        added = [m for m in array.markers if m.action == ADD]
        assert {m.ns for m in added} == set(markers.NAMESPACES) - {kind}
        assert {(m.lifetime.sec, m.lifetime.nanosec) for m in added} == {(1, 250_000_000)}
        assert all(m.color.a == pytest.approx(0.7) for m in added if m.ns == "boxes")
    forever = markers.marker_array(found, stamp_ns=STAMP, make=make).markers[-1].lifetime
    assert (forever.sec, forever.nanosec) == (0, 0)


def test_markers_of_other_classes_have_colours_of_their_own(make):
    found = other_classes.found(0)
    array = markers.marker_array(found, stamp_ns=STAMP, make=make)
    again = markers.marker_array(found, stamp_ns=STAMP, make=make)
    colors: dict[str, set] = {}
    for first, second in zip(array.markers, again.markers, strict=True):
        assert first.color == second.color
        if first.ns == "labels" and first.action == ADD:
            name = first.text.split()[0]
            colors.setdefault(name, set()).add((first.color.r, first.color.g, first.color.b))
    assert set(colors) == set(other_classes.CLASSES)
    assert all(len(one) == 1 for one in colors.values())
    flat = np.array([next(iter(one)) for one in colors.values()])
    apart = np.abs(flat[:, None] - flat).sum(-1)
    assert apart[~np.eye(3, dtype=bool)].min() > 0.3


def test_other_classes_come_back_from_messages_by_name():
    found, make = other_classes.found(1), message_types.make
    cloud = box_messages.boxes_cloud(found, stamp_ns=STAMP, make=make)
    info = box_messages.label_info(found.classes, stamp_ns=STAMP, make=make, threshold=0.1)
    back = arrays.boxes_from_cloud(cloud, arrays.classes_of(info))
    assert back.classes == other_classes.CLASSES
    np.testing.assert_array_equal(back.label, found.label)
    array = box_messages.detection_array(found, stamp_ns=STAMP, make=make)
    assert [d.results[0].hypothesis.class_id for d in array.detections] == [
        found.classes[label] for label in found.label
    ]
    with pytest.raises(arrays.ConvertError, match=r"labels 0 to 1 \(a, b\), got 0 to 2"):
        arrays.boxes_from_cloud(cloud, ("a", "b"))
