"""The real node in its own process, and the test's side of the conversation over DDS."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import rclpy
import ros_rig
import yaml
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, QoSReliabilityPolicy

from crkd_core.sensors import ANCHOR_CAMERA
from crkd_ros.convert import arrays, ros_packages

#: Private, and unlike the default and the other tests' of this process.
DOMAIN = 1 + (int(os.environ["ROS_DOMAIN_ID"]) + 33) % 100
#: For a machine that is busy with other things; nothing waits this long on a quiet one.
LIMIT = 120.0
START = 1_700_000_000_000_000_000
ANCHOR = f"/{ANCHOR_CAMERA.lower()}/image_rect_compressed"
NAME = "/detector_node"
#: From the first camera of a turn to its last, nanoseconds.
TURN = round(max(ros_rig.PHASES.values()) * 1e9) + 1

_TRANSITIONS = {
    "configure": Transition.TRANSITION_CONFIGURE,
    "activate": Transition.TRANSITION_ACTIVATE,
    "deactivate": Transition.TRANSITION_DEACTIVATE,
    "cleanup": Transition.TRANSITION_CLEANUP,
    "shutdown": Transition.TRANSITION_UNCONFIGURED_SHUTDOWN,
}


PLAIN = "import sys; from crkd_ros.node.detector_node import main; sys.exit(main())"


SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "detector_node"
#: As `ros2 run` starts it: the executable of lib/crkd_ros, which then says that it has begun.
AS_ROS2_RUN = f"""
import runpy, sys
from crkd_ros.signals import die_by_them
die_by_them()
print("begun", flush=True)
runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
"""


def segments(pid: int) -> set[Path]:
    """The files of shared memory that a process has made and holds locked, of Fast DDS.

    Each participant has some, from its start to its end.
    """
    held = Path(f"/proc/{pid}/fd").iterdir()
    found = []
    for link in held:
        with contextlib.suppress(OSError):  # It has just been closed.
            found.append(link.readlink())
    return {path for path in found if "fastrtps" in path.name}


class Process:
    """A node's process and its output.

    Args:
        arguments: after ``--ros-args``.
        log: where its output goes.
        code: what it runs.
    """

    def __init__(self, *arguments: str, log: Path, code: str = PLAIN) -> None:
        environment = {
            **os.environ,
            "ROS_DOMAIN_ID": str(DOMAIN),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
            "OMP_NUM_THREADS": "1",
        }
        self._log = log
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code, "--ros-args", *arguments],
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def output(self) -> str:
        return self._log.read_text()

    def check(self) -> None:
        if self._process.poll() is not None:
            pytest.fail(f"the node ended ({self._process.returncode}): {self.output()}")

    def end(self) -> int:
        """Wait for the end. -> exit code"""
        return self._process.wait(LIMIT)

    def interrupt(self, number: int = signal.SIGINT, *, again: bool = False) -> float:
        """Send a signal, perhaps twice, and wait. -> seconds until the process was gone"""
        begun = time.monotonic()
        self._process.send_signal(number)
        if again:
            time.sleep(0.1)
            self._process.send_signal(number)
        self._process.wait(LIMIT)
        return time.monotonic() - begun

    def pester(self, number: int) -> int:
        """Send a signal again and again until the process is gone. -> exit code"""
        deadline = time.monotonic() + LIMIT
        while self._process.poll() is None and time.monotonic() < deadline:
            self._process.send_signal(number)
            time.sleep(0.02)
        return self.end()

    def segments(self) -> set[Path]:
        """See ``segments``."""
        return segments(self._process.pid)

    def kill(self) -> None:
        """End it, in good order if it will: what is killed leaves its shared memory behind."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(10.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()


