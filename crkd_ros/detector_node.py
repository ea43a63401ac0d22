"""The live detector: a ROS 2 lifecycle node around ``crkd_core.Detector``.

It translates, never computes. Parameters are in node_config.py, subscriptions in inputs.py, the
way of a frame in worker.py, the choice of its messages in sync.py, publishers in outputs.py.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import traceback
from collections.abc import Mapping
from typing import Any

# Spinning OpenMP threads would take the processor from the decoding threads. Read by torch, so it
# must be set before that is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from rclpy.clock import Clock, ClockType, JumpThreshold
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from crkd_core.boxes import Detections
from crkd_core.frame import CAMERAS, RADARS
from crkd_ros import messages, parameters, run_node
from crkd_ros.health import Health
from crkd_ros.inputs import Inputs
from crkd_ros.latency import pipeline
from crkd_ros.latency_topics import LatencyTopics
from crkd_ros.motion import MotionError
from crkd_ros.node_config import NodeConfig
from crkd_ros.outputs import Outputs
from crkd_ros.parameters import ParameterError
from crkd_ros.sources import Sources
from crkd_ros.sync import Synchronizer
from crkd_ros.worker import FrameWorker, WorkerError, load_detector, release_detector


class DetectorNode(LifecycleNode):
    """Configured: weights loaded, outputs advertised. Active: inputs subscribed to, detecting.

    Diagnostics are published in every state.

    Attributes:
        config: parameters as they are now; all but the dynamic ones are as it was configured.

    Raises:
        ParameterError: a parameter of another type, out of range, or that does not exist.
    """

    #: What a user can put right; the text says how.
    refusals = (ParameterError, MotionError, messages.MessageError, WorkerError)

    def __init__(self) -> None:
        super().__init__("detector_node")
        self.config = parameters.declare(self, NodeConfig)
        self._state = "unconfigured"
        self._detector: Any = None
        self._sources: Sources | None = None
        self._outputs: Outputs | None = None
        self._latency: LatencyTopics | None = None
        self._sync: Synchronizer | None = None
        self._inputs: Inputs | None = None
        self._worker: FrameWorker | None = None
        self._health = self._new_health()
        self._diagnostics = self.create_publisher(
            messages.message_class("diagnostic_msgs/msg/DiagnosticArray"), "/diagnostics", 10
        )
        # Not the node's clock: under use_sim_time it stands still when /clock is dead.
        self.create_timer(
            self.config.health.period, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        self._jumps = self.get_clock().create_jump_callback(
            JumpThreshold(
                min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True
            ),
            post_callback=self._on_time_jump,
        )
        self.add_on_set_parameters_callback(self._on_parameters)
        for line in messages.missing_features():
            self.get_logger().info(line)

    # -- transitions ----------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the weights and the calibration, advertise the outputs."""
        try:
            self._configure()
        except self.refusals as error:
            self._release()
            self.get_logger().error(str(error))
            self._health.problem("configuration", str(error))
            return TransitionCallbackReturn.FAILURE
        except Exception:  # rclpy would swallow it.
            self.get_logger().error(traceback.format_exc())
            return TransitionCallbackReturn.ERROR
        return self._entered("inactive", super().on_configure(state))

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and detect."""
        assert self._sources is not None and self._outputs is not None and self._sync is not None
        config, sources, outputs = self.config, self._sources, self._outputs
        self._worker = FrameWorker(
            detector=self._detector,
            sync=self._sync,
            extrinsics=sources.extrinsics,
            motion=sources.motion,
            publish=self._publish,
            finished=self._finished,
            health=self._health,
            problem=self._problem,
            decode_threads=config.decode_threads,
            radar_fields=config.radar_fields,
        )
        self._inputs = Inputs(
            self,
            config=config,
            worker=self._worker,
            extrinsics=sources.extrinsics,
            motion=sources.motion,
            wanted=outputs.wanted,
            health=self._health,
            problem=self._problem,
        )
        result = self._entered("active", super().on_activate(state))
        outputs.announce()
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe; wait for the frame in the network."""
        self._halt(patience=None)
        return self._entered("inactive", super().on_deactivate(state))

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the network and everything else; parameters may be changed again."""
        self._release()
        return self._entered("unconfigured", super().on_cleanup(state))

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """The end of the node's life, from any state."""
        self._halt(patience=None)
        self._release()
        return self._entered("finalized", super().on_shutdown(state))

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After a mistake of the program in a transition: back to unconfigured."""
        self._halt(patience=None)
        self._release()
        return self._entered("unconfigured", super().on_error(state))

    def _entered(self, name: str, result: TransitionCallbackReturn) -> TransitionCallbackReturn:
        if result == TransitionCallbackReturn.SUCCESS:
            self._state = name
        return result

    def _configure(self) -> None:
        config = self.config
        self._health = self._new_health()
        self._sources = Sources(self, config=config, problem=self._problem)
        self._detector = load_detector(config)
        self._outputs = Outputs(
            self,
            config=config,
            motion=self._sources.motion,
            place=self._sources.place(config.output_frame),
            problem=self._problem,
        )
        self._latency = LatencyTopics(self)
        limits = dataclasses.replace(config.sync, sweeps=self._detector.config.radar.sweeps)
        cameras = [name for name in CAMERAS if name in config.sensors]
        radars = [name for name in RADARS if name in config.sensors]
        self._sync = Synchronizer(limits, cameras=cameras, radars=radars)
        self.get_logger().info(
            f"ready: {config.weights} on {config.device}, {config.precision}, {len(cameras)} "
            f"cameras, {len(radars)} radars, ego motion {config.motion.source}"
        )

    def _halt(self, *, patience: float | None) -> bool:
        """End subscriptions and threads. False: a frame is still in the network."""
        if self._inputs is not None:
            self._inputs.close()
            self._inputs = None
        if self._worker is None:
            return True
        stopped = self._worker.stop(patience)
        self._worker = None
        self._forget()
        return stopped

    def _release(self) -> None:
        """Undo ``_configure``, however far it came."""
        if self._outputs is not None:
            self._outputs.close()
        if self._latency is not None:
            self._latency.close()
            self._latency = None
        if self._sources is not None:
            self._sources.close()
        self._outputs = self._sources = self._sync = None
        if self._detector is not None:
            self._detector = None
            release_detector()

    def close(self, *, patience: float) -> bool:
        """End everything. False: a frame is still in the network after so many seconds."""
        stopped = self._halt(patience=patience)
        self.destroy_node()
        return stopped

    # -- while running --------------------------------------------------------------------------

    def _publish(self, detections: Detections, stamp_ns: int) -> None:
        """In the worker's thread."""
        assert self._outputs is not None
        try:
            self._outputs.publish(detections, stamp_ns)
        except Exception:
            if self.context.ok():
                raise  # Otherwise the process is ending, and nobody can publish any more.

    def _finished(self, stages: Mapping[str, float], stamp_ns: int) -> None:
        """A frame went out; in the worker's thread."""
        now_ns = self.get_clock().now().nanoseconds
        age = pipeline(stages["total"], now_ns=now_ns, stamp_ns=stamp_ns)
        if age is not None:
            stages = {**stages, "pipeline": age}
        self._health.published(stages)
        if self._latency is not None and self.context.ok():
            self._latency.publish(stages)

    def _on_parameters(self, changes: list[Parameter]) -> Any:
        """Check a change as a whole; what is not dynamic waits for the next configuration."""
        try:
            config = parameters.changed(
                self.config,
                {change.name: change.value for change in changes},
                only_dynamic=self._state != "unconfigured",
            )
        except ParameterError as error:
            return messages.make(
                "rcl_interfaces/msg/SetParametersResult", successful=False, reason=str(error)
            )
        self.config = config
        if self._detector is not None:
            self._detector.score_threshold = config.score_threshold
        if self._outputs is not None:
            self._outputs.configure(config)
        return messages.make("rcl_interfaces/msg/SetParametersResult", successful=True)

    def _on_time_jump(self, _: Any) -> None:
        """The ROS clock went back, as when a bag begins again."""
        self._forget()

    def _forget(self) -> None:
        """Nothing received so far belongs to the frames to come."""
        if self._worker is not None:
            self._worker.clear()
        elif self._sync is not None:
            self._sync.clear()
        if self._sources is not None:
            self._sources.clear()

    def _new_health(self) -> Health:
        hardware = f"{self.config.device}, {self.config.precision}"
        return Health(
            name=self.get_name(),
            hardware=hardware,
            config=self.config.health,
            motion=self.config.motion.source,
        )

    def _report(self) -> None:
        outputs, worker, inputs = self._outputs, self._worker, self._inputs
        report = self._health.diagnostics(
            messages.make,
            stamp_ns=self.get_clock().now().nanoseconds,
            sensors={} if worker is None else worker.counts(),
            listeners=outputs is not None and outputs.wanted(),
            links={} if inputs is None else inputs.links(self._health.silent()),
        )
        self._diagnostics.publish(report)

    def _problem(self, kind: str, text: str) -> None:
        if self._health.problem(kind, text):
            self.get_logger().warning(text)


def main(args: list[str] | None = None) -> int:
    """Configure, activate and run the node until it is interrupted; see ``run_node.run``."""
    return run_node.run(DetectorNode, args, start=True)


def lifecycle_main(args: list[str] | None = None) -> int:
    """Run the node and leave its transitions to others; see ``run_node.run``."""
    return run_node.run(DetectorNode, args, start=False)


if __name__ == "__main__":
    sys.exit(main())
