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
import functools
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

#: Words without quotes that rcl reads as true and false, and what they mean.
YAML_BOOLEANS = {
    word: word.lower() in ("y", "yes", "true", "on")
    for plain in ("y", "yes", "true", "on", "n", "no", "false", "off")
    for word in (plain, plain.capitalize(), plain.upper())
}

Config = TypeVar("Config")

#: Types of a dataclass's fields. They are parsed from their texts, a thousand times a start
#: otherwise: seconds in which a node that starts hears nothing.
hints_of: Callable[[type], dict[str, Any]] = functools.cache(typing.get_type_hints)


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
    hints = hints_of(config)
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


def of_one(config: Config, field: str, thing: str) -> Config:
    """A group as it is for one thing: what its ``override_knob`` says of it above the rest.

    Raises:
        ParameterError: the two do not go together.
    """
    given: Mapping[str, Any] = getattr(config, field)
    parts = [(name.partition("."), value) for name, value in given.items()]
    own = {leaf: value for (one, _, leaf), value in parts if one == thing}
    return replace(config, **own, **{field: {}})  # type: ignore[type-var]


def check_overrides(config: Any, field: str) -> None:
    """Every one of an ``override_knob``; call it in ``__post_init__``.

    Raises:
        ParameterError: what is given for one and for all do not go together; names the one.
    """
    for thing in sorted({name.partition(".")[0] for name in getattr(config, field)}):
        try:
            of_one(config, field, thing)
        except ParameterError as error:
            raise ParameterError(f"with what is given for {thing}: {error}") from error


def class_of(config: type, name: str, prefix: str = "") -> str | None:
    """The class whose parameter a dotted name is; None: it is no such parameter.

    Whether the weights have such a class is not known here.
    """
    hints = hints_of(config)
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
    now, nested = values(config), hints_of(type(config))
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


def classes_given(config: Any) -> list[str]:
    """The classes that any ``class_knob`` of a configuration has a value for."""
    return [c for name in values(config) if (c := class_of(type(config), name)) is not None]
