"""Conversion keeps what a message says itself, whatever the topics' names look like."""

from __future__ import annotations

import command_lines
import cv2
import numpy as np
import other_sensors
import pytest
import rig_bags
import ros_rig
import yaml
from camera_messages import LENSES, mosaic, raw
from rig_bags import IMAGE

from crkd_core.data.radar import to_records
from crkd_core.sensors import CAMERAS
from crkd_ros.bags.foreign.conversion import convert_bag
from crkd_ros.bags.foreign.kinds import Kind
from crkd_ros.bags.frames import BagProblem, Recording
from crkd_ros.bags.info import describe
from crkd_ros.bags.message_types import make
from crkd_ros.bags.reader import read_bag, topics_of
from crkd_ros.convert.radar_clouds import RadarFieldsConfig
from crkd_ros.parameters import configuration
from crkd_ros.parameters.framing import FramingConfig

D = LENSES["plumb_bob"]


def frames(path, **options):
    problems: list[BagProblem] = []
    with Recording(path, framing=FramingConfig(**options)) as recording:
        found = list(recording.frames(IMAGE, problems=problems))
    assert problems == []
    return found


def same(mine, theirs) -> None:
    assert [frame.stamp_ns for frame in mine] == [frame.stamp_ns for frame in theirs]
    for one, two in zip(mine, theirs, strict=True):
        for a, b in zip(one.images, two.images, strict=True):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(one.intrinsics, two.intrinsics)
        np.testing.assert_allclose(one.radar, two.radar, atol=1e-5)


def raw_and_distorted(prefix: str, capitals: bool):
    """Cameras of one's own, called as converters of nuScenes call theirs."""

    def change(topic, message, number):
        parts = topic.split("/")
        name = parts[1].upper() if capitals else parts[1]
        if topic.endswith("camera_info"):
            message.d, message.distortion_model = np.array(D), "plumb_bob"
            yield f"{prefix}/{name}/camera_info", message
        elif topic.startswith("/cam"):
            image = raw(make, "rgb8", ros_rig.pixels(number), width=ros_rig.WIDTH)
            image.header = message.header
            yield f"{prefix}/{name}/image_raw", image
        else:
            yield f"{prefix}/{name}" if topic.startswith("/radar") else topic, message

    return change


@pytest.mark.parametrize(
    ("prefix", "capitals", "kind"),
    [("/nuscenes", False, Kind.CHRIS7462), ("", True, Kind.WATONOMOUS), ("", False, Kind.ROS2)],
)
def test_a_guess_that_the_content_contradicts_does_not_win(
    prefix, capitals, kind, tmp_path
) -> None:
    bag = rig_bags.write(tmp_path / "bag", raw_and_distorted(prefix, capitals), seconds=0.4)
    done = convert_bag(bag, tmp_path / "out", image_format="png", progress=False)
    assert done.kind is kind
    topics = topics_of(tmp_path / "out")
    assert "/cam_back/image_raw/compressed" in topics
    for record in read_bag(tmp_path / "out", topics=["/cam_back/camera_info"]):
        np.testing.assert_array_equal(record.message().d, D)
    same(frames(bag), frames(tmp_path / "out"))


def test_everything_that_a_camera_info_says_is_kept(tmp_path) -> None:
    """Binning, a window, the rotation of a stereo pair, a lens of another model."""
    turn = cv2.Rodrigues(np.array([0.0, 0.02, 0.0]))[0]
    wanted = {
        "/cam_front": {"binning_x": 2, "binning_y": 2, "width": 640, "height": 360},
        "/cam_back": {"d": np.zeros(4), "distortion_model": "equidistant"},
        "/cam_back_left": {
            "d": np.array(LENSES["rational_polynomial"]),
            "distortion_model": "rational_polynomial",
        },
        "/cam_back_right": {
            "r": turn.ravel(),
            "p": np.c_[ros_rig.INTRINSICS * 1.1, np.zeros(3)].ravel(),
        },
    }
    wanted["/cam_back_right"]["p"][10] = 1.0

    def change(topic, message, number):
        camera = f"/{topic.split('/')[1]}"
        if topic.endswith("camera_info"):
            for name, value in wanted.get(camera, {}).items():
                setattr(message, name, value)
        name = topic.replace("/cam", "/nuscenes/cam")
        if camera == "/cam_back_right":
            name = name.replace("image_rect_compressed", "image_rect/compressed")
        elif camera in wanted:
            name = name.replace("image_rect_compressed", "image_raw/compressed")
        yield name, message

    bag = rig_bags.write(tmp_path / "bag", change, seconds=0.4)
    done = convert_bag(bag, tmp_path / "out", progress=False)
    assert done.kind is Kind.CHRIS7462
    for camera, fields in wanted.items():
        (first, *_) = read_bag(tmp_path / "out", topics=[f"{camera}/camera_info"])
        for name, value in fields.items():
            np.testing.assert_array_equal(getattr(first.message(), name), value)
    topics = topics_of(tmp_path / "out")
    assert "/cam_back/image_raw/compressed" in topics, "an ideal fisheye is not rectified"
    assert "/cam_front_left/image_rect_compressed" in topics
    same(frames(bag), frames(tmp_path / "out"))


def test_the_format_of_compressed_images_is_kept(tmp_path) -> None:
    def change(topic, message, number):
        if topic == "/cam_front/image_rect_compressed":
            done, data = cv2.imencode(".png", mosaic(ros_rig.pixels(number), "rggb"))
            assert done
            message.data, message.format = data.ravel(), "bayer_rggb8; png compressed "
        yield topic, message

    bag = rig_bags.write(tmp_path / "bag", change, seconds=0.4)
    convert_bag(bag, tmp_path / "out", kind=Kind.ROS2, progress=False)
    same(frames(bag), frames(tmp_path / "out"))
    front = frames(bag)[0].images[CAMERAS.index("CAM_FRONT")]
    assert np.ptp(front.astype(int), axis=2).max() > 30, "grey would be the mosaic itself"


