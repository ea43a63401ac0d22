"""The live detector: a ROS 2 lifecycle node around ``crkd_core.Detector``.

It translates, never computes. Here are parameters, states and diagnostics; what a configured node
has is in live_detector.py: subscriptions in inputs.py, the way of a frame in worker.py, the choice
of its messages in sync/, publishers in outputs.py. Every parameter is in parameters/.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

# Spinning OpenMP threads would take the processor from the decoding threads. Read by torch, so it
# must be set before that is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from rclpy.clock import Clock, ClockChange, ClockType, JumpThreshold
from rclpy.duration import Duration
from rclpy.exceptions import InvalidTopicNameException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos_overriding_options import InvalidQosOverridesError

from crkd_ros.convert import ros_packages
from crkd_ros.motion.poses import MotionError
from crkd_ros.node import process
from crkd_ros.node.health import Health
from crkd_ros.node.live_detector import LiveDetector
from crkd_ros.node.weights import WeightsError
from crkd_ros.parameters import configuration, declaration
from crkd_ros.parameters.knobs import ParameterError
from crkd_ros.parameters.node import NodeConfig
from crkd_ros.reporter import Reporter
from crkd_ros.sync.synchroniser import SyncError

#: rclpy tells of no difference in time then.
_OTHER_CLOCK = (ClockChange.ROS_TIME_ACTIVATED, ClockChange.ROS_TIME_DEACTIVATED)
#: On stdout whenever the node has become active.
_ACTIVE = "detector_node: active"


class DetectorNode(LifecycleNode):
    """Configured: weights loaded, outputs advertised. Active: inputs subscribed to, detecting.

    Diagnostics are published in every state.

    Attributes:
        config: parameters as they are now; all but the dynamic ones are as it was configured.

    Raises:
        ParameterError: a parameter of another type, out of range, or that does not exist.
    """

    #: What a user can put right; the text says how.
    refusals = (
        *(ParameterError, MotionError, SyncError, WeightsError, ros_packages.MessageError),
        *(InvalidTopicNameException, InvalidQosOverridesError),
    )

    def __init__(self) -> None:
        super().__init__("detector_node")
        self.config = declaration.declare(self, NodeConfig)
        self._mistake = ""
        self._state = "unconfigured"
        self._live: LiveDetector | None = None
        self._begin()
        self._diagnostics = self.create_publisher(
            ros_packages.message_class("diagnostic_msgs/msg/DiagnosticArray"), "/diagnostics", 10
        )
        # Not the node's clock: under use_sim_time it stands still when /clock is dead.
        self._timer = self.create_timer(
            self.config.health.period, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        self._jumps = self.get_clock().create_jump_callback(
            JumpThreshold(
                min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True
            ),
            post_callback=self._on_time_jump,
        )
        self.add_on_set_parameters_callback(self._on_parameters)
        for line in ros_packages.missing_features():
            self.get_logger().info(line)

    # -- transitions ----------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the weights and the calibration, advertise the outputs."""

        def configure() -> None:
            self._begin()
            self._timer.timer_period_ns = round(self.config.health.period * 1e9)
            self._live = LiveDetector(
                self,
                config=self.config,
                with_classes=self.with_classes,
                reporter=self._reporter,
            )

        return self._enter("inactive", configure, super().on_configure, state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and detect."""
        assert self._live is not None
        result = self._enter("active", self._live.start, super().on_activate, state)
        self._live.announce()
        if result == TransitionCallbackReturn.SUCCESS:
            # For launch files, at every log level: replay.launch.py plays its bag then.
            print(_ACTIVE, flush=True)
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe; wait for the frame in the network."""
        assert self._live is not None
        return self._enter("inactive", self._live.stop, super().on_deactivate, state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the network and everything else; parameters may be changed again."""
        return self._enter("unconfigured", self._release, super().on_cleanup, state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """The end of the node's life, from any state."""
        return self._enter("finalized", self._release, super().on_shutdown, state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After a mistake of the program in a transition: back to unconfigured."""
        result = self._enter("unconfigured", self._release, super().on_error, state)
        self._reporter.entered(self._state, refused=self._mistake)
        return result

    def _enter(
        self,
        name: str,
        step: Callable[[], object],
        then: Callable[[LifecycleState], TransitionCallbackReturn],
        state: LifecycleState,
    ) -> TransitionCallbackReturn:
        """One transition: our step, then rclpy's. What fails is said, for rclpy says nothing."""
        try:
            step()
        except self.refusals as error:
            self._end_if_interrupted()
            self.get_logger().error(str(error))
            self._reporter.entered(self._state, refused=str(error))
            return TransitionCallbackReturn.FAILURE
        except Exception as error:
            self._end_if_interrupted()
            self.get_logger().error(traceback.format_exc())
            self._mistake = f"{type(error).__name__}: {error}"
            return TransitionCallbackReturn.ERROR
        result = then(state)
        if result == TransitionCallbackReturn.SUCCESS:
            self._state = name
            self._reporter.entered(name)
        return result

    def _LifecycleNodeMixin__change_state(self, transition_id: int) -> TransitionCallbackReturn:
        """Refuse a transition that the state does not allow; rclpy would end the process."""
        try:
            return super()._LifecycleNodeMixin__change_state(transition_id)  # type: ignore[misc]
        except RuntimeError as error:  # RCLError
            self._end_if_interrupted()
            self.get_logger().error(f"refused in state {self._state}: {error}")
            return TransitionCallbackReturn.FAILURE

    def _end_if_interrupted(self) -> None:
        """After an error: it is none where a signal has taken the context from under a transition.

        rclpy hears of a signal before Python does.
        """
        if not self.context.ok():
            raise KeyboardInterrupt

    def _release(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live.close()
            self._live = None

    def close(self, *, patience: float) -> None:
        """End everything; a frame that is still in the network after so many seconds is left."""
        if self._live is not None:
            self._live.stop(patience=patience)
        self.destroy_node()

    def destroy_node(self) -> None:
        """Leave the ROS network at once.

        rclpy's state machine would hold the participant until Python collects its garbage, or for
        ever: at the end of the process its shared memory stays behind, 35 MB of /dev/shm, and the
        33rd participant of a machine is not found by others where discovery is local.
        """
        super().destroy_node()
        self._state_machine = None

    # -- while running --------------------------------------------------------------------------

    def _on_parameters(self, changes: list[Parameter]) -> Any:
        """Check a change as a whole; what is not dynamic waits for the next configuration."""
        try:
            config = configuration.changed(
                self.config,
                {change.name: change.value for change in changes},
                only_dynamic=self._state != "unconfigured",
            )
        except ParameterError as error:
            return ros_packages.make(
                "rcl_interfaces/msg/SetParametersResult", successful=False, reason=str(error)
            )
        self.config = config
        if self._live is not None:
            self._live.configure(config)
        return ros_packages.make("rcl_interfaces/msg/SetParametersResult", successful=True)

    def with_classes(self, classes: Sequence[str]) -> NodeConfig:
        """The parameters, with those that each class of the weights has.

        Raises:
            ParameterError: one is set for a class that the weights do not have.
        """
        self.config = declaration.declare_classes(self, self.config, classes)
        return self.config

    def _on_time_jump(self, jump: Any) -> None:
        """The ROS clock went back, as when a bag begins again, or came on or off."""
        if self._live is not None and self._live.forget():
            what = f"time jumped by {jump.delta.nanoseconds * 1e-9:.3f} s"
            if jump.clock_change in _OTHER_CLOCK:
                what = "the ROS clock is another one now (use_sim_time)"
            self._reporter.problem("time", f"{what}: what came before is forgotten")

    def _begin(self) -> None:
        """Count anew."""
        self._reporter = Reporter(self.get_logger().warning)
        self._health = Health(
            self._reporter,
            name=self.get_fully_qualified_name(),
            hardware=f"{self.config.device}, {self.config.engine}, {self.config.precision}",
            config=self.config.health,
            motion=self.config.motion.source,
        )

    def _report(self) -> None:
        live = self._live
        try:
            statuses = {} if live is None else live.statuses()
        except Exception as error:  # Whatever the middleware says, diagnostics go on.
            statuses = {}
            self._reporter.problem("graph", f"the ROS graph cannot be read: {error}")
        report = self._health.diagnostics(
            ros_packages.make,
            stamp_ns=self.get_clock().now().nanoseconds,
            sensors={} if live is None else live.healths(),
            listeners=live is not None and live.wanted(),
            statuses=statuses,
        )
        self._diagnostics.publish(report)


def main(args: list[str] | None = None) -> NoReturn:
    """Run the node until it is interrupted, see ``process.run``, and end the process."""
    process.end(process.run(DetectorNode, args))


if __name__ == "__main__":
    main()
