"""ROS parameters generated from frozen dataclasses whose fields are made by ``knob``.

A field's name is the parameter and the YAML key, its default the only default, its metadata the
description and the range that ``ros2 param describe`` shows. A dataclass within a dataclass is a
group (``sync.wait``). The detector node's own are in node.py.

A field made by ``class_knob`` is one parameter for each class of the weights, which are known
later than parameter files are read. One made by ``override_knob`` is any parameter of its group
once more, for one sensor.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

#: Parameters that rclpy declares by itself.
_FOREIGN = ("use_sim_time", "start_type_description_service")
#: How those begin that it declares on behalf of a subscription.
QOS_OVERRIDES = "qos_overrides."

#: What ROS shows of a parameter that is not ``dynamic``.
UNCONFIGURED = "may change only while the node is unconfigured"

#: Words without quotes that rcl reads as true and false, and what they mean.
YAML_BOOLEANS = {
    word: word.lower() in ("y", "yes", "true", "on")
    for plain in ("y", "yes", "true", "on", "n", "no", "false", "off")
    for word in (plain, plain.capitalize(), plain.upper())
}

Config = TypeVar("Config")


#: Types of a dataclass's fields. They are parsed from their texts, a thousand times a start
#: otherwise: seconds in which a node that starts hears nothing.
_hints: Callable[[type], dict[str, Any]] = functools.cache(typing.get_type_hints)


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


def class_knob(
    default: Callable[[str], Any],
    description: str,
    *,
    low: float | None = None,
    high: float | None = None,
    dynamic: bool = False,
) -> Any:
    """A dataclass field, a mapping from class to value, that is one parameter for each class.

    Its parameters stand beside the group's others under the classes' names: ``thresholds.car``.
    The mapping holds what is given; ``of_class`` has the default of the others.

    Args:
        default: class -> default.
        description: with ``{name}`` for the class.
        low: the least value of a number.
        high: its greatest.
        dynamic: it may change while the node is active.
    """
    metadata = {"description": description, "low": low, "high": high, "dynamic": dynamic}
    return dataclasses.field(default_factory=dict, metadata={**metadata, "default_of": default})


def override_knob(names: Collection[str]) -> Any:
    """The last field of a dataclass, a mapping: what its parameters are for single things.

    ``radar_fields.RADAR_FRONT.rcs`` is ``"RADAR_FRONT.rcs"`` of the mapping. Only what is given is
    a parameter: what is not is as the group says.

    Args:
        names: of the things.
    """
    # Not hashed, so that a group without overrides can be a key.
    return dataclasses.field(default_factory=dict, hash=False, metadata={"overrides": (*names,)})


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One leaf of a configuration dataclass: dotted name, type, default and metadata.

    ``of_class``: it is one of a ``class_knob``; ``overrides``: of an ``override_knob``.
    """

    name: str
    kind: Any
    default: Any
    description: str
    low: float | None
    high: float | None
    dynamic: bool
    of_class: bool = False
    overrides: bool = False


def parameters(
    config: type, prefix: str = "", *, classes: Collection[str] = (), given: Collection[str] = ()
) -> Iterator[Parameter]:
    """Every parameter of a configuration dataclass, in order, its groups last.

    Plain fields are none.

    Args:
        config: the dataclass.
        prefix: goes before every name.
        classes: those of the weights, for the parameters that each class has.
        given: names that were given, of which some may override others.
    """
    hints = _hints(config)
    overridden = dict[str, Parameter]()

    def group(field: dataclasses.Field[Any]) -> bool:
        return dataclasses.is_dataclass(hints[field.name])

    for field in sorted(dataclasses.fields(config), key=group):
        hint, metadata = hints[field.name], dict(field.metadata)
        default_of = metadata.pop("default_of", None)
        if group(field):
            inner = f"{prefix}{field.name}."
            yield from parameters(hint, inner, classes=classes, given=given)  # type: ignore
        elif default_of is not None:
            described = metadata.pop("description")
            for name in classes:
                yield Parameter(
                    name=prefix + name,
                    kind=typing.get_args(hint)[1],
                    default=default_of(name),
                    description=described.format(name=name.replace("_", " ")),
                    of_class=True,
                    **metadata,
                )
        elif names := metadata.get("overrides"):
            for name, leaf in overridden.items():
                thing = name.removeprefix(prefix).partition(".")[0]
                if thing in names:
                    described = f"Of {thing} alone: {leaf.description}"
                    yield replace(leaf, name=name, description=described, overrides=True)
        elif metadata:
            found = Parameter(
                name=prefix + field.name, kind=hint, default=field.default, **metadata
            )
            yield found
            # prefix.THING.leaf overrides prefix.leaf.
            overridden |= {
                name: found
                for name in given
                if name.startswith(prefix)
                and name.removeprefix(prefix).partition(".")[2] == field.name
            }


