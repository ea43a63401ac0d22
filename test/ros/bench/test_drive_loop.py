"""A bag played in rounds: time and the vehicle only go on."""

from __future__ import annotations

import numpy as np
import pytest
import ros_rig

pytest.importorskip("rclpy")

from crkd_ros.bags.message_types import deserialize, make
from crkd_ros.bags.writer import BagWriter
from crkd_ros.bench.drive_loop import DriveLoop, LoopError
from crkd_ros.convert import arrays
from crkd_ros.parameters.framing import FramingConfig, MotionConfig

START = 1_700_000_000_000_000_000
ANCHOR = "/cam_back_left/image_rect_compressed"


def write(path, seconds):
    with BagWriter(path) as bag:
        for topic, message in ros_rig.drive(make, START, seconds):
            bag.write(topic, message, arrays.stamp_ns(message.header.stamp))
    return path


class Listener:
    """Takes the place of a publisher and notes stamps and poses."""

    def __init__(self, topic: str, type_name: str) -> None:
        self.topic, self.type_name = topic, type_name
        self.stamps: list[int] = []
        self.poses: list[np.ndarray] = []

    def publish(self, message) -> None:
        if isinstance(message, bytes):
            message = deserialize(message, self.type_name)
        else:
            self.poses.append(arrays.odometry_pose(message))
        self.stamps.append(arrays.stamp_ns(message.header.stamp))


def listeners(loop) -> dict[str, Listener]:
    return {topic: Listener(topic, kind) for topic, kind in loop.types.items()}


def test_rounds_follow_each_other_without_a_seam(tmp_path):
    loop = DriveLoop(write(tmp_path / "bag", 0.5), rate_hz=36.0)
    assert loop.parameters == {"calibration_check.frames": 0}
    assert not DriveLoop(tmp_path / "bag", rate_hz=12.0).parameters
    heard = listeners(loop)
    loop.run(heard, seconds=4 * loop.seconds, stop=lambda: False)
    for topic, listener in heard.items():
        assert (np.diff(listener.stamps) > 0).all(), topic
        assert len(listener.stamps) == loop.sent[topic] > 0
    images = np.diff(heard[ANCHOR].stamps)
    assert np.allclose(images, 1e9 / 36, atol=1e3)
    assert len(images) + 1 == 4 * round(36 * loop.seconds)
    # 8 m/s, also when played three times as fast; the vehicle never jumps back to its start.
    poses = heard["/odom"].poses
    moves = np.linalg.norm(np.diff([pose[:3, 3] for pose in poses], axis=0), axis=1)
    assert moves.max() < 1.0
    driven, seconds = sum(moves), 1e-9 * (heard["/odom"].stamps[-1] - heard["/odom"].stamps[0])
    assert driven / seconds == pytest.approx(8.0, rel=0.15)
    assert np.linalg.norm(poses[-1][:3, 3] - poses[0][:3, 3]) > 0.9 * driven


def test_it_stops_when_asked(tmp_path):
    loop = DriveLoop(write(tmp_path / "bag", 0.3), rate_hz=12.0)
    loop.run(listeners(loop), seconds=1e6, stop=lambda: sum(loop.sent.values()) >= 5)
    assert sum(loop.sent.values()) == 5


def test_a_bag_without_the_anchor_is_refused(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        bag.write("/radar_front", ros_rig.radar_cloud(make, "RADAR_FRONT", START), START)
    with pytest.raises(LoopError, match="two images of CAM_BACK_LEFT"):
        DriveLoop(tmp_path / "bag", rate_hz=12.0)


def test_what_the_node_does_not_subscribe_to_is_not_played(tmp_path):
    bag = write(tmp_path / "bag", 0.5)
    everything = DriveLoop(bag, rate_hz=12.0)
    heard = FramingConfig(
        sensors=("CAM_FRONT", "RADAR_BACK_LEFT"), motion=MotionConfig(source="none")
    )
    loop = DriveLoop(bag, rate_hz=12.0, framing=heard)
    assert set(loop.types) == {
        "/cam_front/image_rect_compressed",
        "/cam_front/camera_info",
        "/radar_back_left",
    }
    assert loop.seconds == everything.seconds
    found = listeners(loop)
    loop.run(found, seconds=loop.seconds, stop=lambda: False)
    assert all(one.stamps for one in found.values())