class Peer:
    """Publishers, subscriptions and clients of the test's own node, which talks to a process."""

    def __init__(self, process: Process) -> None:
        self._process = process
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context, domain_id=DOMAIN)
        self.node = rclpy.create_node("test_peer", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._closing = False
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()
        self._publishers: dict[str, object] = {}
        self._reports: list = []
        self._heard: list = []
        self.listen("diagnostic_msgs/msg/DiagnosticArray", "/diagnostics", self._reports)

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            while not self._closing and self._context.ok():
                # What a test destroys just now may be waited for.
                with contextlib.suppress(rclpy_implementation.InvalidHandle):
                    self._executor.spin()

    def close(self) -> None:
        self._closing = True
        self._executor.shutdown()
        self._thread.join()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)

    def listen(self, type_name: str, topic: str, received: list | None = None) -> list:
        """Subscribe. -> the list that messages are appended to"""
        received = [] if received is None else received
        kind = ros_packages.message_class(type_name)
        deep = QoSProfile(depth=1000)
        self._heard.append(self.node.create_subscription(kind, topic, received.append, deep))
        return received

    def deafen(self) -> None:
        """End all subscriptions but that of the diagnostics."""
        while len(self._heard) > 1:
            self.node.destroy_subscription(self._heard.pop())

    def advertise(self, events, *, best_effort: tuple[str, ...] = ()) -> None:
        """Make the publishers of (topic, message) pairs, reliable but for some."""
        for topic, message in events:
            if topic not in self._publishers:
                profile = QoSProfile(depth=1000)
                if topic in best_effort:
                    profile.reliability = QoSReliabilityPolicy.BEST_EFFORT
                kind = type(message)
                self._publishers[topic] = self.node.create_publisher(kind, topic, profile)

    def withdraw(self, topic: str) -> None:
        self.node.destroy_publisher(self._publishers.pop(topic))

    def publish(self, topic: str, message) -> None:
        self._publishers[topic].publish(message)

    def matched(self, *but: str) -> bool:
        """Whether the node subscribes to every topic but some."""
        publishers = [p for topic, p in self._publishers.items() if topic not in but]
        return all(publisher.get_subscription_count() for publisher in publishers)

    def unmatched(self) -> bool:
        return not any(p.get_subscription_count() for p in self._publishers.values())

    def call(self, kind, service: str, request):
        """The answer of one of the node's services."""
        client = self.node.create_client(kind, f"{NAME}/{service}")
        try:
            wait_until(client.service_is_ready, self._process)
            future = client.call_async(request)
            wait_until(future.done, self._process)
            return future.result()
        finally:
            self.node.destroy_client(client)

    def change(self, transition: str) -> bool:
        """Ask for a transition of the lifecycle. -> whether it succeeded"""
        request = ChangeState.Request(transition=Transition(id=_TRANSITIONS[transition]))
        return self.call(ChangeState, "change_state", request).success

    def state(self) -> str:
        return self.call(GetState, "get_state", GetState.Request()).current_state.label

    def set(self, **parameters) -> str:
        """Set parameters; ``sync__wait`` is sync.wait. -> "" or why it was refused"""
        changes = [
            Parameter(name.replace("__", "."), value=value).to_parameter_msg()
            for name, value in parameters.items()
        ]
        request = SetParameters.Request(parameters=changes)
        results = self.call(SetParameters, "set_parameters", request).results
        return "; ".join(result.reason or "refused" for result in results if not result.successful)

    def status(self, aspect: str):
        """(message, values) of an aspect in the newest report; empty where there is none."""
        for report in self._reports[-1:]:
            for status in report.status:
                if status.name == f"{NAME}: {aspect}":
                    return status.message, {pair.key: pair.value for pair in status.values}
        return "", {}

    def reports(self) -> int:
        return len(self._reports)

    def stamp_ns(self) -> int:
        """Of the newest report."""
        return stamp_of(self._reports[-1])


def wait_until(condition, process: Process) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        process.check()
        # A machine that only tells which tests failed should say why, too.
        assert time.monotonic() < deadline, f"nothing came in time; {process.output()[-2000:]}"
        time.sleep(0.01)


def stamp_of(message) -> int:
    return arrays.stamp_ns(message.header.stamp)


