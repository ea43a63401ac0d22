"""A ROS 2 node beside the detector: records what it answers to a bag, then scores it.

Listens to /clock (play the bag with --clock), ``<detector>/boxes``, odometry and /diagnostics.
When the bag is over it prints and writes what `crkd live` would, a row per pass of a looped bag,
and ends; an interrupt does the same earlier.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rclpy
from rclpy.exceptions import NotInitializedException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node

from crkd_core.data.nuscenes.tables import NuScenesError
from crkd_core.files import OutputError, check_output
from crkd_core.tables import print_tables
from crkd_ros.node.process import REFUSED
from crkd_ros.node.receiver import Receiver
from crkd_ros.parameters.declaration import declare
from crkd_ros.parameters.knobs import ParameterError, check, knob
from crkd_ros.streaming_eval.recorder import Recorder
from crkd_ros.streaming_eval.scores import RESULTS, ScoreError
from crkd_ros.streaming_eval.session import subscribe


@dataclass(frozen=True, kw_only=True)
class EvaluatorConfig:
    """Parameters of the evaluator."""

    data: str = knob("", "Root of the nuScenes data set that the bag was made of; required")
    split: str = knob("", "A split of it with the bag's scene; required")
    out: str = knob("evaluation", "Folder for metrics.json, the picture and the page")
    overwrite: bool = knob(False, "Replace the results that are in that folder")
    detector: str = knob("detector_node", "Name of the detector node, with its namespace")
    base_frame: str = knob("base_link", "Frame of the vehicle, as the detector has it")
    finish_after: float = knob(
        5.0, "The bag is over when /clock stood still for so long, s", low=0.5, high=3600.0
    )

    def __post_init__(self) -> None:
        check(self, "")


class EvaluatorNode(Node):
    """Records until the bag is over.

    Attributes:
        config: its parameters.

    Raises:
        ParameterError: a parameter that is missing, of another type, or out of range.
        NuScenesError: no such data set or split.
        OutputError: ``out`` holds results, or cannot be written.
    """

    def __init__(self) -> None:
        super().__init__("evaluator")
        self.config = declare(self, EvaluatorConfig)
        for name in ("data", "split"):
            if not getattr(self.config, name):
                raise ParameterError(
                    f"parameter {name} is required, for example --ros-args -p {name}:=..."
                )
        check_output(
            Path(self.config.out),
            results=RESULTS,
            overwrite=self.config.overwrite,
            option="overwrite:=true",
        )
        from crkd_core.data.nuscenes.reader import NuScenes

        self._tables = NuScenes(Path(self.config.data), split=self.config.split)
        self._tables.scenes_of(self.config.split)  # Not after the whole bag has been played.
        self._recorder = Recorder(node=self.resolve_topic_name(self.config.detector))
        self._receiver = Receiver(self, self.get_logger().error)
        subscribe(self, self._recorder, detector=self.config.detector, receiver=self._receiver)
        self._receiver.start()
        self.get_logger().info(
            f"recording {self.config.detector}/boxes; waiting for /clock (play with --clock)"
        )

    def destroy_node(self) -> None:
        """Stop recording."""
        self._receiver.close()
        super().destroy_node()

    def over(self) -> bool:
        """Whether a bag was played and is not any more."""
        quiet = time.monotonic() - max(self._recorder.last_tick, self._recorder.last_boxes)
        return bool(self._recorder.passes) and quiet > self.config.finish_after

    def report(self) -> None:
        """Score what came, write it, print its tables.

        Raises:
            ScoreError: nothing came, or it cannot be scored.
        """
        # Matplotlib takes a second to import; the bag may be about to begin.
        from crkd_ros.streaming_eval.report import write_scores
        from crkd_ros.streaming_eval.scores import score_pass

        # A pass that was cut off before its first key frame has nothing to score.
        passes = [one for one in self._recorder.passes if one.arrivals]
        if not passes:
            heard = "/clock moved, but no boxes came" if self._recorder.passes else "no /clock"
            raise ScoreError(
                f"{heard}; is {self.config.detector} running, and the bag played with --clock?"
            )
        base = self.config.base_frame
        scored = [score_pass(self._tables, self.config.split, p, base_frame=base) for p in passes]
        out = Path(self.config.out)
        about = {"detector": self.config.detector, "split": self.config.split}
        print_tables(*write_scores(out, scored, about=about))
        print(f"written: {out / 'report.html'}")


def main(args: list[str] | None = None) -> int:
    """Entry point of `ros2 run crkd_ros evaluator`. 1: it could not start, or nothing to score."""
    try:
        rclpy.init(args=args)
    except RuntimeError as error:  # Arguments or a parameter file that rcl cannot read.
        print(f"evaluator: cannot read these ROS arguments: {error}", file=sys.stderr)
        return 1
    node: Any = None
    try:
        node = EvaluatorNode()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        try:
            while not node.over():
                executor.spin_once(timeout_sec=0.2)
        except (KeyboardInterrupt, ExternalShutdownException):
            pass
        node.report()
    except KeyboardInterrupt:
        return 1
    except (rclpy_implementation.RCLError, NotInitializedException):
        # rclpy has ended the context at a signal, and the node is not made yet.
        if rclpy.ok():
            raise
        return 1
    except (ParameterError, *REFUSED, NuScenesError, ScoreError, OutputError, OSError) as error:
        print(f"evaluator: {error}", file=sys.stderr)
        return 1
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
