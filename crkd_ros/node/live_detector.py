"""What a configured node has: weights, transforms, outputs; while active, inputs too."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rclpy.lifecycle import LifecycleNode

from crkd_core.config import DRIVABLE
from crkd_ros.calibration_check.check import CalibrationCheck
from crkd_ros.motion.calibration_file import Calibration
from crkd_ros.node.inputs import Inputs, resolved
from crkd_ros.node.outputs import Outputs
from crkd_ros.node.threads import Decoders, core_count, decode_threads
from crkd_ros.node.transforms import Transforms
from crkd_ros.node.weights import load_detector, release_detector, use_threads
from crkd_ros.node.worker import FrameWorker
from crkd_ros.parameters.node import NodeConfig
from crkd_ros.reporter import Reporter
from crkd_ros.sensors.health import SensorHealth, TopicStatus
from crkd_ros.sensors.rig import Rig
from crkd_ros.sensors.sensor import Defer, WhenUsed


class _Active(NamedTuple):
    """What there is between ``start`` and ``stop``."""

    rig: Rig
    decoders: Decoders
    worker: FrameWorker
    inputs: Inputs


class LiveDetector:
    """From configuration to clean-up; detects between ``start`` and ``stop``.

    Args:
        node: owns the topics.
        config: its parameters.
        with_classes: makes the parameters that each of these classes has, and answers all of them.
        reporter: is told of frames and of what the user should know, in any thread.

    Raises:
        WeightsError, MotionError, MessageError, SyncError: what is asked for cannot be had.
        ParameterError: a parameter is about a class that the weights do not have, or the weights
            read LiDAR or none of ``sensors``.
    """

    def __init__(
        self,
        node: LifecycleNode,
        *,
        config: NodeConfig,
        with_classes: Callable[[Sequence[str]], NodeConfig],
        reporter: Reporter,
    ) -> None:
        self._node, self._config, self._reporter = node, config, reporter
        self._active: _Active | None = None
        self._transforms = Transforms(node, config=config, reporter=reporter)
        try:
            place = self._transforms.place(config.output_frame)
            threads = use_threads(config.threads)  # Engines look at it when they load.
            self._detector = load_detector(config)
            config = with_classes(self._detector.config.classes)
            self._config = config = config.for_detector(self._detector.config)
            reporter.detects(config.classes)
            if self._detector.config.temporal is not None and config.motion.source == "none":
                reporter.problem(
                    "memory",
                    "the weights remember earlier moments and motion.source is none: nothing is "
                    "remembered, for no pose is known; set motion.source to odom or tf",
                )
            rig = self._rig()  # Made anew by ``start``: here for what it refuses.
            self._outputs = Outputs(
                node,
                config=config,
                motion=self._transforms.motion,
                place=place,
                drivable=DRIVABLE in self._detector.config.segment_classes,
                reporter=reporter,
            )
        except Exception:
            self._transforms.close()
            raise
        node.get_logger().info(
            f"ready: {config.weights} on {config.device}, {config.engine}, "
            f"{self._detector.precision}, {threads} threads, "
            f"{len(rig.cameras)} cameras, {len(rig.radars)} radars, ego motion "
            f"{config.motion.source}"
        )

    def start(self) -> None:
        """Subscribe and detect."""
        config, transforms = self._config, self._transforms
        check = CalibrationCheck(
            extrinsics=transforms.extrinsics,
            motion=transforms.motion,
            frames=config.calibration_check.frames,
        )
        self._reporter.calibrated(check.summary())
        decoders = Decoders(
            decode_threads(config.decode_threads, core_count()), patience=config.sync.wait
        )
        rig = self._rig(decoders.defer)
        worker = FrameWorker(
            detector=self._detector,
            rig=rig,
            transforms=transforms,
            outputs=self._outputs,
            check=check,
            reporter=self._reporter,
        )
        try:
            inputs = Inputs(
                self._node, framing=config, rig=rig, worker=worker, reporter=self._reporter
            )
        except Exception:
            worker.stop()
            decoders.close()
            raise
        self._active = _Active(rig, decoders, worker, inputs)

    def announce(self) -> None:
        """Send what is sent once; the publishers must be active."""
        self._outputs.announce()

    def stop(self, *, patience: float | None = None) -> None:
        """Unsubscribe and end the threads, after the frame in the network.

        Args:
            patience: longest wait for that frame in seconds; None: as long as it takes.
        """
        if self._active is None:
            return
        active, self._active = self._active, None
        active.inputs.close()
        active.worker.stop(patience)
        active.decoders.close()
        self._transforms.clear()

    def close(self) -> None:
        """After ``stop``: withdraw the outputs and free the network."""
        self._outputs.close()
        self._transforms.close()
        del self._detector
        release_detector()

    def configure(self, config: NodeConfig) -> None:
        """Take dynamic parameters that have changed; from the next frame on."""
        self._config = config = config.for_detector(self._detector.config)
        self._detector.score_threshold = config.score_threshold
        self._outputs.configure(config)

    def forget(self) -> bool:
        """Nothing received so far belongs to the frames to come: time was set back.

        Returns:
            False: nothing was received yet, as when a bag's player waits before its first message.
        """
        if self._active is not None:
            self._active.worker.clear()
        self._transforms.clear()
        return any(health.heard for health in self.healths().values())

    def wanted(self) -> bool:
        """Whether anybody subscribes to detections."""
        return self._outputs.wanted()

    def healths(self) -> dict[str, SensorHealth]:
        """Per sensor, how it does; empty while inactive."""
        return {} if self._active is None else self._active.rig.healths

    def statuses(self) -> dict[str, TopicStatus]:
        """What the ROS graph says of the topics of silent sensors; empty while inactive."""
        if self._active is None:
            return {}
        now = time.monotonic()
        healths, inputs = self._active.rig.healths, self._active.inputs
        return {name: inputs.status(name) for name in healths if not healths[name].alive(now)}

    def _rig(self, defer: Defer = WhenUsed) -> Rig:
        config, extrinsics = self._config, self._transforms.extrinsics
        odometry = config.motion.source == "odom"
        names = (*config.sensors, *(["odometry"] if odometry else ()))
        return Rig(
            config,
            image=self._detector.config.image,
            # The names that publishers know them by: after remapping.
            topics={name: resolved(self._node, config.topic(name), sensor=name) for name in names},
            calibration=extrinsics if isinstance(extrinsics, Calibration) else None,
            extrinsics=extrinsics,
            motion=self._transforms.motion if odometry else None,
            health=config.health,
            defer=defer,
        )
