"""The real node's states over DDS: transitions, refusals, parameters, and its end."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest
import ros_rig
from model_tiny import TINY, saved

pytest.importorskip("rclpy")

import node_rig
from node_rig import NAME, START, wait_until

from crkd_core.model.build import build_detector
from crkd_core.model.checkpoint import save_weights
from crkd_core.presets import preset
from crkd_ros.convert import ros_packages

_INFO_QOS = "qos_overrides./cam_front/camera_info.subscription"


def quick() -> float:
    """Seconds in which a signalled node must be gone: three times those of starting a Python with
    the same libraries, on this machine with what else it does now."""
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", "import rclpy, torch"], check=True)
    return 3.0 * (time.monotonic() - begun)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("weights"))


def drive(seconds: float, *, start: int = START):
    return ros_rig.drive(ros_packages.make, start, seconds)


def test_a_life(weights, tmp_path):
    stray = {f"{_INFO_QOS}.depth".replace("front", "fromt"): 5}
    bench = node_rig.Bench(tmp_path, health={"period": 0.2}, score_threshold=0.0, **stray)
    peer, process = bench.peer, bench.process
    try:
        # Unconfigured: diagnostics come, nothing else is there.
        bench.wait(lambda: peer.reports() > 1)
        assert peer.state() == "unconfigured"
        assert not peer.change("activate")
        assert peer.node.count_publishers(f"{NAME}/boxes") == 0

        # What is missing is said, and the node can be put right without a new process.
        assert not peer.change("configure")
        assert peer.state() == "unconfigured"
        assert "parameter weights is required" in process.output()
        bench.wait(lambda: "unconfigured: parameter weights is" in peer.status("state")[0])
        assert "expected one of fp32, bf16, fp16" in peer.set(precision="int8")
        assert peer.set(weights=str(weights), sync__wait=0.1, motion__source="none") == ""
        assert peer.change("configure"), process.output()
        assert peer.state() == "inactive"

        # Inactive: outputs are advertised, inputs not subscribed to; only some parameters change.
        bench.wait(lambda: peer.node.count_publishers(f"{NAME}/boxes") == 1)
        peer.advertise(drive(0.1))
        assert "sync.wait may change only while the node is unconfigured" in peer.set(
            sync__wait=0.3
        )
        assert peer.set(score_threshold=0.01, sync__wait=0.1) == ""
        seen = peer.reports()
        bench.wait(lambda: peer.reports() > seen + 1)
        assert peer.unmatched()

        # Active, and active again after a pause: it detects.
        for pause in range(2):
            assert peer.change("activate"), process.output()
            bench.wait(lambda: peer.matched("/odom"))
            bench.hear()
            references = bench.play(drive(0.4, start=START + pause * 100_000_000_000))
            assert bench.answered(references)
            assert f"did you mean '{_INFO_QOS}.depth'?" in process.output()
            peer.deafen()
            assert peer.change("deactivate")
            bench.wait(peer.unmatched)
            seen = peer.reports()
            bench.wait(lambda seen=seen: peer.reports() > seen)

        # Cleaned up: nothing is left; parameters are free again.
        assert peer.change("cleanup")
        bench.wait(lambda: peer.node.count_publishers(f"{NAME}/boxes") == 0)
        assert peer.set(weights=str(tmp_path / "none.safetensors")) == ""
        assert not peer.change("configure")
        assert "there is no file" in process.output()
        assert peer.change("shutdown")
        assert peer.state() == "finalized"
        seen = peer.reports()
        bench.wait(lambda: peer.reports() > seen)
        segments = process.segments()
        assert process.interrupt() < quick()
        assert process.end() == 0, process.output()
        assert "Traceback" not in process.output()
        # 35 MB of /dev/shm for each node that ran would fill it in time.
        assert not [path.name for path in segments if path.exists()]
    finally:
        bench.close()


#: A node whose network takes an hour, as C++ does: without answering Python.
SLOW = """
import ctypes, sys
from crkd_ros.node import detector_node, live_detector

load = live_detector.load_detector

class Slow:
    def __init__(self, detector):
        self.detector, self.timing = detector, {}
    def __getattr__(self, name):
        return getattr(self.detector, name)
    def step(self, frame, memory):
        print("in the network", flush=True)
        ctypes.CDLL(None).sleep(3600)
        return self.detector.step(frame, memory)

live_detector.load_detector = lambda config: Slow(load(config))
sys.exit(detector_node.main())
"""


def test_a_signal_ends_the_node_while_the_network_runs(weights, tmp_path):
    path = node_rig.parameter_file(tmp_path, weights=str(weights), motion={"source": "none"})
    process = node_rig.Process("--params-file", str(path), log=tmp_path / "log", code=SLOW)
    peer = node_rig.Peer(process)
    try:
        events = drive(0.3)
        peer.advertise(events)
        peer.listen("sensor_msgs/msg/PointCloud2", f"{NAME}/boxes")
        wait_until(
            lambda: peer.matched("/odom") and peer.status("frames")[0].startswith("waiting"),
            process,
        )
        for topic, message in events:
            peer.publish(topic, message)
        wait_until(lambda: "in the network" in process.output(), process)
        # `ros2 launch` sends the signal a second time when the user's shell has sent it too.
        assert process.interrupt(signal.SIGINT, again=True) < quick()
        assert process.end() == 0, process.output()
        assert "Traceback" not in process.output()
    finally:
        process.kill()
        peer.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_node_while_it_loads(number, weights, tmp_path):
    path = node_rig.parameter_file(tmp_path, weights=str(weights), motion={"source": "none"})
    code = SLOW.replace("load(config)", "print('loading', flush=True) or load(config)")
    process = node_rig.Process("--params-file", str(path), log=tmp_path / "log", code=code)
    try:
        wait_until(lambda: "loading" in process.output(), process)
        assert process.interrupt(number) < quick()
        assert process.end() == 0, process.output()
        assert "Traceback" not in process.output()
    finally:
        process.kill()


#: An import that answers any exception by going on.
STUBBORN = """
import sys, time
from crkd_ros.node import detector_node, live_detector

