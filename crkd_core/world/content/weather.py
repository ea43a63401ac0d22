"""Weather and light of a drive, and which drives of a world have which."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from crkd_core.world import chance

CLEAR, RAIN, NIGHT = "clear", "rain", "night"
#: Shares of the drives of a world.
SHARES: Mapping[str, float] = MappingProxyType({CLEAR: 0.7, RAIN: 0.2, NIGHT: 0.1})

_FORM = "shares of clear, rain and night, such as clear=0.7,rain=0.3"


class WeatherError(ValueError):
    """Shares of weather that cannot be."""


Colour = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Weather:
    """Light and air of a drive.

    Attributes:
        kind: CLEAR, RAIN or NIGHT.
        sun: [3] unit vector towards the sun.
        direct, ambient: brightness of sun and sky; without direct light there are no shadows.
        haze: metres after which 63 % of a colour is replaced by the sky's.
        noise: standard deviation of the image noise, grey levels, before gain.
        shutter: seconds of exposure.
        zenith, horizon: colours of the sky.
    """

    kind: str
    sun: NDArray[np.float64]
    direct: float
    ambient: float
    haze: float
    noise: float
    shutter: float
    zenith: Colour
    horizon: Colour


def parse_shares(text: str) -> dict[str, float]:
    """``clear=0.7,rain=0.3`` to shares; ``night`` alone is night everywhere.

    Raises:
        WeatherError: not of this form.
    """
    shares = {}
    for part in text.split(","):
        name, _, number = part.partition("=")
        if name.strip() in shares:
            raise WeatherError(f"weather: expected {_FORM}, got {name.strip()} twice")
        try:
            shares[name.strip()] = float(number or 1)
        except ValueError as error:
            raise WeatherError(f"weather: expected {_FORM}, got {part.strip()!r}") from error
    check_shares(shares)
    return shares


def check_shares(shares: Mapping[str, float]) -> None:
    """Refuse unknown weather and invalid shares.

    Raises:
        WeatherError: says what is wrong.
    """
    good = all(value >= 0 and math.isfinite(value) for value in shares.values())
    if set(shares) - set(SHARES) or not good or not sum(shares.values()) > 0:
        given = ",".join(f"{name}={value:g}" for name, value in shares.items())
        raise WeatherError(f"weather: expected {_FORM}, got {given!r}")


def weather_kind(seed: int, number: int, shares: Mapping[str, float]) -> str:
    """The kind of weather of one drive, the same in worlds of any number of drives.

    Multiples of the golden ratio spread evenly, so that every stretch of drives holds the shares.
    """
    golden = (math.sqrt(5) - 1) / 2
    place = (float(chance.uniform(seed, 77)) + number * golden) % 1.0
    place *= sum(shares.values())
    for kind in (CLEAR, RAIN, NIGHT):
        place -= shares.get(kind, 0.0)
        if place < 0:
            return kind
    return max(shares, key=lambda kind: shares[kind])


def draw_weather(kind: str, rng: np.random.Generator) -> Weather:
    """Light and air of a kind: the sky may be blue or grey, rain light or heavy."""
    azimuth, elevation = rng.uniform(0, 2 * np.pi), np.deg2rad(rng.uniform(15, 65))
    sun = np.array(
        [
            np.cos(azimuth) * np.cos(elevation),
            np.sin(azimuth) * np.cos(elevation),
            np.sin(elevation),
        ]
    )
    gain, heavy = rng.uniform(0.85, 1.12), rng.random()
    noise, shutter = 2.0, 0.002
    if kind == NIGHT:
        # What is left of the sky over a town; lamps and headlights do the rest (sensors/light.py).
        direct, ambient, haze, noise, shutter = 0.0, rng.uniform(0.012, 0.03), 500.0, 2.6, 0.016
        zenith, horizon = (0.008, 0.01, 0.02), (0.035, 0.032, 0.04)
    elif kind == RAIN:
        direct, ambient, haze, noise, shutter = 0.0, 0.6, 260 - 140 * heavy, 2.5, 0.006
        zenith, horizon = (0.46, 0.49, 0.53), (0.58, 0.6, 0.63)
    elif rng.random() < 0.62:
        direct, ambient, haze = 0.8, 0.45, 900.0
        zenith, horizon = (0.28, 0.47, 0.78), (0.72, 0.8, 0.88)
    else:
        direct, ambient, haze = 0.12, 0.82, 500.0
        zenith, horizon = (0.62, 0.66, 0.7), (0.8, 0.82, 0.84)
    return Weather(
        kind=kind, sun=sun, direct=direct * gain, ambient=ambient * gain, haze=haze, noise=noise,
        shutter=shutter, zenith=zenith, horizon=horizon,
    )  # fmt: skip
