"""What is published of one frame: chosen, renamed, numbered, in the frame that was asked for."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from crkd_core import geometry
from crkd_core.boxes import Detections, Tracked
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_ros.motion.odometry import OdometryMotion
from crkd_ros.motion.poses import MotionError, NoMotion
from crkd_ros.node.postprocess import Postprocess, in_odometry, upright
from crkd_ros.parameters.node import NodeConfig
from crkd_ros.parameters.outputs import RemapConfig, ThresholdsConfig, TrackingConfig

START = 1_700_000_000_000_000_000
STEP = 83_333_333


class Nowhere:
    """Extrinsics that are not needed."""

    def base_T(self, frame: str):
        raise MotionError(frame)


def turning(index: int) -> np.ndarray:
    return geometry.pose([100 + index, 50, 0.3], geometry.yaw_to_quat_wxyz(0.1 * index))


def odometry(count: int) -> OdometryMotion:
    motion = OdometryMotion(extrinsics=Nowhere())
    for index in range(count):
        motion.add(START + index * STEP, turning(index), parent="odom")
    return motion


def detections() -> Detections:
    return Detections(
        center=np.array([[10.0, 2, 0.5], [-30, 5, 1], [4, -3, 0]]),
        size=np.ones((3, 3)),
        yaw=np.array([0.0, 1.0, -2.0]),
        velocity=np.array([[3.0, 0], [0, -2], [0, 0]]),
        label=np.array([NUSCENES_CLASSES.index(name) for name in ("car", "trailer", "barrier")]),
        score=np.array([0.9, 0.5, 0.3]),
        classes=NUSCENES_CLASSES,
    )


def same(one: Detections, other: Detections) -> None:
    assert one.classes == other.classes
    for name, array in other.arrays().items():
        np.testing.assert_allclose(getattr(one, name), array, atol=1e-9, err_msg=name)


def test_by_default_nothing_is_changed():
    found = detections()
    answer = Postprocess(NodeConfig(), motion=NoMotion())(found, START)
    assert type(answer) is Detections
    same(answer, found)


def test_thresholds_judge_the_networks_class_before_it_is_renamed():
    config = NodeConfig(
        thresholds=ThresholdsConfig(scores={"trailer": (0.6,), "barrier": (0.2,)}),
        remap=RemapConfig(classes={"trailer": "truck", "barrier": "", "car": "bus"}),
    )
    postprocess = Postprocess(config, motion=NoMotion())
    answer = postprocess(detections(), START)
    assert [NUSCENES_CLASSES[label] for label in answer.label] == ["bus"]
    # Settings change from one frame to the next.
    thresholds = ThresholdsConfig(scores={"trailer": (0.4,), "truck": (0.99,)})
    postprocess.config = dataclasses.replace(config, thresholds=thresholds)
    answer = postprocess(detections(), START)
    assert [NUSCENES_CLASSES[label] for label in answer.label] == ["bus", "truck"]


def test_boxes_and_velocities_are_in_the_frame_that_was_asked_for():
    motion = odometry(4)
    postprocess = Postprocess(NodeConfig(), motion=motion, place=in_odometry(motion, "/odom"))
    found = detections()
    answer = postprocess(found, START + 3 * STEP)
    odom_T_base = turning(3)
    np.testing.assert_allclose(answer.center, geometry.apply(odom_T_base, found.center))
    np.testing.assert_allclose(geometry.wrap_angle(answer.yaw - found.yaw - 0.3), 0, atol=1e-9)
    c, s = np.cos(0.3), np.sin(0.3)
    np.testing.assert_allclose(answer.velocity[0], [3 * c, 3 * s], atol=1e-9)
    np.testing.assert_allclose(answer.velocity[1], [2 * s, -2 * c], atol=1e-9)


def test_ranges_of_thresholds_are_from_the_vehicle_also_in_another_frame():
    motion = odometry(4)
    config = NodeConfig(
        thresholds=ThresholdsConfig(ranges=(0.0, 20.0), scores={"trailer": (0.0, 0.6)})
    )
    postprocess = Postprocess(config, motion=motion, place=in_odometry(motion, "odom"))
    assert len(postprocess(detections(), START)) == 2


def test_a_frame_that_is_not_known_is_refused():
    motion = odometry(4)
    late = START + 100 * STEP
    with pytest.raises(MotionError, match="beyond the newest"):
        Postprocess(NodeConfig(), motion=motion, place=in_odometry(motion, "odom"))(
            detections(), late
        )
    with pytest.raises(MotionError, match="output_frame is 'map' but odometry is in 'odom'"):
        Postprocess(NodeConfig(), motion=motion, place=in_odometry(motion, "map"))(
            detections(), START
        )
    # An optical frame: z forward.
    camera = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    with pytest.raises(MotionError, match="'cam_front' is tilted by 90 degrees"):
        upright(lambda stamp_ns: camera, "cam_front")(START)


def test_ids_stay_while_the_vehicle_moves_and_are_those_of_every_frame():
    motion = odometry(8)
    config = NodeConfig(tracking=TrackingConfig(enabled=True))
    here = Postprocess(config, motion=motion)
    there = Postprocess(config, motion=motion, place=in_odometry(motion, "odom"))
    still = detections().transformed(turning(0))
    still.velocity[:] = 0
    for index in range(8):
        found = still.transformed(geometry.invert(turning(index)))
        for postprocess, expected in ((here, found), (there, still)):
            answer = postprocess(found, START + index * STEP)
            assert isinstance(answer, Tracked)
            same(answer, expected)
            assert list(answer.id) == ([0, 0, 0] if index == 0 else [1, 2, 3])


@pytest.mark.parametrize("frame", ["odom", "map"])
def test_after_a_jump_of_the_map_no_object_has_its_neighbours_id(frame):
    """Objects in a row, and the map jumps by the distance between them."""
    motion, step = odometry(0), 20_000_000
    config = NodeConfig(tracking=TrackingConfig(enabled=True, birth=1))
    postprocess = Postprocess(config, motion=motion)
    row = detections()
    row = row.select(np.zeros(5, np.int64))
    row.center[:, 0] = 5.5 * np.arange(5)
    row.velocity[:] = 0
    found = []
    for index in range(50):
        shift = 5.5 if index >= 25 else 0.0
        where = geometry.pose([shift, 0, 0], [1.0, 0, 0, 0])
        motion.add(START + index * step, where, parent="odom" if index < 25 else frame)
        if index % 5 == 4:
            found.append(postprocess(row, START + index * step).id.tolist())
    before, after = found[:5], found[5:]
    assert all(ids == [1, 2, 3, 4, 5] for ids in before)
    assert all(not set(ids) & {1, 2, 3, 4, 5} for ids in after)
    assert after[-1] == [6, 7, 8, 9, 10]


def test_without_a_pose_detections_go_out_without_ids_and_it_is_reported():
    said: list[str] = []
    config = NodeConfig(tracking=TrackingConfig(enabled=True, birth=1))
    postprocess = Postprocess(config, motion=odometry(0), problem=said.append)
    answer = postprocess(detections(), START)
    assert isinstance(answer, Tracked)
    assert list(answer.id) == [0, 0, 0]
    same(answer, detections())
    assert said
    assert said[0].startswith("no ids: no ego pose was received yet")


def test_tracking_can_be_switched_on_and_off_between_frames():
    off, on = NodeConfig(), NodeConfig(tracking=TrackingConfig(enabled=True, birth=1))
    postprocess = Postprocess(off, motion=NoMotion())
    assert not isinstance(postprocess(detections(), START), Tracked)
    postprocess.config = on
    answer = postprocess(detections(), START + STEP)
    assert isinstance(answer, Tracked)
    assert list(answer.id) == [1, 2, 3]
    postprocess.config = off
    assert not isinstance(postprocess(detections(), START + 2 * STEP), Tracked)