def parameter_file(folder: Path, **values) -> Path:
    """Of a vehicle of ros_rig, its topics reliable: nothing is lost, however busy the machine."""
    ros_rig.calibration().save(folder / "calibration.yaml")
    topics = {topic for topic, _ in ros_rig.drive(ros_packages.make, START, 0.1)}
    values = {
        "calibration_file": str(folder / "calibration.yaml"),
        "qos_overrides": {
            topic: {"subscription": {"reliability": "reliable", "depth": 1000}}
            for topic in sorted(topics)
        },
        **values,
    }
    path = folder / "parameters.yaml"
    path.write_text(yaml.safe_dump({"/**": {"ros__parameters": values}}))
    return path


class Bench:
    """A lifecycle node in its process, and a peer that talks to it; made anew by ``fresh``."""

    def __init__(self, folder: Path, **values) -> None:
        path = parameter_file(folder, autostart=False, **values)
        self.weights = values.get("weights")
        self.process = Process("--params-file", str(path), log=folder / "log")
        self.peer = Peer(self.process)
        self.boxes: list = []

    def close(self) -> None:
        self.process.kill()
        self.peer.close()

    def wait(self, condition) -> None:
        wait_until(condition, self.process)

    def fresh(self, **parameters) -> None:
        """Configure and activate the node, with nothing left of what was before."""
        assert self.peer.set(**parameters) == ""
        assert self.peer.change("configure"), self.process.output()
        assert self.peer.change("activate"), self.process.output()

    def back(self) -> None:
        """To unconfigured, from wherever it is, with nobody listening."""
        self.peer.deafen()
        if self.peer.state() == "active":
            self.peer.change("deactivate")
        # Or the publishers would take the old subscriptions, of which they have not yet heard that
        # they ended, for those to come, and what they send would reach nobody.
        self.wait(self.peer.unmatched)
        if self.peer.state() == "inactive":
            self.peer.change("cleanup")

    def hear(self) -> None:
        """Subscribe to the boxes, and wait until the node knows."""
        self.boxes = self.peer.listen("sensor_msgs/msg/PointCloud2", f"{NAME}/boxes")
        known = ("detecting", "waiting", "no detec")
        self.wait(lambda: self.peer.status("frames")[0].startswith(known))

    def answered(self, references: list[int], *, after: int = 0) -> bool:
        """Whether each turn of the cameras has its detections, ``after`` so many messages.

        Where the machine is so busy that a trigger's message is late, another camera's stands in:
        the detections are then of that one's stamp, less than a turn earlier or later.
        """
        stamps = [stamp_of(cloud) for cloud in self.boxes[after:]]
        return all(any(abs(asked - stamp) < TURN for stamp in stamps) for asked in references)

    def play(self, events, *, trigger: str = ANCHOR, since_ns: int = 0) -> list[int]:
        """Publish in order; go on with a new frame only when the last one was answered.

        Args:
            events: (topic, message), in time order.
            trigger: each message of this topic asks for a frame ...
            since_ns: ... from this stamp on.

        Returns:
            The references asked for; each is ``answered``.
        """
        asked: list[int] = []
        before = len(self.boxes)
        for topic, message in events:
            if topic == trigger and stamp_of(message) >= since_ns:
                # By now each sensor has sent something newer than the last reference.
                self._wait_answered(asked[-1:], before)
                asked.append(stamp_of(message))
            self.peer.publish(topic, message)
        self._wait_answered(asked[-1:], before)
        return asked

    def _wait_answered(self, asked: list[int], before: int) -> None:
        try:
            self.wait(lambda: self.answered(asked, after=before))
        except AssertionError as error:
            since = [(stamp_of(cloud) - START) / 1e9 for cloud in self.boxes[before:]]
            wanted = [(stamp - START) / 1e9 for stamp in asked]
            error.add_note(f"asked for {wanted} s, answered {since[-12:]} s")
            error.add_note(str(self.peer.status("frames")))
            raise
