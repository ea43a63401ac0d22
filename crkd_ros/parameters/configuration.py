"""Configurations made of values by dotted names, and changed by them: see knobs.py."""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from crkd_ros.parameters.knobs import (
    ParameterError,
    class_of,
    classes_given,
    hints_of,
    parameters,
    values,
)

#: Parameters that rclpy declares by itself.
_FOREIGN = ("use_sim_time", "start_type_description_service")
#: How those begin that it declares on behalf of a subscription.
QOS_OVERRIDES = "qos_overrides."

#: What ROS shows of a parameter that is not ``dynamic``.
UNCONFIGURED = "may change only while the node is unconfigured"

Config = TypeVar("Config")


def build(
    kind: type[Config], values: Mapping[str, Any], *, plain: Mapping[str, Any] | None = None
) -> Config:
    """A configuration of dotted names; absent ones take their defaults.

    Args:
        kind: its dataclass.
        values: of its parameters.
        plain: dotted name -> value of fields that are no parameters.

    Raises:
        ParameterError: an unknown name, or a value that is not allowed.
    """

    def converted(value: Any, kind: Any) -> Any:
        return tuple(value) if typing.get_origin(kind) is tuple else value

    def part(cls: type, prefix: str) -> Any:
        hints = hints_of(cls)
        chosen: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            name, kind = prefix + field.name, hints[field.name]
            if dataclasses.is_dataclass(kind):
                chosen[field.name] = part(kind, name + ".")  # type: ignore[arg-type]
            elif "default_of" in field.metadata:
                own = {c: n for n in values if (c := class_of(cls, n, prefix)) and prefix + c == n}
                inner = typing.get_args(kind)[1]
                chosen[field.name] = {c: converted(values[n], inner) for c, n in own.items()}
            elif "overrides" in field.metadata:
                chosen[field.name] = {
                    one.name.removeprefix(prefix): converted(values[one.name], one.kind)
                    for one in overriding
                    if one.name.startswith(prefix)
                }
            elif field.metadata and name in values:
                chosen[field.name] = converted(values[name], kind)
            elif not field.metadata and plain and name in plain:
                chosen[field.name] = plain[name]
        return cls(**chosen)

    every = list(parameters(kind, given=values))
    overriding = [one for one in every if one.overrides]
    known = [one.name for one in every]
    for name in values:
        if name not in known and class_of(kind, name) is None:
            raise ParameterError(unknown(name, known))
    config: Config = part(kind, "")
    return config


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
    if not ours:
        return config
    for parameter in parameters(type(config), classes=classes_given(config), given=now):
        name = parameter.name
        if name not in ours or parameter.dynamic or not only_dynamic:
            continue
        if ours[name] != (list(now[name]) if isinstance(now[name], tuple) else now[name]):
            raise ParameterError(f"{name} {UNCONFIGURED}: send it through cleanup first")
    return build(type(config), {**now, **ours}, plain=plain_fields(config))


def plain_fields(config: Any, prefix: str = "") -> dict[str, Any]:
    """The dotted name and the value of every field that is no parameter."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), prefix + field.name
        if dataclasses.is_dataclass(value):
            found |= plain_fields(value, name + ".")
        elif not field.metadata:
            found[name] = value
    return found


def foreign(name: str) -> bool:
    """Whether a parameter is rclpy's, whatever the node.

    Which QoS can be overridden is known once there are topics (node/qos_overrides.py).
    """
    return name in _FOREIGN or name.startswith(QOS_OVERRIDES)


def unknown(name: str, known: Sequence[str]) -> str:
    """What to say of a parameter that does not exist."""
    near = difflib.get_close_matches(name, [*known, *_FOREIGN], n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    return f"unknown parameter {name!r}; {hint}"
