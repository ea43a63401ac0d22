"""The node's parameters: dataclasses here, ROS parameters generated from them.

A field's name is the parameter and the YAML key, its default the only default, its metadata the
description and the range that ``ros2 param describe`` shows. What the weights depend on is not
here: it travels in the checkpoint.
"""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from crkd_core.frame import CAMERAS, RADARS

#: Parameters that rclpy declares by itself, or on behalf of a subscription.
_FOREIGN = ("use_sim_time", "qos_overrides.", "start_type_description_service")


class ParameterError(ValueError):
    """A parameter that is unknown, missing, of another type or outside its range."""


def knob(
    default: Any,
    description: str,
    *,
    low: float | None = None,
    high: float | None = None,
    dynamic: bool = False,
) -> Any:
    """A dataclass field that is a parameter. ``dynamic``: may change while the node runs."""
    metadata = {"description": description, "low": low, "high": high, "dynamic": dynamic}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One leaf of a configuration dataclass: dotted name, type, default and metadata."""

    name: str
    kind: Any
    default: Any
    description: str
    low: float | None
    high: float | None
    dynamic: bool


def parameters(config: type, prefix: str = "") -> Iterator[Parameter]:
    """Every parameter of a configuration dataclass, in order; plain fields are none."""
    hints = typing.get_type_hints(config)
    for field in dataclasses.fields(config):
        if dataclasses.is_dataclass(hints[field.name]):
            yield from parameters(hints[field.name], f"{prefix}{field.name}.")  # type: ignore
        elif field.metadata:
            yield Parameter(
                name=prefix + field.name,
                kind=hints[field.name],
                default=field.default,
                **field.metadata,
            )


def _check(config: Any, prefix: str) -> None:
    """Ranges and choices of one dataclass's own fields."""
    for parameter in parameters(type(config)):
        if "." in parameter.name:
            continue
        value, name = getattr(config, parameter.name), prefix + parameter.name
        if typing.get_origin(parameter.kind) is Literal:
            choices = typing.get_args(parameter.kind)
            if value not in choices:
                raise ParameterError(
                    f"{name}: expected one of {', '.join(choices)}, got {value!r}"
                )
        # Written so that a NaN fails too.
        elif parameter.low is not None and not (
            parameter.low <= value <= typing.cast(float, parameter.high)
        ):
            raise ParameterError(
                f"{name}: expected {parameter.low} to {parameter.high}, got {value!r}"
            )


@dataclass(frozen=True, kw_only=True)
class SyncConfig:
    """Limits of a frame. All in seconds of message stamps, but ``wait``, which is real time."""

    camera_spread: float = knob(
        0.1, "An image this much older than the reference is not used, s", low=0.0, high=10.0
    )
    #: Sweeps per radar. No parameter: the node takes it from the weights (config.radar.sweeps).
    sweeps: int = 6
    radar_timeout: float = knob(
        0.3, "A radar whose newest sweep is older than this is masked, s", low=0.0, high=10.0
    )
    sweep_age: float = knob(
        2.0, "Radar sweeps older than this are not used, s", low=0.0, high=60.0
    )
    dead_after: float = knob(
        1.0, "A sensor silent for longer is not waited for, s", low=0.0, high=60.0
    )
    wait: float = knob(
        0.05, "Longest wait of a frame for messages under way, s of real time", low=0.0, high=5.0
    )
    jitter: float = knob(0.005, "Jitter of stamps around a sensor's period, s", low=0.0, high=1.0)
    jump: float = knob(
        1.0, "Stamps this far behind a sensor's newest: time was set back, s", low=0.0, high=60.0
    )

    def __post_init__(self) -> None:
        _check(self, "sync.")


@dataclass(frozen=True, kw_only=True)
class MotionConfig:
    """Where the ego motion between sensor stamps comes from."""

    source: Literal["odom", "tf", "off"] = knob(
        "odom", "Ego motion from: odom (nav_msgs/Odometry), tf, or off (vehicle stands still)"
    )
    fixed_frame: str = knob("odom", "Frame that stands still in the world, for source tf")

    def __post_init__(self) -> None:
        _check(self, "motion.")


@dataclass(frozen=True, kw_only=True)
class TopicsConfig:
    """Input topics; {sensor} becomes cam_front, radar_front and so on. Single ones: remap."""

    image_compressed: str = knob(
        "{sensor}/image_rect_compressed", "Topic of each camera with image_transport compressed"
    )
    image_raw: str = knob("{sensor}/image_rect", "Topic of each camera with image_transport raw")
    camera_info: str = knob("{sensor}/camera_info", "CameraInfo topic of each camera")
    radar: str = knob("{sensor}", "PointCloud2 topic of each radar")
    odometry: str = knob("odom", "Topic of nav_msgs/Odometry, for motion.source odom")


