"""One camera and one radar: what they answer to a message, and what they note of it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import ros_rig

from crkd_core import geometry
from crkd_core.config import ImageConfig
from crkd_core.data.crop import horizon_row
from crkd_core.sensors import ANCHOR_CAMERA, RADARS
from crkd_ros import frames
from crkd_ros.bags.message_types import make
from crkd_ros.convert.arrays import ConvertError
from crkd_ros.convert.camera_model import CamerasConfig
from crkd_ros.motion.calibration_file import Calibration, CameraEntry
from crkd_ros.motion.odometry import OdometryMotion
from crkd_ros.motion.poses import NoMotion
from crkd_ros.parameters.framing import FramingConfig
from crkd_ros.parameters.topics import TopicsConfig
from crkd_ros.sensors.rig import Rig
from crkd_ros.sensors.sensor import Camera, NoIntrinsics, WhenUsed
from crkd_ros.sync.history import Arrival

START = 1_700_000_000_000_000_000
IMAGE = ImageConfig(height=32, width=64, zoom=1.1)
SENSORS = ("CAM_FRONT", ANCHOR_CAMERA, "RADAR_FRONT")


def rig(framing: FramingConfig | None = None, **options) -> Rig:
    return Rig(framing or FramingConfig(sensors=SENSORS), image=IMAGE, topics={}, **options)


def info(camera: str, k=ros_rig.INTRINSICS, d=()):
    """Of images that are not rectified where there is distortion."""
    message = ros_rig.camera_info(make, camera, START, k=k.ravel())
    message.p = np.pad(k, ((0, 0), (0, 1))).ravel()
    message.d, message.distortion_model = np.array(d), "plumb_bob"
    return message


def image(camera: str, stamp: int = START, **options):
    return ros_rig.compressed_image(make, camera, stamp, **options)


def figures(sensor) -> dict[str, str]:
    return sensor.health.judge(now=0.0, clock_ns=0, status=None).values


def test_a_rig_has_the_sensors_in_use_and_they_are_the_synchroniser_s():
    found = rig(motion=OdometryMotion(extrinsics=Calibration()))
    assert sorted(found.sensors) == sorted(SENSORS)
    assert sorted(found.healths) == sorted([*SENSORS, "odometry"])
    found.sync.add("RADAR_FRONT", Arrival(START, 0.0), None)
    radar = found.radars["RADAR_FRONT"]
    assert radar.history.newest == Arrival(START, 0.0)
    assert figures(radar)["taken"] == "1"
    assert radar.health.topic == FramingConfig().topic("RADAR_FRONT")
    assert rig().odometry is None


def test_an_image_needs_a_camera_and_keeps_the_one_it_came_with():
    camera = rig().cameras["CAM_FRONT"]
    with pytest.raises(NoIntrinsics, match="CAM_FRONT: no CameraInfo yet, image not used"):
        camera.item(image("CAM_FRONT"))
    camera.on_info(info("CAM_FRONT"))
    before = camera.item(image("CAM_FRONT"))
    k = np.diag([500.0, 500.0, 1.0])
    k[:2, 2] = 160, 90
    camera.on_info(info("CAM_FRONT", k=k))
    after = camera.item(image("CAM_FRONT"))
    assert after().intrinsics[0, 0] == pytest.approx(2 * before().intrinsics[0, 0])
    assert figures(camera)["camera info received"] == "2"


def test_a_camera_info_that_cannot_be_used_costs_images_until_one_that_can():
    calibration = Calibration()
    calibration.add_camera("cam_front", CameraEntry(intrinsics=ros_rig.INTRINSICS))
    bad = info("CAM_FRONT", k=np.full((3, 3), np.nan))
    unknown = info("CAM_FRONT", d=[0.1] * 5)
    unknown.p = np.zeros(12)
    for known, refused in ((None, bad), (calibration, bad), (calibration, unknown)):
        topics = {"CAM_FRONT": "/cam_front/image_rect"}
        framing = FramingConfig(sensors=SENSORS)
        found = Rig(framing, image=IMAGE, topics=topics, calibration=known)
        camera = found.cameras["CAM_FRONT"]
        for _ in range(2):
            camera.on_info(info("CAM_FRONT"))
            camera.item(image("CAM_FRONT"))
            with pytest.raises(ConvertError, match="CameraInfo of 'cam_front': "):
                camera.on_info(refused)
            with pytest.raises(NoIntrinsics, match="image not used, CameraInfo of 'cam_front': "):
                camera.item(image("CAM_FRONT"))


def test_a_camera_info_without_numbers_is_none_where_the_calibration_file_knows_the_camera():
    calibration = Calibration()
    calibration.add_camera("cam_front", CameraEntry(intrinsics=ros_rig.INTRINSICS))
    found = rig(calibration=calibration)
    for name in ("CAM_FRONT", ANCHOR_CAMERA):
        found.cameras[name].on_info(info(name))
    zeros = np.zeros((3, 3))
    found.cameras["CAM_FRONT"].on_info(info("CAM_FRONT", k=zeros))
    found.cameras["CAM_FRONT"].item(image("CAM_FRONT"))
    with pytest.raises(ConvertError, match="not a calibration"):
        found.cameras[ANCHOR_CAMERA].on_info(info(ANCHOR_CAMERA, k=zeros))
    with pytest.raises(NoIntrinsics, match="not a calibration"):
        found.cameras[ANCHOR_CAMERA].item(image(ANCHOR_CAMERA))


def test_without_camera_info_the_calibration_file_knows_the_camera():
    calibration = Calibration()
    entry = CameraEntry(intrinsics=ros_rig.INTRINSICS, image_size=(320, 180))
    calibration.add_camera("cam_front", entry)
    found = rig(calibration=calibration)
    prepared = found.cameras["CAM_FRONT"].item(image("CAM_FRONT"))()
    assert prepared.pixels.shape == (32, 64, 3)
    with pytest.raises(NoIntrinsics):
        found.cameras[ANCHOR_CAMERA].item(image(ANCHOR_CAMERA))


def test_whether_images_are_rectified_is_told_by_the_topic_after_remapping():
    raw = info("CAM_FRONT", d=[0.1] * 5)
    for topic, config, model in (
        ("/cam_front/image_rect", CamerasConfig(), "none"),
        ("/cam_front/image_raw", CamerasConfig(), "plumb_bob"),
        ("/cam_front/image_rect", CamerasConfig(rectified="never"), "plumb_bob"),
        (
            "/cam_front/image_rect",
            CamerasConfig(of_cameras={"CAM_FRONT.rectified": "never"}),
            "plumb_bob",
        ),
        ("/cam_front/image_rect", CamerasConfig(of_cameras={"CAM_BACK.bits": 10}), "none"),
    ):
        framing = FramingConfig(sensors=SENSORS, cameras=config)
        camera = Rig(framing, image=IMAGE, topics={"CAM_FRONT": topic}).cameras["CAM_FRONT"]
        camera.on_info(raw)
        assert camera.model is not None
        assert camera.model.distortion.startswith(model)


def test_a_broken_image_masks_its_camera_and_counts_also_when_no_frame_takes_it():
    waiting: list = []

    def defer(name, decode):
        waiting.append((name, decode))
        return WhenUsed(name, decode)

    found = rig(defer=defer)
    for name, camera in found.cameras.items():
        camera.on_info(info(name))
        broken = {"data": np.zeros(100, np.uint8)} if name == "CAM_FRONT" else {}
        item = camera.item(image(name, **broken))
        found.sync.add(name, Arrival(START, 0.0), item)
    assert [name for name, _ in waiting] == list(found.cameras)
    assert "unusable" not in figures(found.cameras["CAM_FRONT"])
    (frame_set,) = found.sync.flush()
    problems: list[tuple[int, str, str]] = []
    decoded = frames.decoded(frame_set, lambda *problem: problems.append(problem))
    assert list(decoded.images) == [ANCHOR_CAMERA]
    ((stamp, camera, text),) = problems
    assert (stamp, camera) == (START, "CAM_FRONT")
    assert text.startswith("CAM_FRONT: format 'jpeg': expected a JPEG")
    assert figures(found.cameras["CAM_FRONT"])["unusable"] == "1"
    frame = frames.frame_from_set(
        decoded, extrinsics=ros_rig.calibration(), motion=NoMotion(), image=IMAGE
    )
    assert frame.camera_present.sum() == 1


def test_whatever_a_decoder_says_is_its_camera_s_trouble_alone():
    found = rig()

    def fail():
        raise MemoryError("too large")

    found.sync.add(ANCHOR_CAMERA, Arrival(START, 0.0), WhenUsed(ANCHOR_CAMERA, fail))
    (frame_set,) = found.sync.flush()
    problems: list[str] = []
    assert frames.decoded(frame_set, lambda _, camera, text: problems.append(text)).images == {}
    assert problems == [f"{ANCHOR_CAMERA}: MemoryError: too large"]


def test_a_radar_s_fields_are_those_of_the_parameters():
    framing = FramingConfig(sensors=SENSORS)
    cloud = ros_rig.radar_cloud(make, "RADAR_FRONT", START)
    assert len(rig(framing).radars["RADAR_FRONT"].item(cloud).points) == 40
    other = dataclasses.replace(framing.radar_fields, rcs="strength")
    framing = dataclasses.replace(framing, radar_fields=other)
    with pytest.raises(ConvertError, match="RADAR_FRONT: radar cloud lacks strength"):
        rig(framing).radars["RADAR_FRONT"].item(cloud)


def test_topics_are_those_of_the_transport_and_of_each_sensor():
    framing = FramingConfig(
        image_transport="raw",
        topics=TopicsConfig(image_raw="<sensor>/raw", radar="front/<sensor>", odometry="o"),
    )
    assert framing.topic("CAM_BACK") == "cam_back/raw"
    assert framing.info_topic("CAM_BACK") == "cam_back/camera_info"
    assert [framing.topic(radar) for radar in RADARS[:1]] == ["front/radar_front"]
    assert framing.topic("odometry") == "o"
    assert isinstance(rig(framing).sensors["CAM_BACK"], Camera)


def test_a_tilted_camera_keeps_the_far_road_once_its_place_is_known():
    places = Calibration()
    tilt = geometry.pose([0, 0, 0], [np.cos(0.12), 0, np.sin(0.12), 0])
    places.add("base_link", "cam_front", tilt @ ros_rig.extrinsics()["CAM_FRONT"])
    for extrinsics, known in ((places, True), (Calibration(), False), (None, False)):
        camera = rig(extrinsics=extrinsics).cameras["CAM_FRONT"]
        camera.on_info(info("CAM_FRONT"))
        matrix = camera.item(image("CAM_FRONT"))().intrinsics
        up = places.base_T("cam_front")[2, :3]
        assert (horizon_row(matrix, up, IMAGE.width) >= 0) == known