MAKERS = {
    "View-of-Delft": (
        ("x", "y", "z", "RCS", "v_r", "v_r_compensated", "time"),
        RadarFieldsConfig(rcs="RCS", doppler="v_r_compensated", doppler_compensated=True),
    ),
    "polar": (
        ("range", "azimuth", "elevation", "doppler", "snr"),
        RadarFieldsConfig(
            range="range", azimuth="azimuth", elevation="elevation", rcs="", doppler="doppler"
        ),
    ),
    "more than nuScenes": (("noise",), RadarFieldsConfig()),
}


@pytest.mark.parametrize("maker", MAKERS)
def test_radars_of_other_makers_are_copied_and_mapped_alike(maker, tmp_path) -> None:
    names, fields = MAKERS[maker]

    def change(topic, message, number):
        if topic.startswith("/radar"):
            native = to_records(ros_rig.radar_points(number))
            if "x" in names or "range" in names:
                records = np.zeros(len(native), [(name, "<f4") for name in names])
                for place, name in enumerate(names):
                    records[name] = np.abs(native["x"] + place) * 0.02 + 0.1
            else:
                records = np.zeros(len(native), [*native.dtype.descr, ("noise", "<f4")])
                for name in native.dtype.names:
                    records[name] = native[name]
                records["noise"] = 7.5
            head = message.header
            message = ros_rig.cloud(make, head.frame_id, 1, records)
            message.header = head
        yield topic, message

    bag = rig_bags.write(tmp_path / "bag", change, seconds=0.4)
    done = convert_bag(bag, tmp_path / "out", kind=Kind.ROS2, progress=False)
    clouds = [
        {
            (r.topic, r.stamp_ns): r.message()
            for r in read_bag(path, topics=rig_bags.radar_topics())
        }
        for path in (bag, tmp_path / "out")
    ]
    assert clouds[0].keys() == clouds[1].keys()
    for key, mine in clouds[0].items():
        theirs = clouds[1][key]
        assert bytes(mine.data) == bytes(theirs.data)
        assert [f.name for f in mine.fields] == [f.name for f in theirs.fields]
    same(frames(bag, radar_fields=fields), frames(tmp_path / "out", radar_fields=fields))
    if maker != "more than nuScenes":
        for sentences in (done.notes, describe(bag, progress=False).chosen):
            (said,) = [one for one in sentences if "radar_fields" in one]
            assert said.startswith("radar_front, radar_front_left, ") and "--params FILE" in said
        told = FramingConfig(radar_fields=fields)
        assert not any(
            "radar_fields" in one for one in describe(bag, framing=told, progress=False).chosen
        )


def test_radars_of_two_makers_on_one_vehicle(tmp_path) -> None:
    def change(topic, message, number):
        if topic in ("/radar_front", "/radar_back_left"):
            for field in message.fields:
                field.name = {"rcs": "RCS", "vx_comp": "u", "vy_comp": "w"}.get(
                    field.name, field.name
                )
        yield topic, message

    plain = rig_bags.write(tmp_path / "plain", seconds=0.4)
    bag = rig_bags.write(tmp_path / "bag", change, seconds=0.4)
    own = {"rcs": "RCS", "vx_comp": "u", "vy_comp": "w"}
    given = {
        f"radar_fields.{radar}.{leaf}": name
        for radar in ("RADAR_FRONT", "RADAR_BACK_LEFT")
        for leaf, name in own.items()
    }
    told = configuration.build(FramingConfig, given)
    convert_bag(bag, tmp_path / "out", kind=Kind.ROS2, framing=told, progress=False)
    for path in (bag, tmp_path / "out"):
        same(frames(plain), frames(path, radar_fields=told.radar_fields))
        found = describe(path, framing=told, progress=False)
        assert not found.foreign and not any("radar_fields" in one for one in found.chosen)
        (said,) = [one for one in describe(path, progress=False).chosen if "radar_fields" in one]
        assert said.startswith("radar_front, radar_back_left: radar cloud lacks rcs")
        assert "radar_fields.RADAR_FRONT.* those of this radar alone" in said


def test_the_commands_take_the_mapping(tmp_path) -> None:
    other_sensors.write_bag(tmp_path / "bag")
    fields = {"rcs": "RCS", "doppler": "Doppler"}
    params = tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump({"/**": {"ros__parameters": {"radar_fields": fields}}}))
    for verb in (("info", tmp_path / "bag"), ("convert", tmp_path / "bag", tmp_path / "out")):
        told = command_lines.run("bag:app", *verb, "--params", params)
        assert told.returncode == 0 and "radar_fields" not in told.stdout, told.stderr
    shown = command_lines.run("bag:app", "info", tmp_path / "bag")
    assert "perhaps radar_fields: {rcs: RCS, doppler: Doppler}" in shown.stdout


def test_what_no_detector_reads_is_named(tmp_path) -> None:
    def change(topic, message, number):
        yield topic, message
        if topic == "/odom":
            yield "/imu/data", make("sensor_msgs/msg/Imu", header=message.header)

    bag = rig_bags.write(tmp_path / "bag", change, seconds=0.3)
    done = convert_bag(bag, tmp_path / "out", kind=Kind.ROS2, progress=False)
    (note,) = [one for one in done.notes if one.startswith("left out")]
    assert "/imu/data (Imu, " in note
