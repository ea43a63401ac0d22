"""What the node would publish of frames that are replayed: its parameters hold for both."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

from crkd_core import geometry
from crkd_ros.bags.detections import Publishing
from crkd_ros.bags.frames import Recording
from crkd_ros.motion.poses import Array, MotionError
from crkd_ros.node.postprocess import Place, Postprocess, upright
from crkd_ros.parameters.knobs import ParameterError, classes_given, values
from crkd_ros.parameters.node import NodeConfig

#: Parameters of a node that runs: a replay has no clock, no topics and no threads of its own.
_LIVE = (
    "autostart",
    "objects",
    "drivable_area",
    "threads",
    "decode_threads",
    "calibration_check.",
    "health.",
    "sync.wait",
)


def unused(config: NodeConfig) -> Iterator[str]:
    """Parameters that differ from their defaults and mean nothing to a replay."""
    defaults = values(NodeConfig())
    for name, value in values(config).items():
        if name.startswith(_LIVE) and value != defaults.get(name):
            yield name


def publishing(
    config: NodeConfig, classes: Sequence[str], problem: Callable[[str], None]
) -> Callable[[Recording], Publishing]:
    """How a replay publishes: thresholds, published classes, ids, output frame and markers.

    Args:
        config: the node's parameters.
        classes: of the detector.
        problem: takes one sentence when ids cannot be given.

    Raises:
        ParameterError: a parameter of a class that the detector does not have. What it returns
            raises MotionError: an output frame that the bag does not know.
    """
    if unknown := sorted(set(classes_given(config)) - set(classes)):
        raise ParameterError(
            f"parameters of the classes {', '.join(unknown)}: the weights have "
            f"{', '.join(classes)}"
        )
    config = dataclasses.replace(config, classes=tuple(classes))

    def of(recording: Recording) -> Publishing:
        return Publishing(
            apply=Postprocess(
                config,
                motion=recording.motion,
                place=_place(config, recording),
                problem=problem,
            ),
            frame_id=config.frame_id,
            markers=config.markers,
            threshold=config.score_threshold,
        )

    return of


def _place(config: NodeConfig, recording: Recording) -> Place | None:
    frame, base = config.output_frame.lstrip("/"), config.base_frame.lstrip("/")
    if frame in ("", base):
        return None
    if frame == recording.source.taken.parent:
        return upright(recording.motion.pose, frame)

    tree = recording.survey.tree
    if frame.lower() not in tree.ancestors(base) + tree.frames:
        raise MotionError(
            f"output_frame {frame!r}: the bag's transforms do not know it; they have "
            f"{', '.join(tree.ancestors(base)[1:] + tree.frames) or 'none'}, and odometry is in "
            f"{recording.source.taken.parent!r}"
        )

    def place(stamp_ns: int) -> Array:
        return geometry.invert(tree.base_T(frame, stamp_ns))

    return upright(place, frame)
