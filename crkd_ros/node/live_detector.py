"""What a configured node has: weights, transforms, outputs; while active, inputs too."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping

from rclpy.lifecycle import LifecycleNode

from crkd_core.boxes import Detections
from crkd_core.sensors import CAMERAS, RADARS
from crkd_ros.calibration_check.check import CalibrationCheck
from crkd_ros.node.health import Health, TopicStatus
from crkd_ros.node.inputs import Inputs
from crkd_ros.node.latency import pipeline
from crkd_ros.node.latency_topics import LatencyTopics
from crkd_ros.node.outputs import Outputs
from crkd_ros.node.transforms import Transforms
from crkd_ros.node.weights import load_detector, release_detector
from crkd_ros.node.worker import FrameWorker
from crkd_ros.parameters.node import NodeConfig
from crkd_ros.sync.history import Counts
from crkd_ros.sync.stock_policy import make_synchronizer


class LiveDetector:
    """From configuration to clean-up; detects between ``start`` and ``stop``.

    Args:
        node: owns the topics.
        config: its parameters.
        health: takes counts, latencies and what is wrong.
        problem: takes (kind, text) of what the user should know, in any thread.

    Raises:
        WeightsError, MotionError, MessageError, SyncError: what is asked for cannot be had.
    """

    def __init__(
        self,
        node: LifecycleNode,
        *,
        config: NodeConfig,
        health: Health,
        problem: Callable[[str, str], None],
    ) -> None:
        self._node, self._config, self._health, self._problem = node, config, health, problem
        self._worker: FrameWorker | None = None
        self._inputs: Inputs | None = None
        cameras = [name for name in CAMERAS if name in config.sensors]
        radars = [name for name in RADARS if name in config.sensors]
        self._transforms = Transforms(node, config=config, problem=problem)
        try:
            place = self._transforms.place(config.output_frame)
            self._detector = load_detector(config)
            limits = dataclasses.replace(config.sync, sweeps=self._detector.config.radar.sweeps)
            self._sync = make_synchronizer(limits, cameras=cameras, radars=radars)
            self._outputs = Outputs(
                node, config=config, motion=self._transforms.motion, place=place, problem=problem
            )
        except Exception:
            self._transforms.close()
            raise
        self._latency = LatencyTopics(node)
        node.get_logger().info(
            f"ready: {config.weights} on {config.device}, {config.precision}, {len(cameras)} "
            f"cameras, {len(radars)} radars, ego motion {config.motion.source}"
        )

    def start(self) -> None:
        """Subscribe and detect."""
        config, transforms = self._config, self._transforms
        check = CalibrationCheck(
            extrinsics=transforms.extrinsics,
            motion=transforms.motion,
            frames=config.calibration_check.frames,
        )
        self._health.calibrated(check.summary())
        self._worker = FrameWorker(
            detector=self._detector,
            sync=self._sync,
            extrinsics=transforms.extrinsics,
            motion=transforms.motion,
            publish=self._publish,
            finished=self._finished,
            health=self._health,
            problem=self._problem,
            decode_threads=config.decode_threads,
            radar_fields=config.radar_fields,
            watch=functools.partial(
                check.watch, told=self._health.calibrated, problem=self._problem
            ),
            jumped=transforms.jumped,
        )
        try:
            self._inputs = Inputs(
                self._node,
                config=config,
                worker=self._worker,
                extrinsics=transforms.extrinsics,
                motion=transforms.motion,
                wanted=self.wanted,
                health=self._health,
                problem=self._problem,
            )
        except Exception:
            self.stop()
            raise

    def announce(self) -> None:
        """Send what is sent once; the publishers must be active."""
        self._outputs.announce()

    def stop(self, *, patience: float | None = None) -> bool:
        """Unsubscribe and end the threads, after the frame in the network.

        Args:
            patience: longest wait for that frame in seconds; None: as long as it takes.

        Returns:
            False: it is still in the network.
        """
        if self._inputs is not None:
            self._inputs.close()
            self._inputs = None
        stopped = True
        if self._worker is not None:
            stopped = self._worker.stop(patience)
            self._worker = None
            self.forget()
        return stopped

    def close(self) -> None:
        """After ``stop``: withdraw the outputs and free the network."""
        self._outputs.close()
        self._latency.close()
        self._transforms.close()
        del self._detector
        release_detector()

    def configure(self, config: NodeConfig) -> None:
        """Take dynamic parameters that have changed; from the next frame on."""
        self._config = config
        self._detector.score_threshold = config.score_threshold
        self._outputs.configure(config)

    def forget(self) -> None:
        """Nothing received so far belongs to the frames to come: time was set back."""
        if self._worker is not None:
            self._worker.clear()
        else:
            self._sync.clear()
        self._transforms.clear()

    def wanted(self) -> bool:
        """Whether anybody subscribes to detections."""
        return self._outputs.wanted()

    def counts(self) -> dict[str, Counts]:
        """Per sensor, what happened to its messages; empty while inactive."""
        return {} if self._worker is None else self._worker.counts()

    def statuses(self, sensors: Collection[str]) -> dict[str, TopicStatus]:
        """What the ROS graph says of the topics of some sensors; empty while inactive."""
        return {} if self._inputs is None else self._inputs.statuses(sensors)

    def _publish(self, detections: Detections, stamp_ns: int) -> None:
        """In the worker's thread."""
        try:
            self._outputs.publish(detections, stamp_ns)
        except Exception:
            if self._node.context.ok():
                raise  # Otherwise the process is ending, and nobody can publish any more.

    def _finished(self, stages: Mapping[str, float], stamp_ns: int) -> None:
        """A frame went out; in the worker's thread."""
        now_ns = self._node.get_clock().now().nanoseconds
        age = pipeline(stages["total"], now_ns=now_ns, stamp_ns=stamp_ns)
        if age is not None:
            stages = {**stages, "pipeline": age}
        self._health.published(stages)
        if self._node.context.ok():
            self._latency.publish(stages)
