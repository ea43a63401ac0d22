"""The worker beside the ROS callbacks: newest set wins, failures cost one frame, it stops."""

from __future__ import annotations

import dataclasses
import threading
import time

import numpy as np
import pytest
import ros_rig
import torch
from model_tiny import TINY, roughen

from crkd_core.config import TemporalConfig
from crkd_core.infer.detector import Detector
from crkd_core.model.build import build_detector
from crkd_core.model.checkpoint import save_weights
from crkd_core.sensors import ANCHOR_CAMERA, CAMERAS
from crkd_ros import frames
from crkd_ros.bags.message_types import make
from crkd_ros.convert import arrays, radar_clouds
from crkd_ros.convert.camera_model import CameraModel, prepared_image
from crkd_ros.motion.pose_buffer import PoseBuffer
from crkd_ros.motion.poses import NoMotion
from crkd_ros.node.health import Health
from crkd_ros.node.latency import STAGES
from crkd_ros.node.threads import Decoders
from crkd_ros.node.weights import WeightsError, load_detector
from crkd_ros.node.worker import FrameWorker
from crkd_ros.parameters.framing import FramingConfig, SyncConfig
from crkd_ros.parameters.node import NodeConfig
from crkd_ros.reporter import Reporter
from crkd_ros.sensors.rig import Rig
from crkd_ros.sync.history import Arrival
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

    def step(self, frame, memory):
        self.frames.append(frame)
        self.entered.release()
        assert self.gate.acquire(timeout=LIMIT)
        return self._detector.step(frame, memory)


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    return Detector(build_detector(TINY), score_threshold=0.05)


class Transforms:
    """Those of node/transforms.py, without a node."""

    def __init__(self, motion) -> None:
        self.extrinsics, self.motion = ros_rig.calibration(), motion
        self.jumps = 0

    def jumped(self, stamp_ns: int, *, from_ns: int) -> None:
        self.jumps += 1


class Outputs:
    """Those of node/outputs.py, without a node."""

    def __init__(self) -> None:
        self.published: list = []

    def wanted(self) -> bool:
        return True

    def publish(self, detections, stamp_ns, segments) -> None:
        self.published.append((stamp_ns, detections))

    def timed(self, stages, stamp_ns):
        return stages


class Check:
    """Notes what it is shown, and whether that frame had gone out."""

    def __init__(self, outputs: Outputs) -> None:
        self._outputs = outputs
        self.watched: list = []

    def watch(self, frame_set, reporter) -> None:
        self.watched.append((frame_set, len(self._outputs.published)))


