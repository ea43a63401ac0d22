"""The judge of ids, by hand and on a drive of the world."""

from __future__ import annotations

import numpy as np
import pytest
from tracking_report import (
    BOXES,
    COLUMNS,
    Annotations,
    TrackingReportError,
    detected,
    follow,
    made_up,
    marks,
    owners,
    report,
)

from crkd_core.boxes import Boxes
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.data.nuscenes.reader import NuScenes
from crkd_ros.bags import message_types
from crkd_ros.bags.detections import LABELS
from crkd_ros.bags.writer import BagWriter
from crkd_ros.convert import box_messages


@pytest.mark.parametrize(
    ("ids", "switches", "fragments"),
    [
        ([0, 1, 1, 1], 0, 0),
        ([0, 1, 0, 1], 0, 1),
        ([1, 1, 2, 2], 1, 1),
        ([1, 0, 2, 2], 1, 1),
        ([1, 2, 1, 0], 2, 2),
        ([0, 0, 0], 0, 0),
    ],
)
def test_marks_of_one_object(ids, switches, fragments):
    found = marks({7: ids})
    assert (found.switches, found.fragments) == (switches, fragments)
    assert found.detections == len(ids)
    assert found.named == sum(number > 0 for number in ids)
    assert len(found.row("x")) == len(COLUMNS)


def test_an_id_of_two_objects_is_told():
    assert marks({1: [0, 5], 2: [5, 6]}).shared == 1
    assert marks({1: [0, 5], 2: [0, 6]}).shared == 0


def test_each_detection_belongs_to_the_nearest_object_of_its_class():
    def at(x, label):
        x = np.asarray(x, float)
        return Boxes(
            center=np.pad(x[:, None], ((0, 0), (0, 2))),
            size=np.ones((len(x), 3)),
            yaw=np.zeros(len(x)),
            velocity=np.zeros((len(x), 2)),
            label=np.asarray(label, np.int64),
            classes=NUSCENES_CLASSES,
        )

    truth = at([0, 1, 10, 20], [0, 0, 0, 3])
    found = at([0.9, 0.2, 12.5, 20, 0.3], [0, 0, 0, 4, 0])
    thing = np.array([50, 51, 52, 53])
    # One is too far, one of another class, and the last is the second of its object.
    np.testing.assert_array_equal(owners(found, truth, thing), [51, 50, -1, -1, -1])
    assert len(owners(at([], []), truth, thing)) == 0


def test_objects_of_a_drive_keep_their_ids(tiny_drive):
    tables = NuScenes(tiny_drive)
    (scene,) = tables.scenes
    found = follow(made_up(tables, scene, miss=0.1, false=5))
    assert found.objects > 20
    assert found.named > 0.8 * found.detections
    # Its cones stand closer to one another than the noise is wide: those may be mistaken.
    assert found.switches < 0.01 * found.detections


def test_annotations_follow_objects_between_samples(tiny_drive):
    tables = NuScenes(tiny_drive)
    (scene,) = tables.scenes
    annotations = Annotations(tables, scene)
    first, second = (tables.stamp_ns(token) for token in tables.samples_of_scene(scene)[:2])
    assert annotations.at(first - 1) is None
    boxes, thing = annotations.at(first)
    later, later_thing = annotations.at(second)
    assert len(set(thing.tolist())) == len(thing)
    between, seen = annotations.at((first + second) // 2)
    for index, number in enumerate(seen):
        start = boxes.center[thing == number][0]
        end = later.center[later_thing == number][0]
        np.testing.assert_allclose(between.center[index], (start + end) / 2, atol=1e-3)
        speed = (end - start)[:2] / ((second - first) / 1e9)
        np.testing.assert_allclose(between.velocity[index], speed)
    # By the tables' own velocities it is the same object: not just somebody near.
    known = np.isfinite(boxes.velocity[:, 0]) & np.isin(thing, seen)
    np.testing.assert_allclose(
        between.velocity[[list(seen).index(number) for number in thing[known]]],
        boxes.velocity[known],
        atol=0.5,
    )


def test_detections_of_a_bag_are_judged_too(tiny_drive, tmp_path):
    tables = NuScenes(tiny_drive)
    (scene,) = tables.scenes
    path = tmp_path / "detections"
    with BagWriter(path) as bag:
        bag.add_topic(BOXES, "sensor_msgs/msg/PointCloud2")
        bag.add_topic(LABELS, "vision_msgs/msg/LabelInfo")
        info = box_messages.label_info(
            NUSCENES_CLASSES, stamp_ns=0, make=message_types.make, threshold=0.1
        )
        data = bytes(message_types.serialize(info))
        bag.write_raw(LABELS, "vision_msgs/msg/LabelInfo", data, 0)
        for seen in made_up(tables, scene, miss=0.1, false=0):
            cloud = box_messages.boxes_cloud(
                seen.detections, stamp_ns=seen.stamp_ns, make=message_types.make
            )
            data = bytes(message_types.serialize(cloud))
            bag.write_raw(BOXES, "sensor_msgs/msg/PointCloud2", data, seen.stamp_ns)
    frames = list(detected(tables, scene, path, least=0.1))
    wanted = list(made_up(tables, scene, miss=0.1, false=0))
    assert [frame.stamp_ns for frame in frames] == [frame.stamp_ns for frame in wanted]
    own = np.concatenate([frame.owner for frame in frames])
    right = own == np.concatenate([frame.owner for frame in wanted])
    # Neighbours closer than the noise may be taken for one another.
    assert right.mean() > 0.95
    table = report(tables, scene, path, scores=[0.1])
    assert len(table.rows) == 5
    with pytest.raises(TrackingReportError, match=f"no {LABELS}, so its labels mean nothing"):
        list(detected(tables, scene, tiny_bag_without(tmp_path), least=0.1))


def tiny_bag_without(folder):
    path = folder / "empty"
    with BagWriter(path) as bag:
        bag.add_topic(BOXES, "sensor_msgs/msg/PointCloud2")
    return path
