"""ROS parameters generated from frozen dataclasses whose fields are made by ``knob``.

A field's name is the parameter and the YAML key, its default the only default, its metadata the
description and the range that ``ros2 param describe`` shows. A dataclass within a dataclass is a
group (``sync.wait``). The detector node's own are in node.py.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

#: Parameters that rclpy declares by itself, or on behalf of a subscription.
_FOREIGN = ("use_sim_time", "qos_overrides.", "start_type_description_service")

#: What ROS shows of a parameter that is not ``dynamic``.
_UNCONFIGURED = "may change only while the node is unconfigured"

#: YAML reads these words, and ROS numbers, as something else.
_QUOTES = "texts like off, on, yes, no and 1 need quotes: -p \"motion.source:='off'\""

Config = TypeVar("Config")


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
    """A dataclass field that is a parameter.

    Args:
        default: the one default.
        description: what ``ros2 param describe`` shows.
        low: the least value of a number.
        high: its greatest.
        dynamic: it may change while the node is active.
    """
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
    """Every parameter of a configuration dataclass, in order, its groups last.

    Plain fields are none.
    """
    hints = typing.get_type_hints(config)

    def group(field: dataclasses.Field[Any]) -> bool:
        return dataclasses.is_dataclass(hints[field.name])

    for field in sorted(dataclasses.fields(config), key=group):
        if group(field):
            yield from parameters(hints[field.name], f"{prefix}{field.name}.")  # type: ignore
        elif field.metadata:
            yield Parameter(
                name=prefix + field.name,
                kind=hints[field.name],
                default=field.default,
                **field.metadata,
            )


def check(config: Any, prefix: str) -> None:
    """Ranges and choices of one dataclass's own fields; call it in ``__post_init__``.

    Args:
        config: the dataclass.
        prefix: of its parameters' names, such as ``"sync."``.

    Raises:
        ParameterError: names the parameter, what is allowed, and what came.
    """
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


def build(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """A configuration of dotted names; absent ones take their defaults. Raises ParameterError."""

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

    known = [parameter.name for parameter in parameters(kind)]
    for name in values:
        if name not in known:
            raise ParameterError(_unknown(name, known))
    config: Config = part(kind, "")
    return config


def foreign(name: str) -> bool:
    """Whether rclpy declares a parameter by itself, whatever the node."""
    return name.startswith(_FOREIGN)


def values(config: Any) -> dict[str, Any]:
    """The dotted name and the value of every parameter of a configuration, in order."""

    def value(name: str) -> Any:
        return functools.reduce(getattr, name.split("."), config)

    return {parameter.name: value(parameter.name) for parameter in parameters(type(config))}


def changed(config: Config, changes: Mapping[str, Any], *, only_dynamic: bool) -> Config:
    """A configuration with some values replaced, checked as a whole.

    Args:
        config: as it is.
        changes: dotted names and values; parameters of others (``use_sim_time``) are left out.
        only_dynamic: refuse changes of parameters that are not ``dynamic``.

    Raises:
        ParameterError: a change that is refused, or a value that is not allowed.
    """
    now = values(config)
    ours = {name: value for name, value in changes.items() if name in now}
    for parameter in parameters(type(config)):
        name = parameter.name
        if name not in ours or parameter.dynamic or not only_dynamic:
            continue
        if ours[name] != (list(now[name]) if isinstance(now[name], tuple) else now[name]):
            raise ParameterError(f"{name} {_UNCONFIGURED}: send it through cleanup first")
    return build(type(config), {**now, **ours})


def declare(node: Any, kind: type[Config]) -> Config:
    """Declare every parameter on an rclpy node and answer the configuration it was started with.

    What is not ``dynamic`` is not read-only for ROS: a lifecycle node takes it up when it is
    configured. ``changed`` is what refuses it at other times.

    Raises:
        ParameterError: a value of another type or outside its range, or an override of a parameter
            that does not exist (the text names the nearest one).
    """
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
    from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException

    given = {}
    for parameter in parameters(kind):
        descriptor = ParameterDescriptor(
            description=parameter.description,
            additional_constraints="" if parameter.dynamic else _UNCONFIGURED,
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
            given[parameter.name] = node.declare_parameter(
                parameter.name, default, descriptor
            ).value
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            hint = "" if not isinstance(default, str) else f"; {_QUOTES}"
            raise ParameterError(
                f"parameter {parameter.name} ({parameter.description}): {error}; the default is "
                f"{default!r}{hint}"
            ) from error
    config = build(kind, given)
    known = list(given)
    # rclpy ignores overrides that nobody declares; a misspelt one must not go unnoticed.
    for name in getattr(node, "_parameter_overrides", {}):
        if name not in known and not foreign(name):
            raise ParameterError(_unknown(name, known))
    return config


def as_yaml(kind: type) -> str:
    """The parameter file with every parameter, its description and its default."""
    import yaml

    lines = ["/**:", "  ros__parameters:"]
    opened: list[str] = []
    for parameter in parameters(kind):
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
