"""Checks that the dataclasses share, and the error of all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from crkd_core.sensors import CAMERAS, RADARS

#: Most channels of anything, and most pixels of a side of an image.
MOST_CHANNELS = 8192


class ConfigError(ValueError):
    """A key or a value that the configuration does not know."""


def check_least(name: str, value: float, least: float) -> None:
    """Refuse a number below ``least``, infinity and NaN."""
    if not least <= value < math.inf:
        raise ConfigError(f"{name}: expected {least:g} or more, got {value}")


def check_range(name: str, value: Any, least: float, most: float) -> None:
    """Refuse numbers outside [least, most], and NaN.

    Args:
        name: of the field, for the error.
        value: a number, a tuple of numbers (of tuples), or None, which is fine.
        least: lower bound.
        most: upper bound. Those of sizes are there so that a damaged file asks for no more memory
            or time than there is; they are far beyond what anybody trains.
    """
    if isinstance(value, tuple):
        for part in value:
            check_range(name, part, least, most)
    elif value is not None and not least <= value <= most:
        raise ConfigError(f"{name}: expected {least:g} to {most:g}, got {shown(value)}")


def check_count(name: str, values: Sequence[object], least: int, most: int) -> None:
    """Refuse a list of fewer or more entries."""
    if not least <= len(values) <= most:
        expected = f"{least}" if least == most else f"{least} to {most}"
        raise ConfigError(f"{name}: expected {expected} entries, got {len(values)}")


def check_rising(name: str, low: float, high: float) -> None:
    """Refuse an upper bound that is not above the lower one."""
    if not low < high:
        raise ConfigError(f"{name}: expected the first below the second, got {low:g} and {high:g}")


def check_ordered(name: str, first: float, second: float) -> None:
    """Refuse a second bound below the first."""
    if not first <= second:
        raise ConfigError(
            f"{name}: expected the second no lower than the first, got {first:g} and {second:g}"
        )


def check_odd(name: str, value: int) -> None:
    """Refuse the side of a kernel that has no middle."""
    check_range(name, value, 1, 15)
    if value % 2 == 0:
        raise ConfigError(f"{name}: expected an odd number, got {value}")


def shown(value: object) -> str:
    """A value as an error shows it: not all of a long one."""
    text = repr(value)
    return text if len(text) <= 200 else text[:200] + "..."


def check_share(name: str, value: float) -> None:
    """Refuse what is not in [0, 1]."""
    if not 0 <= value <= 1:
        raise ConfigError(f"{name}: expected 0 to 1, got {value}")


def check_sensors(name: str, sensors: tuple[str, ...]) -> None:
    """Refuse names that are no camera and no radar."""
    unknown = [sensor for sensor in sensors if sensor not in CAMERAS + RADARS]
    if unknown:
        known = ", ".join(CAMERAS + RADARS)
        raise ConfigError(f"{name}: unknown {', '.join(unknown)}; known: {known}")


def check_classes(name: str, classes: Sequence[str], known: Sequence[str]) -> None:
    """Refuse a detector that knows a class that a data set does not.

    Args:
        name: of the detector.
        classes: its own.
        known: those of the data set.
    """
    unknown = [one for one in classes if one not in known]
    if unknown:
        raise ConfigError(
            f"detector {name} has classes that the data set does not know: {', '.join(unknown)}; "
            f"it knows {', '.join(known)}. Take a detector of these: detector.classes and "
            "detector.head.tasks"
        )


def check_per_class(name: str, values: Sequence[float], classes: Sequence[str]) -> None:
    """Refuse what is not one number for each class of a detector."""
    if len(values) != len(classes):
        raise ConfigError(
            f"{name}: expected {len(classes)} numbers, for {', '.join(classes)}; got {len(values)}"
        )
