"""A colour for every class, also for those that nobody has chosen one for."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence

#: Red, green, blue in [0, 1].
Color = tuple[float, float, float]

#: Successive hues are this far apart, as a share of the circle: the golden angle, with which any
#: number of them stay apart.
_HUE_STEP = 0.381966
_SATURATION, _VALUE = 0.65, 0.95


def class_colors(classes: Sequence[str], chosen: Mapping[str, Color]) -> tuple[Color, ...]:
    """One colour per class: the chosen one of its name, else one made for its place.

    The same list gives the same colours.

    Args:
        classes: names.
        chosen: name -> colour.
    """
    made = [name for name in classes if name not in chosen]
    return tuple(chosen.get(name) or _made(made.index(name)) for name in classes)


def _made(place: int) -> Color:
    return colorsys.hsv_to_rgb(place * _HUE_STEP % 1.0, _SATURATION, _VALUE)
