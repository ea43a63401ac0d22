"""The real node and messages that no driver should send: it reports them and goes on."""

from __future__ import annotations

import numpy as np
import pytest
import ros_rig
from model_tiny import saved

pytest.importorskip("rclpy")

import node_rig
from node_rig import START

from crkd_core.data.radar import RADAR_DTYPE
from crkd_ros.convert import ros_packages

FRONT, INFO, RADAR, ODOM = (
    "/cam_front/image_rect_compressed",
    "/cam_front/camera_info",
    "/radar_front",
    "/odom",
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    folder = tmp_path_factory.mktemp("node")
    bench = node_rig.Bench(
        folder,
        weights=str(saved(folder)),
        score_threshold=0.0,
        health={"period": 0.2},
        # Frames wait for all of their messages, however busy the machine is.
        sync={"wait": 5.0},
    )
    bench.peer.advertise(ros_rig.drive(ros_packages.make, START, 0.1))
    bench.fresh()
    bench.wait(bench.peer.matched)
    bench.hear()
    yield bench
    bench.close()


def image(stamp: int, **options):
    return ros_rig.compressed_image(ros_packages.make, "CAM_FRONT", stamp, **options)


def cloud(stamp: int, **changes):
    message = ros_rig.radar_cloud(ros_packages.make, "RADAR_FRONT", stamp)
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def not_finite(stamp: int):
    records = np.zeros(5, RADAR_DTYPE)
    for name in ("x", "y", "z", "rcs", "vx_comp", "vy_comp"):
        records[name] = np.nan
    return ros_rig.cloud(ros_packages.make, "radar_front", stamp, records)


def turned_to_nothing(stamp: int):
    message = ros_rig.odometry(ros_packages.make, stamp)
    message.pose.pose.orientation.w = message.pose.pose.orientation.z = 0.0
    return message


def garbage(stamp: int):
    """(topic, message) of every kind; the last two of RADAR_FRONT's are empty, not broken."""
    whole = np.asarray(image(stamp).data, np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, 3000, dtype=np.uint8)
    good = cloud(stamp)
    return [
        (FRONT, image(stamp, data=whole[: len(whole) // 2])),
        (FRONT, image(stamp + 1, data=whole[:0])),
        (FRONT, image(stamp + 2, data=noise)),
        (FRONT, image(0)),
        (RADAR, cloud(stamp, width=2**32 - 1)),
        (RADAR, cloud(stamp + 1, point_step=0)),
        (RADAR, cloud(stamp + 2, height=2**31, width=2**31)),
        (RADAR, cloud(stamp + 3, data=good.data[:-1])),
        (RADAR, cloud(stamp + 4, fields=good.fields[3:])),
        (RADAR, cloud(stamp + 5, fields=[])),
        (RADAR, not_finite(stamp + 6)),
        (RADAR, cloud(stamp + 7, width=0, data=type(good.data)("B"), row_step=0)),
        (ODOM, turned_to_nothing(stamp)),
    ]


#: Ends with a set of images that is complete but for its anchor, so that the last frame's messages
#: are known to be all there.
SECONDS = 0.37
#: The second drive goes on where the first one ends: five images later.
PERIODS = 5 * 83_333_333
#: The vehicle of ros_rig begins its way anew every 1000 s.
EARLIER = START - 1_000_000_000_000
#: What of it is counted, under which status and name.
COUNTED = (
    ("CAM_FRONT", "unusable", "3"),
    ("CAM_FRONT", "zero stamp", "1"),
    ("RADAR_FRONT", "unusable", "6"),
    ("motion", "unusable", "1"),
)


def test_garbage_is_counted_and_good_messages_are_used_all_the_same(bench):
    peer = bench.peer
    before = bench.play(ros_rig.drive(ros_packages.make, START, SECONDS))
    for topic, message in garbage(START + 390_000_000):
        peer.publish(topic, message)
    for aspect, name, count in COUNTED:
        bench.wait(lambda a=aspect, n=name, c=count: peer.status(a)[1].get(n) == c)
    # A camera_info that is garbage costs images until the next good one, so it comes last.
    for k in (np.zeros(9), np.full(9, np.nan)):
        info = ros_rig.camera_info(ros_packages.make, "CAM_FRONT", START + 390_000_000, k=k)
        peer.publish(INFO, info)
    bench.wait(lambda: peer.status("CAM_FRONT")[1].get("no CameraInfo") == "2")
    after = bench.play(ros_rig.drive(ros_packages.make, START + PERIODS, SECONDS))
    assert bench.answered([*before, *after])
    bench.wait(lambda: peer.status("problems")[0] == "none at present")
    assert peer.status("RADAR_FRONT")[1]["unusable"] == "6"
    assert "radar cloud lacks" in peer.status("RADAR_FRONT")[1]["last unusable"]
    assert "not a calibration" in peer.status("CAM_FRONT")[1]["last no CameraInfo"]
    assert peer.status("frames")[1]["dropped (see problems)"] == "0"


def test_the_ros_clock_going_back_is_noticed(bench):
    from rosgraph_msgs.msg import Clock

    peer = bench.peer
    publisher = peer.node.create_publisher(Clock, "/clock", 10)
    assert peer.set(use_sim_time=True) == ""

    def told(seconds: int) -> bool:
        """Say what time it is, until the diagnostics say so too: they come though it stands."""
        clock = Clock()
        clock.clock.sec = seconds
        publisher.publish(clock)
        return peer.stamp_ns() == seconds * 1_000_000_000

    try:
        # As `ros2 bag play --delay` does it: nothing came yet that could be forgotten.
        bench.back()
        bench.fresh()
        bench.wait(lambda: told(100))
        bench.wait(lambda: told(90))
        bench.wait(peer.matched)
        bench.hear()
        assert bench.answered(bench.play(ros_rig.drive(ros_packages.make, START, SECONDS)))
        assert "time jumped" not in str(peer.status("problems"))
        bench.wait(lambda: told(10))
        bench.wait(lambda: "time jumped by -80.000 s" in str(peer.status("problems")))
        later = bench.play(ros_rig.drive(ros_packages.make, EARLIER, SECONDS))
        assert bench.answered(later)
        assert peer.set(use_sim_time=False) == ""
        another = "the ROS clock is another one now (use_sim_time): what came before is forgotten"
        bench.wait(lambda: another in str(peer.status("problems")))
    finally:
        assert peer.set(use_sim_time=False) == ""
