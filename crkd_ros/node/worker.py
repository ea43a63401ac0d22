"""Messages in, detections out, beside the ROS callbacks. No rclpy here.

Callbacks only note messages: images go to decoding threads, and one worker thread turns the newest
complete set into a Frame, detects and publishes. A set that is complete while the network is busy
replaces the one before it, which is counted as skipped.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

from crkd_core.boxes import Detections
from crkd_ros import frames
from crkd_ros.convert import arrays, radar_clouds
from crkd_ros.convert.camera_model import CameraModel, PreparedImage, prepared_image
from crkd_ros.convert.radar_clouds import RadarFieldsConfig
from crkd_ros.motion.poses import EgoMotion, Extrinsics, NoTransform
from crkd_ros.node.health import Health, Latency
from crkd_ros.node.thread_names import name_thread
from crkd_ros.sync.history import Counts
from crkd_ros.sync.synchroniser import FrameSet, Synchronizer

if TYPE_CHECKING:
    from crkd_core.infer.detector import Detector


#: Images that wait for decoding before the oldest is given up: four sets of six.
_DECODING = 24


class _Arrived(NamedTuple):
    """A converted message, or the decoding of one, and when it came (time.monotonic)."""

    at: float
    value: Any


class FrameWorker:
    """One thread that detects, and the threads that decode for it.

    Args:
        detector: called in the worker thread only.
        sync: owned by this object from now on.
        extrinsics: where the sensors sit.
        motion: how the vehicle moves; its own lock guards it.
        publish: takes the detections of a frame and its stamp, in the worker thread.
        finished: takes the stages of a published frame in seconds, and its stamp.
        health: takes counts, and what is wrong with a sensor.
        problem: takes (kind, text) of what went wrong, in any thread.
        decode_threads: threads that decode and resize images.
        radar_fields: what the radars call their fields.
        watch: is shown the messages of each frame after it went out, in the worker thread.
        jumped: is told that the sensors' stamps went back, whatever the ROS clock says.
    """

    def __init__(
        self,
        *,
        detector: Detector,
        sync: Synchronizer,
        extrinsics: Extrinsics,
        motion: EgoMotion,
        publish: Callable[[Detections, int], None],
        finished: Callable[[Mapping[str, float], int], None],
        health: Health,
        problem: Callable[[str, str], None],
        decode_threads: int = 2,
        radar_fields: RadarFieldsConfig | None = None,
        watch: Callable[[FrameSet], None] = lambda frame_set: None,
        jumped: Callable[[], None] = lambda: None,
    ) -> None:
        self._detector, self._sync = detector, sync
        self._watch, self._jumped = watch, jumped
        self._extrinsics, self._motion = extrinsics, motion
        self._publish, self._finished = publish, finished
        self._health, self._problem = health, problem
        self._radar_fields = radar_fields
        self._decoders = ThreadPoolExecutor(
            decode_threads, "decode", initializer=name_thread, initargs=("decode",)
        )
        self._decoding: deque[Future[PreparedImage]] = deque()
        self._wake = threading.Condition()  # Guards the synchroniser, and says it has news.
        self._stopping = False
        self._overflowed = 0
        self._thread = threading.Thread(target=self._work, name="detect", daemon=True)
        self._thread.start()

    def stop(self, patience: float | None = None) -> bool:
        """End the threads; the frame in the network is finished first.

        Args:
            patience: longest wait for that frame in seconds; None: as long as it takes.

        Returns:
            False: it is still in the network.
        """
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join(patience)
        self._decoders.shutdown(cancel_futures=True)
        return not self._thread.is_alive()

    def clear(self) -> None:
        """Forget all messages and the frames they would have made."""
        with self._wake:
            self._sync.clear()

    def counts(self) -> dict[str, Counts]:
        """Per sensor, what happened to its messages so far."""
        with self._wake:
            return copy.deepcopy(self._sync.counts)

    def add_image(
        self,
        camera: str,
        message: Any,
        model: CameraModel,
    ) -> None:
        """Take an image message of a camera."""
        image = self._detector.config.image
        decoding = self._decoders.submit(prepared_image, message, model, image, camera=camera)
        decoding.add_done_callback(functools.partial(self._note_decoded, camera))
        self._decoding.append(decoding)
        while len(self._decoding) > _DECODING:
            # A decoded one cannot be cancelled any more; one that still waits would come too late.
            self._decoding.popleft().cancel()
        self._add(self._sync.add_image, camera, message, decoding)

    def _note_decoded(self, camera: str, decoding: Future[PreparedImage]) -> None:
        """Every broken image counts, also one of a frame that was skipped."""
        error = None if decoding.cancelled() else decoding.exception()
        if error is not None:
            self._health.trouble(camera, "unusable", str(error))

    def add_cloud(self, radar: str, message: Any) -> None:
        """Take a radar's PointCloud2. Raises ConvertError."""
        sweep = radar_clouds.sweep(message, radar=radar, fields=self._radar_fields)
        self._add(self._sync.add_radar, radar, message, sweep)

    def add_pose(self, stamp_ns: int) -> None:
        """Note that ``motion`` now knows the ego motion up to this stamp."""
        with self._wake:
            self._sync.add_pose(stamp_ns)
            self._wake.notify()

    def _add(self, add: Any, sensor: str, message: Any, value: Any) -> None:
        stamp_ns, now = arrays.stamp_ns(message.header.stamp), time.monotonic()
        with self._wake:
            jumps = self._sync.clock_jumps
            taken = add(sensor, stamp_ns, _Arrived(now, value), now=now)
            if self._sync.clock_jumps > jumps:
                self._jumped()
            self._wake.notify()
        if not taken and stamp_ns <= 0:
            self._problem("stamp", f"{sensor}: the header's stamp is zero, message not used")

    def _work(self) -> None:
        name_thread("detect")
        while True:
            try:
                newest = self._newest()
                if newest is None:
                    return
                self._detect(newest)
            except NoTransform as error:
                self._health.dropped()
                for sensor, reason in error.sensors.items():
                    self._health.trouble(sensor, "no transform", reason)
                self._problem("transform", f"frame dropped: {error}")
            # Whatever it was, this frame is lost and the next one may do.
            except Exception as error:
                self._health.dropped()
                self._problem(type(error).__name__, f"frame dropped: {error}")

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
                forgotten, self._overflowed = (
                    self._sync.overflowed - self._overflowed,
                    self._sync.overflowed,
                )
                if skipped := forgotten + max(0, len(ready) - 1):
                    self._health.skipped(skipped)
                if ready:
                    return ready[-1]
                deadline = self._sync.deadline()
                self._wake.wait(None if deadline is None else deadline - time.monotonic())
        return None

    def _detect(self, arrived: FrameSet) -> None:
        """The recipe of one frame, from its messages to the published detections."""
        # The trigger's arrival is the start: a frame is asked for by it, not before.
        trigger = arrived.images.get(arrived.trigger) or arrived.sweeps[arrived.trigger][0]
        latency = Latency(trigger.item.at)
        latency.until_now("wait")
        with latency.stage("images"):
            frame_set = self._decoded(arrived)
        with latency.stage("frame"):
            frame = frames.frame_from_set(
                frame_set,
                extrinsics=self._extrinsics,
                motion=self._motion,
                image=self._detector.config.image,
            )
        # Threads that torch makes for the network inherit the name.
        name_thread("network")
        detections = self._detector(frame)
        name_thread("detect")
        latency.took(self._detector.timing)
        with latency.stage("publish"):
            self._publish(detections, frame.stamp_ns)
        self._finished(latency.finish(), frame.stamp_ns)
        self._watch(frame_set)

    def _decoded(self, arrived: FrameSet) -> FrameSet:
        """The set with images instead of decodings under way; a broken image masks its camera."""
        images = {}
        for camera, image in arrived.images.items():
            try:
                images[camera] = image._replace(item=image.item.value.result())
            except arrays.ConvertError as error:
                self._problem("image", str(error))
            except CancelledError:
                self._problem(
                    "decoding",
                    f"{camera}: images come faster than they are decoded; raise decode_threads or "
                    "send smaller images",
                )
            # Whatever the decoder says, it is this camera's trouble alone.
            except Exception as error:
                self._problem("image", f"{camera}: {type(error).__name__}: {error}")
        sweeps = {
            radar: tuple(sweep._replace(item=sweep.item.value) for sweep in recent)
            for radar, recent in arrived.sweeps.items()
        }
        return dataclasses.replace(arrived, images=images, sweeps=sweeps)
