"""The worker beside the ROS callbacks: newest set wins, failures cost one frame, it stops."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import ros_rig
import torch
from model_tiny import TINY

from crkd_core.infer.detector import Detector
from crkd_core.model.build import build_detector
from crkd_core.model.checkpoint import save_weights
from crkd_core.sensors import ANCHOR_CAMERA, CAMERAS, RADARS
from crkd_ros import frames
from crkd_ros.bags.message_types import make
from crkd_ros.convert import radar_clouds
from crkd_ros.convert.camera_model import CameraModel, prepared_image
from crkd_ros.motion.poses import NoMotion, PoseBuffer
from crkd_ros.node.health import STAGES, Health
from crkd_ros.node.weights import WeightsError, load_detector
from crkd_ros.node.worker import FrameWorker
from crkd_ros.parameters.framing import SyncConfig
from crkd_ros.parameters.node import NodeConfig
from crkd_ros.sync.synchroniser import Synchronizer

START = 1_700_000_000_000_000_000
LIMIT = 30.0
CAMERA = CameraModel.pinhole(ros_rig.INTRINSICS, (320, 180))


class Gated:
    """A real detector that waits at a gate before each frame, as a slow network would."""

    def __init__(self, detector: Detector) -> None:
        self._detector, self.config = detector, detector.config
        self.gate, self.entered = threading.Semaphore(0), threading.Semaphore(0)
        self.frames: list = []

    @property
    def timing(self):
        return self._detector.timing

    def __call__(self, frame):
        self.frames.append(frame)
        self.entered.release()
        assert self.gate.acquire(timeout=LIMIT)
        return self._detector(frame)


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    return Detector(build_detector(TINY), score_threshold=0.05)


class Bench:
    """A worker and all that it said."""

    def __init__(self, detector, motion=None) -> None:
        self.published: list = []
        self.problems: list = []
        self.watched: list = []
        self.jumps: list = []
        self.health = Health(name="n", hardware="h")
        self.health.watch(dict.fromkeys(CAMERAS + RADARS, ""))
        self.worker = FrameWorker(
            detector=detector,
            sync=Synchronizer(SyncConfig(wait=0.0)),
            extrinsics=ros_rig.calibration(),
            motion=NoMotion() if motion is None else motion,
            publish=lambda found, stamp: self.published.append((stamp, found)),
            finished=lambda stages, _: self.health.published(stages),
            health=self.health,
            problem=lambda kind, text: self.problems.append((kind, text)),
            watch=self.watched.append,
            jumped=lambda: self.jumps.append(None),
        )

    def image(self, camera, stamp, **options) -> None:
        message = ros_rig.compressed_image(make, camera, stamp, **options)
        self.worker.add_image(camera, message, CAMERA)

    def values(self, aspect: str) -> dict[str, str]:
        report = self.health.diagnostics(
            make, stamp_ns=1, sensors=self.worker.counts(), listeners=True
        )
        (status,) = [s for s in report.status if s.name == f"n: {aspect}"]
        return {pair.key: pair.value for pair in status.values}


@pytest.fixture
def start():
    benches = []

    def begin(*args) -> Bench:
        benches.append(Bench(*args))
        return benches[-1]

    yield begin
    for bench in benches:
        bench.worker.stop()
        assert not [t for t in threading.enumerate() if t.name.startswith(("detect", "decode"))]


def wait_until(condition) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_messages_become_the_detections_of_their_frame(start, detector):
    bench = start(detector)
    cloud = ros_rig.radar_cloud(make, "RADAR_FRONT", START)
    bench.worker.add_cloud("RADAR_FRONT", cloud)
    bench.image(ANCHOR_CAMERA, START)
    wait_until(lambda: bench.published)
    (stamp, found), *more = bench.published
    assert (stamp, more, bench.problems) == (START, [], [])

    message = ros_rig.compressed_image(make, ANCHOR_CAMERA, START)
    image = prepared_image(message, CAMERA, TINY.image, camera=ANCHOR_CAMERA)
    sync = Synchronizer()
    sync.add_radar("RADAR_FRONT", START, radar_clouds.sweep(cloud, radar="RADAR_FRONT"))
    sync.add_image(ANCHOR_CAMERA, START, image)
    (frame_set,) = sync.flush()
    want = detector(
        frames.frame_from_set(
            frame_set, extrinsics=ros_rig.calibration(), motion=NoMotion(), image=TINY.image
        )
    )
    assert len(want) > 0
    np.testing.assert_allclose(found.center, want.center, atol=1e-5)
    latency = bench.values("latency")
    assert {key.split(" mean")[0] for key in latency if " mean" in key} == {
        *(*STAGES, "other", "total")
    }


# More than the images that are kept of a camera, too.
@pytest.mark.parametrize("waiting", [4, 30])
def test_the_newest_set_wins_while_the_network_is_busy(start, detector, waiting):
    slow = Gated(detector)
    bench = start(slow)
    step = 83_333_333
    bench.image(ANCHOR_CAMERA, START)
    assert slow.entered.acquire(timeout=LIMIT)
    before = time.monotonic()
    for index in range(1, 1 + waiting):
        bench.image(ANCHOR_CAMERA, START + index * step)
    # The network stands at the gate all the while: adding did not wait for it.
    assert time.monotonic() - before < LIMIT / 2
    assert len(slow.frames) == 1
    slow.gate.release(2)
    wait_until(lambda: len(bench.published) == 2)
    assert [stamp for stamp, _ in bench.published] == [START, START + waiting * step]
    frames = bench.values("frames")
    assert list(frames.values()) == ["2", str(waiting - 1), "0"]


def test_a_broken_image_masks_its_camera_only(start, detector):
    slow = Gated(detector)
    bench = start(slow)
    bench.image("CAM_FRONT", START - 10_000_000, data=np.zeros(100, np.uint8))
    bench.image("CAM_BACK", START - 9_000_000)
    bench.image(ANCHOR_CAMERA, START)
    slow.gate.release(3)
    wait_until(lambda: bench.published)
    present = slow.frames[-1].camera_present
    assert present.sum() == 2
    assert not present[0]
    ((kind, text),) = bench.problems
    assert kind == "image"
    assert "CAM_FRONT: expected a JPEG" in text
    assert bench.values("CAM_FRONT")["unusable"] == "1"


def test_images_faster_than_decoding_are_bounded_and_the_newest_kept(start, detector):
    slow = Gated(detector)
    bench = start(slow)
    bench.worker._decoders.submit(time.sleep, 0.3)
    bench.worker._decoders.submit(time.sleep, 0.3)
    for index in range(60):
        bench.image("CAM_FRONT", START - (60 - index) * 1_000_000, seed=1)
    bench.image(ANCHOR_CAMERA, START + 20_000_000)
    slow.gate.release(100)
    wait_until(lambda: bench.published and bench.published[-1][0] == START + 20_000_000)
    assert sum(decoding.cancelled() for decoding in bench.worker._decoding) == 0
    assert len(bench.worker._decoding) <= 24
    assert slow.frames[-1].camera_present.sum() == 2


def test_a_frame_without_its_ego_pose_is_dropped_and_the_next_one_is_not(start, detector):
    motion = PoseBuffer()
    bench = start(detector, motion)
    bench.image(ANCHOR_CAMERA, START)
    wait_until(lambda: bench.problems)
    kind, text = bench.problems[0]
    assert kind == "MotionError"
    assert "frame dropped: no ego pose was received yet" in text
    assert bench.published == []
    for stamp in (START, START + 100_000_000):
        motion.add(stamp, ros_rig.map_T_base(stamp))
        bench.worker.add_pose(stamp)
    bench.image(ANCHOR_CAMERA, START + 100_000_000)
    wait_until(lambda: bench.published)
    assert list(bench.values("frames").values()) == ["1", "0", "1"]


def test_zero_stamps_are_a_problem_that_names_the_sensor(start, detector):
    bench = start(detector)
    bench.image("CAM_FRONT", 0)
    assert bench.problems == [("stamp", "CAM_FRONT: the header's stamp is zero, message not used")]
    assert bench.worker.counts()["CAM_FRONT"].zero_stamp == 1


def test_weights_that_cannot_be_used_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="parameter weights is required"):
        load_detector(NodeConfig())
    with pytest.raises(WeightsError, match=r"there is no file .*no\.safetensors"):
        load_detector(NodeConfig(weights=str(tmp_path / "no.safetensors")))
    save_weights(build_detector(TINY), tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="device: expected cpu, cuda"):
        load_detector(NodeConfig(weights=str(tmp_path / "w.safetensors"), device="tpux"))
    config = NodeConfig(weights=str(tmp_path / "w.safetensors"), score_threshold=0.3)
    assert load_detector(config).score_threshold == 0.3


def test_the_messages_of_a_frame_are_shown_after_it_went_out(start, detector):
    bench = start(detector)
    bench.worker.add_cloud("RADAR_FRONT", ros_rig.radar_cloud(make, "RADAR_FRONT", START))
    bench.image(ANCHOR_CAMERA, START)
    wait_until(lambda: bench.watched)
    (seen,) = bench.watched
    assert len(bench.published) == 1
    assert seen.stamp_ns == START
    assert seen.images[ANCHOR_CAMERA].item.pixels.shape[2] == 3
    assert len(seen.sweeps["RADAR_FRONT"][0].item.points) == 40
    assert bench.jumps == []


def test_stamps_that_go_back_are_told(start, detector):
    bench = start(detector)
    for camera in CAMERAS:
        bench.image(camera, START)
    for stamp in range(START - 60 * 10**9, START - 59 * 10**9, 83_333_333):
        for camera in CAMERAS:
            bench.image(camera, stamp)
    wait_until(lambda: bench.jumps)
    assert len(bench.jumps) == 1
