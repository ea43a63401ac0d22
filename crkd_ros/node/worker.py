"""Messages in, detections out, beside the ROS callbacks. No rclpy here.

Callbacks only note messages; one worker thread turns the newest complete set into a Frame, detects
and publishes. A set that is complete while the network is busy replaces the one before it, which
is counted as skipped.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from crkd_ros import frames
from crkd_ros.calibration_check.check import CalibrationCheck
from crkd_ros.motion.poses import NoTransform
from crkd_ros.node.latency import Latency
from crkd_ros.node.threads import name_thread
from crkd_ros.reporter import Reporter
from crkd_ros.sensors.rig import Rig
from crkd_ros.sync.history import Arrival
from crkd_ros.sync.synchroniser import FrameSet

if TYPE_CHECKING:
    from crkd_core.infer.detector import Detector
    from crkd_core.infer.memory import Memory
    from crkd_ros.node.outputs import Outputs
    from crkd_ros.node.transforms import Transforms


class FrameWorker:
    """One thread that detects.

    Args:
        detector: called in the worker thread only.
        rig: the sensors; its synchroniser is this object's from now on.
        transforms: where the sensors sit and how the vehicle moves.
        outputs: take the detections of a frame, in the worker thread.
        check: is shown the messages of each frame after it went out.
        reporter: is told what became of the frames.
    """

    def __init__(
        self,
        *,
        detector: Detector,
        rig: Rig,
        transforms: Transforms,
        outputs: Outputs,
        check: CalibrationCheck,
        reporter: Reporter,
    ) -> None:
        self._detector, self._rig, self._sync = detector, rig, rig.sync
        self._transforms, self._outputs = transforms, outputs
        self._check, self._reporter = check, reporter
        self._wake = threading.Condition()  # Guards the synchroniser, and says it has news.
        self._stopping = self._wanted = self._forget = False
        self._memory: Memory | None = None  # Of the worker thread.
        self._overflowed = 0
        self._thread = threading.Thread(target=self._work, name="detect", daemon=True)
        self._thread.start()

    def stop(self, patience: float | None = None) -> None:
        """End the thread; the frame in the network is finished first.

        Args:
            patience: longest wait for that frame in seconds; None: as long as it takes.
        """
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join(patience)

    def clear(self) -> None:
        """Forget all messages, the frames they would have made, and what the detector saw."""
        with self._wake:
            self._sync.clear()
            # The worker thread may be in the network, and then writes to the memory.
            self._forget = True

    def wanted(self) -> bool:
        """Whether anybody listens; if not, images and clouds need not be touched."""
        before, self._wanted = self._wanted, self._outputs.wanted()
        if self._wanted and not before:
            # What was left from before the pause does not belong to the frames to come.
            self.clear()
        return self._wanted

    def add(self, sensor: str, arrival: Arrival, item: Any) -> None:
        """Take what a camera or radar made of a message."""
        with self._wake:
            jumps = self._sync.clock_jumps
            taken = self._sync.add(sensor, arrival, item)
            jumped = self._sync.clock_jumps > jumps
            if jumped:
                self._transforms.jumped(arrival.stamp_ns, from_ns=self._sync.jumped_from_ns)
            self._wake.notify()
        if jumped:
            text = "the sensors' stamps went back (a bag that loops, a clock that was set): what "
            self._reporter.problem("clock", text + "came before is forgotten")
        if not taken and arrival.stamp_ns <= 0:
            text = f"zero or negative ({arrival.stamp_ns * 1e-9:.3f} s), message not used"
            self._reporter.problem("stamp", f"{sensor}: the header's stamp is {text}")

    def add_pose(self, stamp_ns: int) -> None:
        """Note that the ego motion is now known up to this stamp."""
        with self._wake:
            self._sync.add_pose(stamp_ns)
            self._wake.notify()

    def _work(self) -> None:
        name_thread("detect")
        while True:
            try:
                newest = self._newest()
                if newest is None:
                    return
                self._detect(newest)
            except NoTransform as error:
                self._reporter.dropped()
                for sensor, reason in error.sensors.items():
                    self._rig.healths[sensor].trouble("no transform", reason)
                self._reporter.problem("transform", f"frame dropped: {error}")
            # Whatever it was, this frame is lost and the next one may do.
            except Exception as error:
                self._reporter.dropped()
                self._reporter.problem(type(error).__name__, f"frame dropped: {error}")

    def _newest(self) -> FrameSet | None:
        """Wait for a set that is settled; of several, the newest. None: the end."""
        with self._wake:
            while not self._stopping:
                try:
                    ready = self._sync.take(time.monotonic())
                except Exception:
                    self._sync.clear()  # Or it would fail again at once.
                    raise
                # Sets that nobody took before their images were forgotten are skipped too.
                overflowed, self._overflowed = self._overflowed, self._sync.overflowed
                skipped = self._overflowed - overflowed + max(0, len(ready) - 1)
                if skipped:
                    self._reporter.skipped(skipped)
                if ready:
                    return ready[-1]
                deadline = self._sync.deadline()
                self._wake.wait(None if deadline is None else deadline - time.monotonic())
        return None

    def _broken_image(self, _: int, camera: str, text: str) -> None:
        self._reporter.problem("image", text)

    def _detect(self, undecoded: FrameSet) -> None:
        """The recipe of one frame, from its messages to the published detections."""
        # The trigger's arrival is the start: a frame is asked for by it, not before.
        latency = Latency(undecoded.arrived)
        latency.until_now("wait")
        with latency.stage("images"):
            frame_set = frames.decoded(undecoded, self._broken_image)
        with latency.stage("frame"):
            frame = frames.frame_from_set(
                frame_set,
                extrinsics=self._transforms.extrinsics,
                motion=self._transforms.motion,
                image=self._detector.config.image,
            )
        for name in self._rig.sensors:
            masked = name not in undecoded.images and name not in undecoded.sweeps
            self._rig.healths[name].framed(masked=masked)
        # Threads that torch makes for the network inherit the name.
        name_thread("network")
        if self._forget:
            self._forget, self._memory = False, None
        detections, self._memory = self._detector.step(frame, self._memory)
        name_thread("detect")
        latency.took(self._detector.timing)
        with latency.stage("publish"):
            self._outputs.publish(detections, frame.stamp_ns, lambda: self._detector.segments)
        self._reporter.published(self._outputs.timed(latency.finish(), frame.stamp_ns))
        self._check.watch(frame_set, self._reporter)
