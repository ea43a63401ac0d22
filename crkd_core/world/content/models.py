"""How objects of the ten classes look, from a few solids each.

A mesh is built in metres in the axes of its box (x forward, y left, z up) and is stretched at the
end to touch the box on all six sides (``Mesh.fitted``), so that a return from the surface lies
inside the annotated box.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from crkd_core.world.content.shapes import (
    CLOTH,
    COACH,
    DARK,
    LIGHT,
    METAL,
    SIGNAL,
    Colour,
    Mesh,
    Vector,
    ball,
    block,
    join,
    panel,
    tube,
)

TYRE = (0.07, 0.07, 0.08)
GLASS = (0.12, 0.15, 0.19)
WHITE = (0.92, 0.92, 0.9)
RED = (0.75, 0.06, 0.05)
LAMP = (1.0, 0.97, 0.8)
ORANGE = (0.95, 0.38, 0.05)
STEEL = (0.45, 0.46, 0.48)
SKIN = (0.75, 0.55, 0.42)


def _wheels(xs: Sequence[float], y: float, radius: float, width: float = 0.25) -> list[Mesh]:
    return [
        tube((x, s * (y - width), radius), (x, s * y, radius), radius, TYRE, DARK, sides=8, caps=1)
        for x in xs
        for s in (1, -1)
    ]


def _lights(l: float, w: float, z: float) -> list[Mesh]:
    x, y = l / 2, w / 2
    parts = []
    for s in (1, -1):
        inner, outer = sorted((s * y * 0.55, s * y * 0.95))
        parts.append(panel(x + 0.02, None, (inner, z - 0.09), (outer, z + 0.09), LAMP, LIGHT))
        parts.append(panel(-x - 0.02, None, (inner, z - 0.1), (outer, z + 0.1), RED, LIGHT))
    return parts


def car(size: Vector, colour: Colour, rng: np.random.Generator) -> Mesh:
    """Body, tapered glass cabin with a painted roof, wheels, lights."""
    l, w, h = size
    back, front = (-0.46, 0.22) if rng.random() < 0.5 else (-0.36, 0.2)
    belt = 0.56 * h
    cabin = block(
        (back * l, -0.46 * w, belt),
        (front * l, 0.46 * w, 0.96 * h),
        GLASS,
        DARK,
        taper=(0.72, 0.8),
    )
    mid, half = (back + front) / 2, (front - back) / 2 * 0.7
    roof = block(((mid - half) * l, -0.37 * w, 0.95 * h), ((mid + half) * l, 0.37 * w, h), colour)
    body = block((-l / 2, -w / 2, 0.17 * h), (l / 2, w / 2, belt), colour, taper=(0.97, 0.94))
    wheels = _wheels((-0.3 * l, 0.31 * l), w / 2 + 0.01, 0.33)
    return join([body, cabin, roof, *wheels, *_lights(l, w, 0.42 * h)])


def truck(size: Vector, colour: Colour, rng: np.random.Generator) -> Mesh:
    """Cab in colour, cargo box in white or grey, chassis, wheels."""
    l, w, h = size
    cab = min(2.2, 0.33 * l)
    cargo = WHITE if rng.random() < 0.6 else tuple(rng.uniform(0.3, 0.7, 3))
    x = l / 2 - cab
    return join(
        [
            block((x, -w / 2, 0.35), (l / 2, w / 2, 0.82 * h), colour, taper=(0.92, 0.96)),
            block((l / 2 - 0.25, -0.44 * w, 0.48 * h), (l / 2, 0.44 * w, 0.74 * h), GLASS, DARK),
            block((-l / 2, -w / 2, 0.32 * h), (x - 0.15, w / 2, h), cargo, COACH),
            block((-l / 2 + 0.1, -0.4 * w, 0.5), (x, 0.4 * w, 0.33 * h), TYRE, DARK),
            *_wheels((-0.33 * l, -0.2 * l, 0.36 * l), 0.48 * w, 0.5),
            *_lights(l, w, 0.7),
        ]
    )


def bus(size: Vector, colour: Colour, rng: np.random.Generator) -> Mesh:
    """Long tall body with a dark stripe of windows on every side."""
    l, w, h = size
    top, low = 0.82 * h, 0.45 * h
    panes = max(3, int(l / 2.4))
    edges = np.linspace(-0.47 * l, 0.47 * l, panes + 1)
    windows = [
        panel(None, s * (w / 2 + 0.01), (a + 0.1, low), (b - 0.1, top), GLASS, DARK)
        for a, b in pairwise(edges)
        for s in (1, -1)
    ]
    return join(
        [
            block((-l / 2, -w / 2, 0.3), (l / 2, w / 2, h), colour, COACH, taper=(0.99, 0.95)),
            block((l / 2 - 0.05, -0.45 * w, 0.35 * h), (l / 2 + 0.02, 0.45 * w, top), GLASS, DARK),
            block((-l / 2 - 0.02, -0.4 * w, 0.6 * h), (-l / 2 + 0.05, 0.4 * w, top), GLASS, DARK),
            block(
                (l / 2 - 0.05, -0.3 * w, 0.86 * h), (l / 2 + 0.03, 0.3 * w, 0.95 * h), LAMP, LIGHT
            ),
            *windows,
            *_wheels((-0.28 * l, 0.3 * l), w / 2 + 0.01, 0.5),
            *_lights(l, w, 0.7),
        ]
    )


def trailer(size: Vector, colour: Colour, rng: np.random.Generator) -> Mesh:
    """A long box high over a thin chassis, wheels at the back, legs at the front."""
    l, w, h = size
    ribs = np.linspace(-0.46 * l, 0.46 * l, 7)
    grey = tuple(np.asarray(colour) * 0.7)
    return join(
        [
            block((-l / 2, -w / 2 + 0.03, 1.2), (l / 2, w / 2 - 0.03, h), colour, COACH),
            *[
                panel(None, s * w / 2, (x - 0.06, 1.2), (x + 0.06, h - 0.02), grey, METAL)
                for x in ribs
                for s in (1, -1)
            ],
            block((-l / 2, -0.3 * w, 0.8), (0.45 * l, 0.3 * w, 1.22), TYRE, DARK),
            block((0.25 * l, -0.35 * w, 0), (0.27 * l, 0.35 * w, 1.0), STEEL, METAL),
            *_wheels((-0.4 * l, -0.3 * l), 0.49 * w, 0.5),
            block((-l / 2 - 0.02, -0.45 * w, 0.95), (-l / 2 + 0.05, 0.45 * w, 1.15), RED),
        ]
    )


def construction_vehicle(size: Vector, colour: Colour, rng: np.random.Generator) -> Mesh:
    """Tracks, a yellow body, an offset cab, and an excavator arm with a bucket at the front."""
    l, w, h = size
    arm = 0.16 * w
    elbow = (0.24 * l, 0.0, h)
    tip = (0.46 * l, 0.0, 0.35 * h)
    return join(
        [
            block((-0.45 * l, -w / 2, 0), (0.2 * l, -w / 2 + 0.25 * w, 0.26 * h), TYRE, DARK),
            block((-0.45 * l, w / 2 - 0.25 * w, 0), (0.2 * l, w / 2, 0.26 * h), TYRE, DARK),
            block((-0.5 * l, -0.46 * w, 0.28 * h), (0.12 * l, 0.46 * w, 0.58 * h), colour),
            block((-0.2 * l, 0.05 * w, 0.58 * h), (0.1 * l, 0.45 * w, 0.95 * h), GLASS, DARK),
            block((-0.21 * l, 0.04 * w, 0.93 * h), (0.11 * l, 0.46 * w, 0.98 * h), colour),
            tube((0.02 * l, -0.1 * w, 0.5 * h), elbow, arm, colour, METAL, sides=5),
            tube(elbow, tip, 0.8 * arm, colour, METAL, sides=5),
            block((0.38 * l, -0.25 * w, 0.08 * h), (0.5 * l, 0.25 * w, 0.38 * h), STEEL, METAL),
        ]
    )


def _person(height: float, shirt: Colour, trousers: Colour, stride: float) -> list[Mesh]:
    """A figure standing at z = 0, facing +x, in clothes that hang wide."""
    hip, neck = 0.47 * height, 0.83 * height
    legs = [
        tube((s * stride, s * 0.1, 0), (0, s * 0.11, hip), 0.11, trousers, CLOTH, sides=4)
        for s in (1, -1)
    ]
    arms = [
        tube((0, s * 0.27, neck), (-s * stride, s * 0.31, hip), 0.075, shirt, CLOTH, sides=4)
        for s in (1, -1)
    ]
    torso = block((-0.17, -0.24, hip), (0.17, 0.24, neck + 0.02), shirt, CLOTH, taper=(0.9, 0.95))
    head = ball((0.02, 0, 0.92 * height), (0.13, 0.12, 0.08 * height), SKIN, CLOTH, sides=5)
    return [*legs, *arms, torso, head]


def pedestrian(size: Vector, colour: Colour, rng: np.random.Generator) -> Mesh:
    """Legs in a stride, torso, arms, head."""
    trousers = tuple(rng.uniform(0.05, 0.3, 3))
    return join(_person(size[2], colour, trousers, size[0] / 2 - 0.08))


def _rider(seat: float, top: float, shirt: Colour) -> list[Mesh]:
    return [
        block((-0.3, -0.2, seat), (0.05, 0.2, seat + 0.62 * (top - seat)), shirt, CLOTH),
        ball((0, 0, top - 0.13), 0.13, (0.15, 0.15, 0.18), CLOTH, sides=5),
        tube((0, -0.15, seat), (0.15, -0.15, 0.25), 0.08, (0.1, 0.1, 0.2), CLOTH, sides=4),
        tube((0, 0.15, seat), (0.15, 0.15, 0.25), 0.08, (0.1, 0.1, 0.2), CLOTH, sides=4),
        tube((-0.05, 0.22, 1.25), (0.5, 0.25, 1.0), 0.05, shirt, CLOTH, sides=3),
        tube((-0.05, -0.22, 1.25), (0.5, -0.25, 1.0), 0.05, shirt, CLOTH, sides=3),
    ]


def _two_wheels(l: float, radius: float, width: float) -> list[Mesh]:
    x = l / 2 - radius
    return [
        tube(
            (s * x, -side * width, radius), (s * x, side * width, radius), radius, TYRE, DARK,
            sides=9, caps=1,
        )
        for s in (1, -1)
        for side in (1, -1)
    ]  # fmt: skip


def motorcycle(size: Vector, colour: Colour, rng: np.random.Generator, rider: bool) -> Mesh:
    """Two fat wheels, tank and seat, handlebar, lamp; a rider with a dark helmet."""
    l, w, h = size
    parts = [
        *_two_wheels(l, 0.32, 0.09),
        block((-0.32 * l, -0.16, 0.35), (0.26 * l, 0.16, 0.8), colour, taper=(0.8, 0.7)),
        block((-0.4 * l, -0.12, 0.75), (-0.02 * l, 0.12, 0.88), TYRE, DARK),
        block((0.3 * l, -w / 2, 0.98), (0.33 * l, w / 2, 1.05), STEEL, METAL),
        tube((0.38 * l, 0, 0.3), (0.3 * l, 0, 1.1), 0.06, STEEL, METAL, sides=4),
        block((0.33 * l, -0.09, 0.86), (0.4 * l, 0.09, 1.0), LAMP, LIGHT),
        block((-0.44 * l, -0.08, 0.7), (-0.4 * l, 0.08, 0.8), RED, LIGHT),
    ]
    shirt = tuple(rng.uniform(0.05, 0.5, 3))
    return join([*parts, *(_rider(0.85, h, shirt) if rider else ())])


def bicycle(size: Vector, colour: Colour, rng: np.random.Generator, rider: bool) -> Mesh:
    """Two thin wheels, a frame of tubes, handlebar; a rider in bright clothes."""
    l, w, h = size
    frame = [((-0.3 * l, 0.3), (-0.1 * l, 0.9)), ((-0.1 * l, 0.85), (0.25 * l, 0.85))]
    frame += [((-0.1 * l, 0.35), (0.25 * l, 0.8)), ((0.3 * l, 0.33), (0.22 * l, 1.0))]
    tubes = [
        tube((a[0], 0, a[1]), (b[0], 0, b[1]), 0.035, colour, METAL, sides=3) for a, b in frame
    ]
    bar = block((0.2 * l, -w / 2, 0.98), (0.23 * l, w / 2, 1.03), STEEL, METAL)
    shirt = tuple(rng.uniform(0.3, 0.95, 3))
    return join(
        [*_two_wheels(l, 0.33, 0.03), *tubes, bar, *(_rider(0.9, h, shirt) if rider else ())]
    )


def traffic_cone(size: Vector, colour: Colour, rng: np.random.Generator) -> Mesh:
    """Orange frustum with a white band on a dark foot."""
    l, w, h = size
    r, n = 0.42 * w, 8
    steps = [(0.05, 0.45, ORANGE), (0.45, 0.72, WHITE), (0.72, 1.0, ORANGE)]
    rings = [
        tube(
            (0, 0, a * h),
            (0, 0, b * h),
            r * (1.1 - a),
            c,
            SIGNAL,
            end_radius=r * (1.1 - b),
            sides=n,
            caps=int(b == 1.0),
        )
        for a, b, c in steps
    ]
    return join([block((-l / 2, -w / 2, 0), (l / 2, w / 2, 0.05 * h), TYRE, DARK), *rings])


def barrier(size: Vector, colour: Colour, rng: np.random.Generator) -> Mesh:
    """Six segments in orange and white along y (nuScenes barriers face across), on two feet."""
    l, w, h = size
    edges = np.linspace(-w / 2, w / 2, 7)
    boards = [
        block((-0.3 * l, a, 0.2 * h), (0.3 * l, b, h), (ORANGE, WHITE)[i % 2], SIGNAL)
        for i, (a, b) in enumerate(pairwise(edges))
    ]
    feet = [
        block((-l / 2, s * 0.36 * w - 0.1, 0), (l / 2, s * 0.36 * w + 0.1, 0.22 * h), STEEL, METAL)
        for s in (1, -1)
    ]
    return join([*boards, *feet])


#: Builders by class name; those of the two cycles also take ``rider``.
BUILDERS: dict[str, Callable[..., Mesh]] = {
    "car": car,
    "truck": truck,
    "bus": bus,
    "trailer": trailer,
    "construction_vehicle": construction_vehicle,
    "pedestrian": pedestrian,
    "motorcycle": motorcycle,
    "bicycle": bicycle,
    "traffic_cone": traffic_cone,
    "barrier": barrier,
}