def load(config):
    print("loading", flush=True)
    try:
        time.sleep(3600)
    except BaseException:
        pass
    time.sleep(3600)

live_detector.load_detector = load
sys.exit(detector_node.main())
"""


def test_an_import_that_swallows_a_signal_does_not_keep_the_node_alive(weights, tmp_path):
    path = node_rig.parameter_file(tmp_path, weights=str(weights), motion={"source": "none"})
    process = node_rig.Process("--params-file", str(path), log=tmp_path / "log", code=STUBBORN)
    try:
        wait_until(lambda: "loading" in process.output(), process)
        assert process.interrupt() < quick()
        assert process.end() == 0, process.output()
    finally:
        process.kill()


def test_a_signal_waits_for_what_an_exception_would_abort(weights, tmp_path):
    path = node_rig.parameter_file(tmp_path, weights=str(weights), motion={"source": "none"})
    code = STUBBORN.replace(
        """    try:
        time.sleep(3600)
    except BaseException:
        pass
    time.sleep(3600)
""",
        """    from crkd_ros.signals import held
    with held():
        until = time.monotonic() + 1
        while time.monotonic() < until:
            time.sleep(0.01)
        print("whole", flush=True)
    time.sleep(3600)
""",
    )
    process = node_rig.Process("--params-file", str(path), log=tmp_path / "log", code=code)
    try:
        wait_until(lambda: "loading" in process.output(), process)
        process.interrupt()
        assert process.end() == 0, process.output()
        assert "whole" in process.output() and "Traceback" not in process.output()
    finally:
        process.kill()


@pytest.mark.parametrize("delay", [0.0, 0.5, 1.0, 2.0, 4.0])
def test_any_number_of_signals_at_any_moment_is_one_clean_end(delay, weights, tmp_path):
    """From the process's first moment on; then until it is gone, its own end included."""
    path = node_rig.parameter_file(tmp_path, weights=str(weights), motion={"source": "none"})
    process = node_rig.Process(
        *("--params-file", str(path)), log=tmp_path / "log", code=node_rig.AS_ROS2_RUN
    )
    try:
        wait_until(lambda: "begun" in process.output(), process)
        time.sleep(delay)
        code = process.pester(signal.SIGINT)
        # Before there is a node to be ended, the signal itself ends the process.
        assert code in (0, -signal.SIGINT), process.output()
        if "active" in process.output():
            assert code == 0, process.output()
        assert "Traceback" not in process.output()
    finally:
        process.kill()


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ((), "parameter weights is required"),
        (("sync.wayt:=0.3",), "did you mean 'sync.wait'?"),
        (("sync.wait:=99.0",), "sync.wait"),
        (("precision:=int8",), "expected one of fp32, bf16, fp16, got 'int8'"),
        (("=",), "Couldn't parse parameter override rule"),
        (("weights:={tmp}/lidar.safetensors",), "weights: demo_lidar reads LiDAR"),
        (
            ("weights:={tmp}/tiny.safetensors", 'topics.radar:="/a b/<sensor>"'),
            "expected the name of a topic, got '/a b/radar_front'",
        ),
        (
            ("weights:={tmp}/tiny.safetensors", f"{_INFO_QOS}.reliability:=foo"),
            "CAM_FRONT: cannot subscribe to /cam_front/camera_info: ",
        ),
        (
            ("weights:={tmp}/tiny.safetensors", f"{_INFO_QOS}.depth:=-3"),
            "expected a depth of 0 or more, got -3",
        ),
        (
            ("weights:={tmp}/tiny.safetensors", f"{_INFO_QOS}.depth:=50.0"),
            "CAM_FRONT: cannot subscribe to /cam_front/camera_info: Trying to set parameter",
        ),
        (("use_sim_time:='true'",), "detector_node: Trying to set parameter 'use_sim_time'"),
    ],
)
def test_wrong_parameters_end_the_node_with_a_message(parameters, text, tmp_path):
    save_weights(build_detector(preset("demo_lidar").detector), tmp_path / "lidar.safetensors")
    save_weights(build_detector(TINY), tmp_path / "tiny.safetensors")
    ros_rig.calibration().save(tmp_path / "calibration.yaml")
    parameters = (f"calibration_file:={tmp_path / 'calibration.yaml'}", *parameters)
    words = [word for parameter in parameters for word in ("-p", parameter.format(tmp=tmp_path))]
    process = node_rig.Process(*words, log=tmp_path / "log")
    try:
        assert process.end() == 1
        assert text in process.output()
        assert "Traceback" not in process.output()
    finally:
        process.kill()
