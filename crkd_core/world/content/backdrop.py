"""What closes the view beyond the first row of houses: more houses, trees."""

from __future__ import annotations

import numpy as np

from crkd_core.world.content import shapes
from crkd_core.world.content.layout import Filler
from crkd_core.world.content.shapes import LEAF, WALL, WOOD

#: Metres beside the road.
NEAREST, FARTHEST = 44.0, 100.0


def fill_backdrop(filler: Filler, low: float, high: float) -> None:
    """Houses and trees far beside the road, both sides, from s = low to high."""
    rng = filler.rng
    for side in (1, -1):
        s = low
        while s < high:
            d = rng.uniform(NEAREST, FARTHEST)
            clear = all(abs(s - road.s) > 16 for road in filler.side_roads)
            if clear and rng.random() < 0.55:
                width, depth = rng.uniform(10, 24), rng.uniform(9, 16)
                colour = np.clip(rng.uniform(0.35, 0.75) + rng.normal(0, 0.05, 3), 0.05, 0.95)
                house = shapes.block(
                    (-width / 2, -depth / 2, -2), (width / 2, depth / 2, rng.uniform(6, 26)),
                    colour, WALL,
                )  # fmt: skip
                filler.place(house, s, side * d)
            elif clear:
                filler.place(tree(rng, rng.uniform(2.5, 4.5)), s, side * d)
            s += rng.uniform(6, 18)


def tree(rng: np.random.Generator, height: float) -> shapes.Mesh:
    """A trunk and a crown."""
    crown = height * rng.uniform(0.4, 0.6)
    green = np.array([0.16, 0.3, 0.1]) * rng.uniform(0.6, 1.3) + rng.normal(0, 0.02, 3)
    return shapes.join(
        [
            shapes.tube((0, 0, -0.3), (0, 0, height), 0.16, (0.28, 0.2, 0.13), WOOD, sides=6),
            shapes.ball((0, 0, height + crown * 0.8), (crown, crown, crown * 1.2), green, LEAF),
        ]
    )
