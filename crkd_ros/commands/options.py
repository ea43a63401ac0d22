"""What several commands have as an option."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crkd_ros.shipped import shipped

if TYPE_CHECKING:
    from crkd_ros.parameters.node import NodeConfig

#: Of commands that work without being given a detector.
SHIPPED_WEIGHTS = shipped("weights/demo_student.safetensors")

Weights = Annotated[Path, typer.Option(help="The detector.")]
PlayedBag = Annotated[
    Path | None, typer.Option(help="What is played in a loop; default: a generated drive.")
]
PlayedCalibration = Annotated[
    Path | None, typer.Option(help="Of the bag's vehicle; default: from the bag itself.")
]

#: Wherever a bag is read.
SensorTopics = Annotated[
    list[str] | None,
    typer.Option(
        "--topic",
        help="SENSOR=/TOPIC (repeatable): which topic is a sensor's, e.g. "
        "CAM_FRONT=/camera/image_raw; CAM_FRONT/camera_info=/..., odometry=/... too. "
        "CAM_FRONT= leaves it out.",
    ),
]
Params = Annotated[
    Path | None,
    typer.Option(help="The node's parameter file: what frames are made of holds."),
]

#: Wherever the detector node is started.
Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--parameter", help="NAME=VALUE of the detector node (repeatable), e.g. device=cuda."
    ),
]


def sensor_topics(given: list[str] | None) -> dict[str, str]:
    """What ``--topic`` says: sensor -> topic. Raises BagError."""
    from crkd_ros.bags.message_types import BagError

    found: dict[str, str] = {}
    for text in given or ():
        sensor, sign, topic = text.partition("=")
        if not sign or not sensor:
            raise BagError(f"--topic: expected SENSOR=/TOPIC, got {text!r}")
        found[sensor] = topic
    return found


def node_parameters(given: list[str] | None) -> dict[str, str]:
    """What ``--parameter`` says: name -> text of the value in YAML.

    NAME:=VALUE, as ROS 2 writes it, is the same. Whether such a parameter exists is not checked.

    Raises:
        ParameterError: not of that form, or the weights, which have an option of their own.
    """
    from crkd_ros.parameters.knobs import ParameterError

    found: dict[str, str] = {}
    for text in given or ():
        name, sign, value = text.partition("=")
        name = name.removesuffix(":")
        if not sign or not name:
            raise ParameterError(f"--parameter: expected NAME=VALUE, got {text!r}")
        if name == "weights":
            raise ParameterError(f"--parameter {text}: say the weights by --weights")
        found[name] = value
    return found


def for_weights(config: NodeConfig, weights: Path) -> NodeConfig:
    """What a node makes of its configuration with these weights, known before it is started.

    Raises:
        CheckpointError, EngineError: no detector in that file.
        ParameterError: the node would refuse them, see ``FramingConfig.for_detector``.
    """
    from crkd_core.infer.engines.files import detector_config

    return config.for_detector(detector_config(weights))


def node_config(params: Path | None) -> NodeConfig | None:
    """What ``--params`` says; None: nothing. Raises ParameterError."""
    from crkd_ros.parameters.node import NodeConfig
    from crkd_ros.parameters.parameter_file import load

    return None if params is None else load(params, NodeConfig, node="detector_node")