@dataclass(frozen=True, kw_only=True)
class NodeConfig:
    """All parameters of the detector node."""

    weights: str = knob("", "Checkpoint of the detector (.safetensors); required")
    device: str = knob("cpu", "Device of the network: cpu, cuda or cuda:N")
    precision: Literal["fp32", "bf16", "fp16"] = knob(
        "fp32", "Number format of the network: fp32, bf16 or fp16"
    )
    score_threshold: float = knob(
        0.1, "Detections below this score are not published", low=0.0, high=1.0, dynamic=True
    )
    sensors: tuple[str, ...] = knob(
        CAMERAS + RADARS, "Cameras and radars to subscribe to; the others are masked"
    )
    image_transport: Literal["compressed", "raw"] = knob(
        "compressed", "Images as compressed (CompressedImage, JPEG) or raw (Image)"
    )
    base_frame: str = knob("base_link", "Frame of the vehicle and of the detections")
    calibration_file: str = knob(
        "", "YAML with the sensors' poses (and intrinsics); empty: sensors' poses from tf"
    )
    decode_threads: int = knob(2, "Threads that decode and resize images", low=1, high=64)
    topics: TopicsConfig = TopicsConfig()
    motion: MotionConfig = MotionConfig()
    sync: SyncConfig = SyncConfig()

    def __post_init__(self) -> None:
        _check(self, "")
        unknown = set(self.sensors) - set(CAMERAS + RADARS)
        if unknown or not self.sensors:
            raise ParameterError(
                f"sensors: expected some of {', '.join(CAMERAS + RADARS)}, got "
                f"{', '.join(self.sensors) or 'none'}"
            )


def build(values: dict[str, Any]) -> NodeConfig:
    """A NodeConfig of dotted names; absent ones take their defaults. Raises ParameterError."""

    def part(cls: type, prefix: str) -> Any:
        hints = typing.get_type_hints(cls)
        chosen: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            name, kind = prefix + field.name, hints[field.name]
            if dataclasses.is_dataclass(kind):
                chosen[field.name] = part(kind, name + ".")  # type: ignore[arg-type]
            elif name in values:
                value = values[name]
                chosen[field.name] = tuple(value) if typing.get_origin(kind) is tuple else value
        return cls(**chosen)

    known = [parameter.name for parameter in parameters(NodeConfig)]
    for name in values:
        if name not in known:
            raise ParameterError(_unknown(name, known))
    config = part(NodeConfig, "")
    assert isinstance(config, NodeConfig)
    return config


def declare(node: Any) -> NodeConfig:
    """Declare every parameter on an rclpy node and answer the configuration it was started with.

    Raises:
        ParameterError: a value of another type or outside its range, or an override of a parameter
            that does not exist (the text names the nearest one).
    """
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
    from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException

    values = {}
    for parameter in parameters(NodeConfig):
        descriptor = ParameterDescriptor(
            description=parameter.description, read_only=not parameter.dynamic
        )
        if parameter.low is not None and parameter.high is not None:
            if parameter.kind is int:
                limits = IntegerRange(from_value=int(parameter.low), to_value=int(parameter.high))
                descriptor.integer_range = [limits]
            else:
                reals = FloatingPointRange(from_value=parameter.low, to_value=parameter.high)
                descriptor.floating_point_range = [reals]
        default = parameter.default
        default = list(default) if isinstance(default, tuple) else default
        try:
            values[parameter.name] = node.declare_parameter(
                parameter.name, default, descriptor
            ).value
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            raise ParameterError(
                f"parameter {parameter.name} ({parameter.description}): {error}; the default is "
                f"{default!r}"
            ) from error
    config = build(values)
    known = list(values)
    # rclpy ignores overrides that nobody declares; a misspelt one must not go unnoticed.
    for name in getattr(node, "_parameter_overrides", {}):
        if name not in known and not name.startswith(_FOREIGN):
            raise ParameterError(_unknown(name, known))
    return config


def as_yaml() -> str:
    """The parameter file with every parameter, its description and its default."""
    import yaml

    lines = ["/**:", "  ros__parameters:"]
    opened: list[str] = []
    for parameter in parameters(NodeConfig):
        *groups, leaf = parameter.name.split(".")
        for depth, group in enumerate(groups):
            if opened[: depth + 1] != groups[: depth + 1]:
                lines.append(f"{'  ' * (depth + 2)}{group}:")
        opened = groups
        indent = "  " * (len(groups) + 2)
        default = parameter.default
        value = yaml.safe_dump(
            list(default) if isinstance(default, tuple) else default,
            default_flow_style=True,
            width=10_000,
        )
        limits = "" if parameter.low is None else f" [{parameter.low}, {parameter.high}]"
        change = "; may change while running" if parameter.dynamic else ""
        lines.append(f"{indent}# {parameter.description}{limits}{change}")
        lines.append(f"{indent}{leaf}: {value.splitlines()[0]}")
    return "\n".join(lines) + "\n"


def _unknown(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    return f"unknown parameter {name!r}; {hint}"