def of_class(config: Any, field: str, name: str) -> Any:
    """What a ``class_knob`` says of one class: the given value, else the default."""
    given = getattr(config, field)
    if name in given:
        return given[name]
    (knob_of,) = (one for one in dataclasses.fields(config) if one.name == field)
    return knob_of.metadata["default_of"](name)


def class_of(config: type, name: str, prefix: str = "") -> str | None:
    """The class whose parameter a dotted name is; None: it is no such parameter.

    Whether the weights have such a class is not known here.
    """
    hints = _hints(config)
    for field in dataclasses.fields(config):
        inner = f"{prefix}{field.name}."
        if dataclasses.is_dataclass(hints[field.name]) and name.startswith(inner):
            return class_of(hints[field.name], name, inner)  # type: ignore[arg-type]
    per_class = any("default_of" in field.metadata for field in dataclasses.fields(config))
    leaf = name.removeprefix(prefix)
    return leaf if per_class and leaf not in hints else None


def check(config: Any, prefix: str) -> None:
    """Ranges and choices of one dataclass's own fields; call it in ``__post_init__``.

    Args:
        config: the dataclass.
        prefix: of its parameters' names, such as ``"sync."``.

    Raises:
        ParameterError: names the parameter, what is allowed, and what came.
    """
    now, nested = values(config), _hints(type(config))
    for parameter in parameters(type(config), classes=classes_given(config), given=now):
        # A group within it has checked itself.
        if parameter.name not in now or dataclasses.is_dataclass(
            nested.get(parameter.name.partition(".")[0])
        ):
            continue
        value, name = now[parameter.name], prefix + parameter.name
        if typing.get_origin(parameter.kind) is Literal:
            choices = typing.get_args(parameter.kind)
            if value not in choices:
                raise ParameterError(
                    f"{name}: expected one of {', '.join(choices)}, got {value!r}"
                )
        if isinstance(value, str) and value in YAML_BOOLEANS:
            raise ParameterError(
                f"{name}: {value!r} is a boolean for YAML, so it would not survive ros2 param "
                "dump and load; choose another name"
            )
        # Written so that a NaN fails too.
        if parameter.low is not None and not (
            parameter.low <= value <= typing.cast(float, parameter.high)
        ):
            raise ParameterError(
                f"{name}: expected {parameter.low} to {parameter.high}, got {value!r}"
            )


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
        hints = _hints(cls)
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


def foreign(name: str) -> bool:
    """Whether a parameter is rclpy's, whatever the node.

    Which QoS can be overridden is known once there are topics (node/qos_overrides.py).
    """
    return name in _FOREIGN or name.startswith(QOS_OVERRIDES)


def values(config: Any, prefix: str = "") -> dict[str, Any]:
    """The dotted name and the value of every parameter of a configuration, in order.

    Of a ``class_knob``, the classes that are given; of an ``override_knob``, what is.
    """
    found: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), prefix + field.name
        if dataclasses.is_dataclass(value):
            found |= values(value, name + ".")
        elif {"default_of", "overrides"} & {*field.metadata}:
            found |= {prefix + one: given for one, given in value.items()}
        elif field.metadata:
            found[name] = value
    return found


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


def classes_given(config: Any) -> list[str]:
    """The classes that any ``class_knob`` of a configuration has a value for."""
    return [c for name in values(config) if (c := class_of(type(config), name)) is not None]


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


def unknown(name: str, known: Sequence[str]) -> str:
    """What to say of a parameter that does not exist."""
    near = difflib.get_close_matches(name, [*known, *_FOREIGN], n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    return f"unknown parameter {name!r}; {hint}"
