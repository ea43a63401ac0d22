"""Parameters on an rclpy node: declared from a configuration dataclass, and read into one.

Parameters that each class has are declared when the weights are loaded; those that were given at
the start, at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from crkd_ros.parameters.configuration import UNCONFIGURED, build, foreign, plain_fields, unknown
from crkd_ros.parameters.knobs import (
    Parameter,
    ParameterError,
    class_of,
    classes_given,
    parameters,
    values,
)

#: YAML reads these words, and ROS numbers, as something else.
_QUOTES = "texts like off, on, yes, no and 1 need quotes: -p \"base_frame:='1'\""

Config = TypeVar("Config")


def declare(node: Any, kind: type[Config]) -> Config:
    """Declare every parameter on an rclpy node and answer the configuration it was started with.

    What is not ``dynamic`` is not read-only for ROS: a lifecycle node takes it up when it is
    configured. ``changed`` is what refuses it at other times. Of what each class has, only what
    was given is declared: see ``declare_classes``.

    Raises:
        ParameterError: a value of another type or outside its range, or an override of a parameter
            that does not exist (the text names the nearest one).
    """
    # rclpy ignores overrides that nobody declares; a misspelt one must not go unnoticed.
    overrides = getattr(node, "_parameter_overrides", {})
    classes = {one for name in overrides if (one := class_of(kind, name)) is not None}
    given = {
        parameter.name: _declare(node, parameter)
        for parameter in parameters(kind, classes=sorted(classes), given=overrides)
        if not parameter.of_class or parameter.name in overrides
    }
    for name in overrides:
        if name not in given and not foreign(name):
            raise ParameterError(unknown(name, list(given)))
    for name, value in ({name: one.value for name, one in overrides.items()} | given).items():
        if value is None:
            raise ParameterError(f"parameter {name}: expected one value, got an empty list")
    return build(kind, given)


def declare_classes(node: Any, config: Config, classes: Sequence[str]) -> Config:
    """Declare what each class has; withdraw what was declared for classes of other weights.

    Args:
        node: ``config`` is declared on it.
        config: as it is. It has a plain field ``classes``.
        classes: of the weights that are loaded now.

    Returns:
        The configuration with ``classes`` and a value for each of them.

    Raises:
        ParameterError: something is set for a class that these weights do not have, or is not
            allowed with them; nothing is changed then.
    """
    kind, now = type(config), values(config)
    wanted = {one.name: one for one in parameters(kind, classes=classes) if one.of_class}
    before = [
        one
        for one in parameters(kind, classes=sorted({*classes_given(config)}))
        if one.of_class and one.name in now and one.name not in wanted
    ]
    for one in before:
        if now[one.name] != one.default:
            raise ParameterError(
                f"{one.name} is set to {now[one.name]!r}, but the weights have no class "
                f"{class_of(kind, one.name)!r}; their classes: {', '.join(classes)}"
            )
    taken = [name for name in wanted if class_of(kind, name) is None]
    if taken:
        raise ParameterError(f"{taken[0]} is a parameter already; no class can have this name")
    left = {name: value for name, value in now.items() if name not in {one.name for one in before}}
    new = [one for name, one in wanted.items() if name not in now]
    checked = build(
        kind,
        {**left, **{one.name: one.default for one in new}},
        plain={**plain_fields(config), "classes": tuple(classes)},
    )
    for one in before:
        node.undeclare_parameter(one.name)
    for one in new:
        # What was given for it at the start has been taken back since, or it would be here.
        _declare(node, one, given=False)
    return checked


def _declare(node: Any, parameter: Parameter, *, given: bool = True) -> Any:
    """Declare one parameter and answer its value; ``given``: the one of the start, if any."""
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
    from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException

    descriptor = ParameterDescriptor(
        description=parameter.description,
        additional_constraints="" if parameter.dynamic else UNCONFIGURED,
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
        value = node.declare_parameter(
            parameter.name, default, descriptor, ignore_override=not given
        ).value
    except (InvalidParameterTypeException, InvalidParameterValueException) as error:
        hint = "" if not isinstance(default, str) else f"; {_QUOTES}"
        raise ParameterError(
            f"parameter {parameter.name} ({parameter.description}): {error}; the default is "
            f"{default!r}{hint}"
        ) from error
    # Of an empty list, rcl makes a parameter without a value.
    return () if value is None and isinstance(parameter.default, tuple) else value
