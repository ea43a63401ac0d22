"""The check of the calibration: nothing on a true rig, every sabotage found and named."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable

import numpy as np
import pytest
import rig_bags
import ros_rig
from hypothesis import given, settings
from hypothesis import strategies as st

from crkd_core import geometry
from crkd_core.config import ImageConfig
from crkd_core.data.nuscenes.reader import NuScenes
from crkd_core.sensors import CAMERAS, RADAR_COMPENSATED, RADAR_VELOCITY, RADARS
from crkd_ros.bags import recorded_calibration
from crkd_ros.bags.frames import Recording
from crkd_ros.calibration_check import drive as check_drive
from crkd_ros.calibration_check.check import CalibrationCheck
from crkd_ros.calibration_check.placement import (
    OPTICAL,
    check_intrinsics,
    check_places,
    check_view,
)
from crkd_ros.convert.arrays import stamp_ns
from crkd_ros.motion.calibration_file import Calibration
from crkd_ros.motion.pose_buffer import PoseBuffer
from crkd_ros.motion.poses import NoMotion
from crkd_ros.reporter import Reporter
from crkd_ros.sync.history import Timed
from crkd_ros.sync.synchroniser import FrameSet

SCENE = "scene-0103"
Pose = np.ndarray


@dataclasses.dataclass(frozen=True)
class Drive:
    """A short drive of the synthetic world, as the node would see it."""

    sets: list[FrameSet]
    places: dict[str, Pose]
    poses: PoseBuffer
    known: dict[int, Pose]

    def check(
        self, places: dict[str, Pose] | None = None, motion=None, sets=None
    ) -> CalibrationCheck:
        calibration = Calibration()
        for sensor, pose in (places or self.places).items():
            calibration.add("base_link", sensor, pose)
        sets = sets or self.sets
        check = CalibrationCheck(
            extrinsics=calibration, motion=motion or self.poses, frames=len(self.sets)
        )
        for frame_set in sets:
            check.add(frame_set)
        return check


@pytest.fixture(scope="module")
def drive(tiny_drive) -> Drive:
    tables = NuScenes(tiny_drive)
    calibration = recorded_calibration.of_dataset(tables)
    image = ImageConfig(height=128, width=352, zoom=1.0)
    return Drive(
        sets=list(check_drive.sets_of(tables, SCENE, image=image)),
        places={sensor: calibration.base_T(sensor) for sensor in CAMERAS + RADARS},
        poses=check_drive.poses_of(tables, SCENE),
        known={
            record.stamp_ns: record.global_T_ego
            for channel in CAMERAS + RADARS
            for record in tables.records(SCENE, channel)
        },
    )


def turned(pose: Pose, degrees: float, axis: str = "z") -> Pose:
    """A sensor turned on its mount: z to the left, y downwards for one that looks ahead."""
    half = np.deg2rad(degrees) / 2
    quat = [np.cos(half), *(np.sin(half) * np.eye(3)["xyz".index(axis)])]
    out = pose.copy()
    out[:3, :3] = geometry.quat_wxyz_to_matrix(quat) @ pose[:3, :3]
    return out


def moved(pose: Pose, *by: float) -> Pose:
    out = pose.copy()
    out[:3, 3] += by
    return out


def test_a_true_rig_raises_no_doubt_and_everything_was_looked_at(drive):
    check = drive.check()
    assert check.done
    assert [finding.text for finding in check.findings] == []
    assert check.summary() == (
        "looks right; checked places of 11 sensors, radar returns in 6 cameras, Doppler of 5 "
        "radars, standing returns, image motion of 6 cameras"
    )


def test_other_true_rigs_raise_no_doubt_about_places(request):
    path = request.config.rootpath / "config" / "calibration.yaml"
    example = Calibration.load(path)
    assert check_places({name: example.base_T(name) for name in CAMERAS + RADARS}) == []
    # Corner radars at 45 degrees, cameras around one mast of a small shuttle bus.
    places = {}
    for camera, yaw in zip(CAMERAS, (0, -60, 60, 180, 120, -120), strict=True):
        pose = geometry.pose([0.8, 0, 2.9], geometry.yaw_to_quat_wxyz(np.deg2rad(yaw)))
        pose[:3, :3] = pose[:3, :3] @ OPTICAL
        places[camera] = pose
    for radar, (x, y, yaw) in zip(
        RADARS,
        ((3, 0, 0), (2.8, 0.9, 45), (2.8, -0.9, -45), (-0.9, 0.9, 135), (-0.9, -0.9, -135)),
        strict=True,
    ):
        places[radar] = geometry.pose([x, y, 0.4], geometry.yaw_to_quat_wxyz(np.deg2rad(yaw)))
    assert check_places(places) == []


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_the_last_centimetres_and_degrees_of_a_calibration_are_nobodys_business(seed):
    rng = np.random.default_rng(seed)
    rig = {
        sensor: moved(
            turned(turned(pose, rng.uniform(-8, 8)), rng.uniform(-5, 5), "xy"[seed % 2]),
            *rng.uniform(-0.15, 0.15, 3),
        )
        for sensor, pose in _rig().items()
    }
    assert check_places(rig) == []


def _rig() -> dict[str, Pose]:
    from crkd_core.world.rig import build_rig

    return {
        name: mount.ego_T_sensor for name, mount in build_rig(160).items() if "LID" not in name
    }


def _one(sensor: str, change: Callable[[Pose], Pose]):
    return lambda places: places | {sensor: change(places[sensor])}


def _swap(one: str, other: str):
    return lambda places: places | {one: places[other], other: places[one]}


def _body_axes(pose: Pose) -> Pose:
    out = pose.copy()
    out[:3, :3] = pose[:3, :3] @ OPTICAL.T
    return out


def _other_order(pose: Pose) -> Pose:
    """The numbers w x y z written where x y z w are read."""
    return geometry.pose(
        pose[:3, 3], geometry.quat_xyzw_to_wxyz(geometry.matrix_to_quat_wxyz(pose[:3, :3]))
    )


def _millimetres(pose: Pose) -> Pose:
    return moved(pose, *(999 * pose[:3, 3]))


#: name: (what is done to the places, sensors that must be named and no others, words of the text)
SABOTAGE = {
    "body axes": (_one("CAM_BACK", _body_axes), ["CAM_BACK"], "body frame"),
    "inverse": (_one("CAM_FRONT", geometry.invert), ["CAM_FRONT"], "the inverse"),
    "order": (_one("CAM_FRONT_LEFT", _other_order), ["CAM_FRONT_LEFT"], "quaternion's order"),
    "radar order": (_one("RADAR_FRONT", _other_order), ["RADAR_FRONT"], "quaternion's order"),
    "millimetres": (_one("RADAR_FRONT", _millimetres), ["RADAR_FRONT"], "millimetres"),
    "pitch": (_one("CAM_FRONT", lambda p: turned(p, 25, "y")), ["CAM_FRONT"], "pitch"),
    "roll": (_one("CAM_BACK", lambda p: turned(p, 40, "x")), ["CAM_BACK"], "y axis down"),
    "turned camera": (_one("CAM_FRONT", lambda p: turned(p, 12)), ["CAM_FRONT"], r"\+1[0-4] deg"),
    "turned back": (_one("CAM_BACK", lambda p: turned(p, -20)), ["CAM_BACK"], r"-(19|2\d) deg"),
    "turned radar": (
        _one("RADAR_BACK_LEFT", lambda p: turned(p, 9)),
        ["RADAR_BACK_LEFT"],
        r"seems to be \+[89]\.\d degrees too far",
    ),
    "left and right": (
        _swap("CAM_BACK_LEFT", "CAM_BACK_RIGHT"),
        ["CAM_BACK_LEFT", "CAM_BACK_RIGHT"],
        "are these two swapped",
    ),
    "front and back": (
        _swap("CAM_FRONT_LEFT", "CAM_BACK_LEFT"),
        ["CAM_BACK_LEFT", "CAM_FRONT_LEFT"],
        "are these two swapped",
    ),
    "radars": (
        _swap("RADAR_BACK_LEFT", "RADAR_BACK_RIGHT"),
        ["RADAR_BACK_LEFT", "RADAR_BACK_RIGHT"],
        "are these two swapped",
    ),
    "backwards": (
        lambda places: places | {"RADAR_FRONT": moved(places["RADAR_FRONT"], -4.5, 0, 0)},
        ["RADAR_BACK_LEFT", "RADAR_BACK_RIGHT"],
        "behind RADAR_FRONT",
    ),
    "base on the roof": (
        lambda places: {name: moved(pose, 0, 0, -1.7) for name, pose in places.items()},
        [*CAMERAS, *RADARS],
        "lies on the ground",
    ),
}


@pytest.mark.parametrize("name", SABOTAGE)
def test_every_sabotage_is_found_and_named(drive, name):
    sabotage, sensors, words = SABOTAGE[name]
    check = drive.check(sabotage(drive.places))
    found = sorted({finding.sensor for finding in check.findings if finding.sensor})
    assert found == sorted(sensors)

    assert any(re.search(words, finding.text) for finding in check.findings), check.findings
    assert check.summary().startswith("looks wrong")


@pytest.mark.parametrize(
    ("sensor", "axis", "degrees", "words"),
    [
        ("CAM_FRONT", 2, 180, "It is mounted upside down: let the driver turn its images upright"),
        ("CAM_BACK_LEFT", 2, 90, "on its side: let the driver turn"),
        ("CAM_BACK_LEFT", 2, -90, "on its side: let the driver turn"),
        # An identity written in the other order is upside down, too.
        (
            "RADAR_FRONT",
            0,
            180,
            "quaternion's order; or it is mounted upside down, which is right",
        ),
    ],
)
def test_unusual_mountings_are_named(sensor, axis, degrees, words):
    places = _rig()
    turn = np.zeros(4)
    turn[0], turn[1 + axis] = np.cos(np.deg2rad(degrees) / 2), np.sin(np.deg2rad(degrees) / 2)
    places[sensor] = places[sensor] @ geometry.pose([0, 0, 0], turn)
    (finding,) = check_places(places)
    assert finding.sensor == sensor and words in finding.text


class Reversed(PoseBuffer):
    """The wrong sign: the motion from now to then."""

    def ego_T_ego(self, stamp_ns, reference_ns):
        return super().ego_T_ego(reference_ns, stamp_ns)


def _motion(drive: Drive, change: Callable[[Pose], Pose], kind=PoseBuffer) -> PoseBuffer:
    poses = kind(history=1e6)
    for stamp in sorted(drive.known):
        poses.add(stamp, change(drive.known[stamp]))
    return poses


def _kmh(pose: Pose) -> Pose:
    """Speeds in km/h taken for m/s: everything 3.6 times as far."""
    out = pose.copy()
    out[:3, 3] *= 3.6
    return out


MOTIONS = {
    "reversed": (lambda drive: _motion(drive, lambda pose: pose, Reversed), "reversed"),
    "kmh": (lambda drive: _motion(drive, _kmh), r"3\.6\d times"),
    "none": (lambda drive: NoMotion(), "motion.source none"),
    "sideways": (
        lambda drive: _motion(
            drive, lambda pose: pose @ geometry.pose([0, 0, 0], geometry.yaw_to_quat_wxyz(0.5))
        ),
        r"-(28|29) degrees off",
    ),
}


@pytest.mark.parametrize("name", MOTIONS)
def test_a_wrong_ego_motion_is_found(drive, name):
    motion, words = MOTIONS[name]
    check = drive.check(motion=motion(drive))

    texts = [finding.text for finding in check.findings if not finding.sensor]
    assert any(re.search(words, text) for text in texts), check.findings


def test_radars_without_raw_speeds_still_show_a_reversed_motion(drive):
    """Only that standing things stay put is left to look at."""
    sets = [
        dataclasses.replace(
            frame_set,
            images={},
            sweeps={
                name: tuple(one._replace(item=_without_raw(one.item)) for one in sweeps)
                for name, sweeps in frame_set.sweeps.items()
            },
        )
        for frame_set in drive.sets
    ]
    assert drive.check(sets=sets).findings == []
    motion = _motion(drive, lambda pose: pose, Reversed)
    (finding,) = drive.check(sets=sets, motion=motion).findings
    assert "with its reverse" in finding.text


def test_a_radar_whose_angles_are_in_another_unit_sees_no_motion(drive):
    """Degrees below 360 / 57 can be radians as well: only Doppler tells."""

    def doppler(sweep, unit):
        points = sweep.points.copy()
        distance, azimuth = np.hypot(*points[:, :2].T), np.arctan2(points[:, 1], points[:, 0])
        rays = np.stack([np.cos(azimuth), np.sin(azimuth)], 1)
        radial = (points[:, 6:8] * rays).sum(1)
        rays = np.stack([np.cos(azimuth * unit), np.sin(azimuth * unit)], 1)
        points[:, :2] = distance[:, None] * rays
        points[:, 6:8] = points[:, 8:10] = radial[:, None] * rays
        return dataclasses.replace(sweep, points=points, relative=True)

    def sets(unit):
        return [
            dataclasses.replace(
                frame_set,
                images={},
                sweeps={
                    name: tuple(
                        one._replace(item=doppler(one.item, unit if name in odd else 1.0))
                        for one in sweeps
                    )
                    for name, sweeps in frame_set.sweeps.items()
                },
            )
            for frame_set in drive.sets
        ]

    odd = {"RADAR_FRONT", "RADAR_BACK_LEFT"}
    assert drive.check(sets=sets(1.0)).findings == []
    findings = drive.check(sets=sets(180 / np.pi)).findings
    assert {finding.sensor for finding in findings} == odd
    assert all("agree on one motion of the radar" in one.text for one in findings), findings


def _without_raw(sweep):
    points = sweep.points.copy()
    points[:, 6:8] = points[:, 8:10]
    return dataclasses.replace(sweep, points=points)


@pytest.mark.parametrize(
    ("factor", "words"),
    [(0.5, "degrees across|near the middle"), (2.0, "near the middle"), (8.0, "across")],
)
def test_intrinsics_of_another_image_size_are_found(factor, words):
    matrix = np.diag([factor, factor, 1.0]) @ ros_rig.INTRINSICS
    (finding,) = check_intrinsics("CAM_FRONT", matrix, ros_rig.WIDTH, ros_rig.HEIGHT)

    assert re.search(words, finding.text)
    assert check_intrinsics("CAM_FRONT", ros_rig.INTRINSICS, ros_rig.WIDTH, ros_rig.HEIGHT) == []


def test_little_data_gives_no_verdict_and_missing_transforms_cost_no_frame(drive):
    few = drive.check(sets=drive.sets[:3])
    assert not few.done
    assert few.findings == []
    assert few.summary() == f"being checked (3 of {len(drive.sets)} frames)"
    reporter = Reporter()
    check = CalibrationCheck(extrinsics=Calibration(), motion=drive.poses)
    check.watch(drive.sets[0], reporter)
    told = reporter.take()
    assert "known frames: none" in told.new_problems["calibration check"]
    assert told.calibration[0] == "not checked"


def test_doubts_are_told_once_each_with_all_so_far(drive):
    places = SABOTAGE["radars"][0](drive.places)
    calibration = Calibration()
    for sensor, pose in places.items():
        calibration.add("base_link", sensor, pose)
    check = CalibrationCheck(
        extrinsics=calibration, motion=drive.poses, frames=len(drive.sets), share=1
    )
    reporter = Reporter()
    told = []
    for frame_set in [*drive.sets, *drive.sets]:
        check.watch(frame_set, reporter)
        told.append(reporter.take())
    # Each doubt is a kind of problem of its own.
    assert {count for count, _ in told[-1].problems.values()} == {1}
    assert len(told[-1].problems) == len(check.findings) >= 2
    # Places are told with the first frame, and nothing after the last.
    assert len(told[0].calibration[1]) == len(told[0].new_problems) == 2
    last = len(drive.sets) - 1
    assert told[last - 1].calibration != told[last].calibration == told[-1].calibration
    assert told[-1].calibration[0].startswith("looks wrong")


def test_the_check_rests_and_still_follows_neighbouring_frames(drive):
    calibration = Calibration()
    for sensor, pose in drive.places.items():
        calibration.add("base_link", sensor, pose)
    frames = len(drive.sets)
    check = CalibrationCheck(extrinsics=calibration, motion=drive.poses, frames=frames, share=0.2)
    shown, start = 0, time.monotonic()
    while not check.done:
        check.watch(drive.sets[shown % frames], Reporter())
        shown += 1
        assert time.monotonic() < start + 120
    assert shown > 2 * frames  # Most were only passed by.
    assert check.summary().startswith("looks right")
    assert "image motion" in check.summary()


def test_no_frames_is_no_check(drive):
    check = CalibrationCheck(extrinsics=Calibration(), motion=drive.poses, frames=0)
    assert check.done
    assert check.add(drive.sets[0]) == []
    assert check.summary() == "not checked (calibration_check.frames is 0)"


def test_a_picture_without_the_far_road_is_doubted(drive):
    camera = "CAM_FRONT"
    cut = []
    for frame_set in drive.sets:
        stamp, image = frame_set.images[camera]
        matrix = image.intrinsics.copy()
        matrix[1, 2] -= 60  # As if the crop had been taken 60 rows lower.
        image = dataclasses.replace(image, intrinsics=matrix)
        images = {**frame_set.images, camera: Timed(stamp, image)}
        cut.append(dataclasses.replace(frame_set, images=images))
    check = drive.check(sets=cut)
    assert check.summary().startswith("looks wrong")
    texts = [finding.text for finding in check.findings]
    assert any(re.search(r"CAM_FRONT: .* it ends \d+ m away, the road", t) for t in texts), texts


@pytest.mark.parametrize(
    ("pitch", "text"), [(0, ""), (-5, ""), (10, "it ends 19 m away"), (-25, "it shows no road")]
)
def test_what_a_picture_shows_of_the_ground(pitch, text):
    k = np.array([[600.0, 0, 352], [0, 600.0, 56], [0, 0, 1]])
    pose = turned(ros_rig.extrinsics()["CAM_FRONT"], pitch, "y")
    found = check_view("CAM_FRONT", pose, k, 704, 256)
    assert [one.sensor for one in found] == (["CAM_FRONT"] if text else [])
    assert all(text in one.text for one in found), found


def test_a_sensor_that_moves_is_checked_where_it_was(drive) -> None:
    """A mast: where it is at the end of the drive says nothing of the pictures before."""
    turned = geometry.pose([0, 0, 0], geometry.yaw_to_quat_wxyz(0.5))

    class Mast:
        def base_T(self, frame, stamp_ns=None):
            place = drive.places[frame.upper()]
            return turned @ place if stamp_ns is None else place

    check = CalibrationCheck(extrinsics=Mast(), motion=drive.poses, frames=len(drive.sets))
    for frame_set in drive.sets:
        check.add(frame_set)
    assert check.done and check.findings == []


def test_relative_speeds_that_are_called_speeds_over_ground_are_found(drive) -> None:
    def relative(sweep):
        points = sweep.points.copy()
        points[:, RADAR_COMPENSATED] = points[:, RADAR_VELOCITY]
        return dataclasses.replace(sweep, points=points)

    sets = [
        dataclasses.replace(
            one,
            sweeps={
                radar: tuple(Timed(at, relative(sweep)) for at, sweep in recent)
                for radar, recent in one.sweeps.items()
            },
        )
        for one in drive.sets
    ]
    texts = [finding.text for finding in drive.check(sets=sets).findings]
    assert any("RADAR_FRONT: expected speeds over ground, got those of" in one for one in texts)
    assert any("doppler_compensated: false" in one for one in texts)


def test_a_pose_that_jumps_between_two_frames_hinders_no_check(tmp_path) -> None:
    """Frames of cameras alone need no pose from before the jump, their pictures' motion does."""

    def jumps(topic, message, number):
        if topic == "/odom" and stamp_ns(message.header.stamp) > rig_bags.START + 480_000_000:
            message.pose.pose.position.x += 100.0
        if topic not in (*rig_bags.radar_topics(), "/tf"):
            yield topic, message

    told = check_drive.check_bag(rig_bags.write(tmp_path / "bag", jumps), frames=9)
    assert told.check.done and told.troubles == ()


def test_a_frame_that_cannot_be_looked_at_is_not_the_last_one(tmp_path) -> None:
    """Or nothing would be said of the frames before it."""
    sets: list[FrameSet] = []
    with Recording(rig_bags.write(tmp_path / "bag")) as recording:
        for _ in recording.frames(check_drive.IMAGE, look=lambda made, *_: sets.append(made)):
            pass
        table, places = recording.motion, recording.extrinsics
    poses, reporter = PoseBuffer(), Reporter()
    check = CalibrationCheck(extrinsics=places, motion=poses, frames=4, share=1)

    def known() -> None:
        for stamp in table.stamps.tolist():
            poses.add(stamp, table.pose(stamp))

    known()
    for one in sets[4:7]:
        check.watch(one, reporter)
    poses.clear()  # As when the pose jumps while the network computes.
    check.watch(sets[7], reporter)
    assert "no ego pose" in reporter.take().new_problems["calibration check"]
    assert check.summary() == "being checked (3 of 4 frames)"
    known()
    check.watch(sets[8], reporter)
    assert check.done and check.summary().startswith("looks")
