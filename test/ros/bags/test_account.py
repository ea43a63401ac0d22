"""What became of every sensor's messages: nothing vanishes without a word, broken ones mask."""

from __future__ import annotations

import numpy as np
import pytest
import rig_bags
from rig_bags import IMAGE, SECOND, START

from crkd_core.sensors import CAMERAS, RADARS
from crkd_ros.bags.account import Account
from crkd_ros.bags.foreign.conversion import convert_bag
from crkd_ros.bags.frames import BagProblem, Recording
from crkd_ros.bags.info import describe
from crkd_ros.bags.info_text import show
from crkd_ros.bags.message_types import make
from crkd_ros.bags.writer import BagWriter
from crkd_ros.parameters.framing import FramingConfig


def replayed(path, **options) -> tuple[list, Account, list[BagProblem]]:
    problems: list[BagProblem] = []
    with Recording(path, framing=FramingConfig(**options)) as recording:
        account = recording.new_account()
        found = list(recording.frames(IMAGE, problems=problems, account=account))
    return found, account, problems


def without_y(topic, message, number):
    """A cloud that nobody can read."""
    message.fields = [field for field in message.fields if field.name != "y"]
    return message


def test_a_whole_drive_is_used(tmp_path) -> None:
    found, account, problems = replayed(rig_bags.write(tmp_path / "bag"))
    assert problems == [] and len(found) == account.frames == 12 and account.dropped == 0
    for name, one in account.sensors.items():
        assert one.used + one.stale == one.messages in (12, 13), name
        assert (one.broken, one.stamps, one.masked) == (0, 0, 0) or name in RADARS
        assert one.stale <= 1
    table = account.table()
    assert [row[0] for row in table.rows] == [name.lower() for name in CAMERAS + RADARS]
    assert "masked" in table.columns and "stale" in table.columns


def test_broken_radars_are_masked_and_cost_no_frame(tmp_path) -> None:
    """One, all five, and single clouds: as in the live node."""
    whole, _, _ = replayed(rig_bags.write(tmp_path / "whole"))

    def breaks(topics, numbers=None):
        def change(topic, message, number):
            broken = topic in topics and (numbers is None or number in numbers)
            yield topic, without_y(topic, message, number) if broken else message

        return change

    every = rig_bags.radar_topics()
    for name, topics in (("one", every[:1]), ("all", every)):
        found, account, problems = replayed(rig_bags.write(tmp_path / name, breaks(topics)))
        assert [frame.stamp_ns for frame in found] == [frame.stamp_ns for frame in whole]
        for radar in RADARS:
            one, broken = account.sensors[radar], f"/{radar.lower()}" in topics
            assert (one.broken == one.messages > 0) is broken
            assert (one.masked == 12) is broken
            assert ("lacks y" in one.why()) is broken
        assert len(problems) == sum(one.broken for one in account.sensors.values())
        for frame in found:
            assert all(image is not None for image in frame.images)
    found, account, _ = replayed(rig_bags.write(tmp_path / "some", breaks(every, {3, 4})))
    assert len(found) == 12 and all(frame.radar_present.all() for frame in found[2:])
    assert all(account.sensors[radar].broken == 2 for radar in RADARS)


def late(path, delay: int):
    """The drive with its radars recorded later than measured, ns."""
    sources = sorted(
        (
            (rig_bags.recorded_at(topic, message) + delay * topic.startswith("/radar"), n),
            (topic, message),
        )
        for n, (topic, message) in enumerate(rig_bags.messages(2.0))
    )
    with BagWriter(path) as bag:
        for (at, _), (topic, message) in sources:
            bag.write(topic, message, at)
    return path


def test_messages_that_come_too_late_are_told_from_missing_ones(tmp_path, capsys) -> None:
    found, account, _ = replayed(late(tmp_path / "bag", 4 * SECOND // 10))
    one = account.sensors["RADAR_FRONT"]
    assert 0 < one.late == one.masked == len(found) and 0.3 < one.behind <= 0.4
    assert one.why() == f"came {one.behind:.2f} s late, when the frame had been made"
    info = describe(tmp_path / "bag", progress=False)
    assert (info.frames, info.moving) == (len(found), len(found))
    assert info.radars == pytest.approx(np.mean([frame.radar_present.sum() for frame in found]))
    (trouble,) = info.troubles
    assert f"--kind ros2 writes them, there are {len(found)} frames" in trouble
    show(info, tmp_path / "bag")
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"next: crkd bag convert {tmp_path / 'bag'} OUT --kind ros2"
    convert_bag(tmp_path / "bag", tmp_path / "put_right", kind=rig_bags.ROS2, progress=False)
    right = describe(tmp_path / "put_right", progress=False)
    assert right.troubles == () and right.radars > 4.5 > 1 > info.radars


def test_every_kind_of_loss_is_told(tmp_path) -> None:
    def change(topic, message, number):
        if topic.startswith("/cam_back/"):
            return  # Not in the bag at all.
        if topic == "/cam_front/camera_info":
            return  # Images without intrinsics.
        if topic == "/cam_front_left/image_rect_compressed":
            message.data = np.zeros(20, np.uint8)
        if topic == "/cam_front_right/image_rect_compressed":
            message.header.stamp = make("builtin_interfaces/msg/Time")
        if topic == "/cam_back_right/image_rect_compressed" and number > 5:
            return  # It stops.
        if topic == "/radar_front" and number == 4:
            message.header.stamp = make("builtin_interfaces/msg/Time", sec=START // 10**9 + 3600)
        yield topic, message

    found, account, problems = replayed(rig_bags.write(tmp_path / "bag", change))
    assert len(found) == 12
    rows = account.sensors
    assert (rows["CAM_BACK"].messages, rows["CAM_BACK"].masked) == (0, 12)
    assert rows["CAM_BACK"].why() == "not in the bag"
    assert rows["CAM_FRONT"].broken == rows["CAM_FRONT"].messages == 12
    assert "no CameraInfo" in rows["CAM_FRONT"].why() and rows["CAM_FRONT"].masked == 12
    assert rows["CAM_FRONT_LEFT"].masked == 12
    assert "expected a JPEG" in rows["CAM_FRONT_LEFT"].why()
    assert rows["CAM_FRONT_RIGHT"].stamps == 12 and "zero stamp" in rows["CAM_FRONT_RIGHT"].why()
    assert rows["CAM_BACK_RIGHT"].used == 6 and 4 <= rows["CAM_BACK_RIGHT"].masked <= 6
    assert rows["CAM_BACK_RIGHT"].why() == "no message less than 0.1 s before the frame"
    assert rows["RADAR_FRONT"].stamps == 1 and "1 outlier" in rows["RADAR_FRONT"].why()
    assert rows["CAM_BACK_LEFT"].masked == 0 and rows["CAM_BACK_LEFT"].used == 12
    assert problems