class Bench:
    """A worker and all that it said."""

    def __init__(self, detector, motion=None) -> None:
        self.outputs, self.reporter = Outputs(), Reporter()
        self.published = self.outputs.published
        self.check = Check(self.outputs)
        self.transforms = Transforms(NoMotion() if motion is None else motion)
        self.decoders = Decoders(2)
        self.rig = Rig(
            FramingConfig(sync=SyncConfig(wait=0.0)),
            image=detector.config.image,
            topics={},
            defer=self.decoders.defer,
        )
        for camera in self.rig.cameras.values():
            camera.model = CAMERA
        self.health = Health(self.reporter, name="n", hardware="h")
        self.worker = FrameWorker(
            detector=detector,
            rig=self.rig,
            transforms=self.transforms,
            outputs=self.outputs,
            check=self.check,
            reporter=self.reporter,
        )

    def close(self) -> None:
        self.worker.stop()
        self.decoders.close()

    def add(self, sensor, message) -> None:
        stamp = arrays.stamp_ns(message.header.stamp)
        item = self.rig.sensors[sensor].item(message)
        self.worker.add(sensor, Arrival(stamp, time.monotonic()), item)

    def image(self, camera, stamp, **options) -> None:
        self.add(camera, ros_rig.compressed_image(make, camera, stamp, **options))

    def told(self) -> dict[str, str]:
        """Every problem so far: kind -> the last text."""
        return {kind: text for kind, (_, text) in self.reporter.take().problems.items()}

    def values(self, aspect: str) -> dict[str, str]:
        report = self.health.diagnostics(
            make, stamp_ns=1, sensors=self.rig.healths, listeners=True
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
        bench.close()
        assert not [t for t in threading.enumerate() if t.name.startswith(("detect", "decode"))]


def wait_until(condition) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_messages_become_the_detections_of_their_frame(start, detector):
    bench = start(detector)
    cloud = ros_rig.radar_cloud(make, "RADAR_FRONT", START)
    bench.add("RADAR_FRONT", cloud)
    bench.image(ANCHOR_CAMERA, START)
    wait_until(lambda: bench.published)
    (stamp, found), *more = bench.published
    assert (stamp, more) == (START, [])

    message = ros_rig.compressed_image(make, ANCHOR_CAMERA, START)
    image = prepared_image(message, CAMERA, TINY.image, camera=ANCHOR_CAMERA)
    sync = Synchronizer()
    arrival = Arrival(START, 0.0)
    sync.add("RADAR_FRONT", arrival, radar_clouds.sweep(cloud, radar="RADAR_FRONT"))
    sync.add(ANCHOR_CAMERA, arrival, image)
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
    assert bench.told() == {}


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
    ((kind, text),) = bench.told().items()
    assert kind == "image"
    assert "CAM_FRONT: format 'jpeg': expected a JPEG" in text
    assert bench.values("CAM_FRONT")["unusable"] == "1"


def test_images_faster_than_decoding_are_bounded_and_the_newest_kept(start, detector):
    slow = Gated(detector)
    bench = start(slow)
    bench.decoders._pool.submit(time.sleep, 0.3)
    bench.decoders._pool.submit(time.sleep, 0.3)
    for index in range(60):
        bench.image("CAM_FRONT", START - (60 - index) * 1_000_000, seed=1)
    bench.image(ANCHOR_CAMERA, START + 20_000_000)
    slow.gate.release(100)
    wait_until(lambda: bench.published and bench.published[-1][0] == START + 20_000_000)
    decodings = [image._decoding for image in bench.decoders._recent]
    assert not any(decoding is not None and decoding.cancelled() for decoding in decodings)
    assert len(decodings) <= 24
    assert slow.frames[-1].camera_present.sum() == 2


def test_a_frame_without_its_ego_pose_is_dropped_and_the_next_one_is_not(start, detector):
    motion = PoseBuffer()
    bench = start(detector, motion)
    bench.image(ANCHOR_CAMERA, START)
    wait_until(lambda: "MotionError" in bench.told())
    assert "frame dropped: no ego pose was received yet" in bench.told()["MotionError"]
    assert bench.published == []
    for stamp in (START, START + 100_000_000):
        motion.add(stamp, ros_rig.map_T_base(stamp))
        bench.worker.add_pose(stamp)
    bench.image(ANCHOR_CAMERA, START + 100_000_000)
    wait_until(lambda: bench.published)
    assert list(bench.values("frames").values()) == ["1", "0", "1"]


@pytest.mark.parametrize(("stamp", "seconds"), [(0, "0.000"), (-5_000_000_000, "-5.000")])
def test_stamps_that_are_none_are_a_problem_that_names_the_sensor(start, detector, stamp, seconds):
    bench = start(detector)
    bench.image("CAM_FRONT", stamp)
    text = f"the header's stamp is zero or negative ({seconds} s), message not used"
    assert bench.told() == {"stamp": f"CAM_FRONT: {text}"}
    assert bench.rig.cameras["CAM_FRONT"].history.counts.zero_stamp == 1


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
    bench.add("RADAR_FRONT", ros_rig.radar_cloud(make, "RADAR_FRONT", START))
    bench.image(ANCHOR_CAMERA, START)
    wait_until(lambda: bench.check.watched)
    ((seen, published),) = bench.check.watched
    assert published == 1
    assert seen.stamp_ns == START
    assert seen.images[ANCHOR_CAMERA].item.pixels.shape[2] == 3
    assert len(seen.sweeps["RADAR_FRONT"][0].item.points) == 40
    assert bench.transforms.jumps == 0


def test_stamps_that_go_back_are_told(start, detector):
    bench = start(detector)
    for camera in CAMERAS:
        bench.image(camera, START)
    for stamp in range(START - 60 * 10**9, START - 59 * 10**9, 83_333_333):
        for camera in CAMERAS:
            bench.image(camera, stamp)
    wait_until(lambda: bench.transforms.jumps)
    assert bench.transforms.jumps == 1
    assert bench.told()["clock"].startswith("the sensors' stamps went back")


class Recorded:
    """A real detector that keeps the Frames it was shown."""

    def __init__(self, detector: Detector) -> None:
        self._detector, self.config, self.frames = detector, detector.config, []

    @property
    def timing(self):
        return self._detector.timing

    def step(self, frame, memory):
        self.frames.append(frame)
        return self._detector.step(frame, memory)


class Standing(NoMotion):
    """A vehicle that stands somewhere on a map."""

    def pose(self, stamp_ns):
        return np.eye(4)


def test_the_worker_remembers_as_offline_and_forgets_when_it_is_cleared(start):
    """Same boxes as Frame after Frame outside; after a pause as if there were no past."""
    torch.manual_seed(0)
    config = dataclasses.replace(TINY, temporal=TemporalConfig(frames=1))
    detector = Detector(roughen(build_detector(config)).eval(), score_threshold=0.05)
    recorded = Recorded(detector)
    bench = start(recorded, Standing())
    second = 1_000_000_000

    def shown(stamp):
        count = len(bench.published)
        bench.image(ANCHOR_CAMERA, stamp)
        wait_until(lambda: len(bench.published) > count)
        return bench.published[-1][1]

    found = [shown(START + index * second) for index in range(3)]
    memory, want = None, []
    for frame in recorded.frames:
        boxes, memory = detector.step(frame, memory)
        want.append(boxes)
    for ours, theirs in zip(found, want, strict=True):
        np.testing.assert_array_equal(ours.center, theirs.center)
    alone = detector(recorded.frames[2])
    assert len(alone) != len(found[2]) or not np.array_equal(alone.score, found[2].score)
    bench.worker.clear()
    found.append(shown(START + 3 * second))
    np.testing.assert_array_equal(found[3].score, detector(recorded.frames[3]).score)
