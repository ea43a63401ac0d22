"""What fills the blocks beside the road: parked vehicles, work zones, lots, buildings, trees."""

from __future__ import annotations

import numpy as np

from crkd_core.world.content import shapes
from crkd_core.world.content.backdrop import tree
from crkd_core.world.content.layout import BLOCK, SIZES, Filler
from crkd_core.world.content.road import KERB, PARKING, SIDE_ROAD_HALF
from crkd_core.world.content.shapes import LIGHT, METAL, WALL

WALL_COLOURS = (
    (0.58, 0.36, 0.28), (0.72, 0.66, 0.55), (0.5, 0.5, 0.52), (0.8, 0.78, 0.74), (0.42, 0.34, 0.3),
    (0.62, 0.6, 0.45),
)  # fmt: skip


def fill_blocks(filler: Filler, side: int, low: float, high: float) -> None:
    """Fill one side of the road (+1 left, -1 right) from s = low to high."""
    rng = filler.rng
    themes: list[str] = []
    for start in np.arange(low, high, BLOCK):
        if not themes:
            themes = [str(t) for t in rng.permutation(filler.mix.themes)]
        crossing = [r for r in filler.side_roads if start - 10 < r.s < start + BLOCK + 10]
        if crossing:
            if not crossing[0].lights:
                _corner(filler, side, crossing[0].s)
            continue
        if filler.mix.begin and start <= 20 < start + BLOCK:
            theme = filler.mix.begin[int(side != filler.work_side)]
        else:
            theme = themes.pop()
        _BLOCKS[theme](filler, side, float(start))
        if theme != "cycles" and rng.random() < filler.mix.loiter * filler.mood.crowd:
            _loiter(filler, side, float(start), 1 + int(rng.poisson(0.6 * filler.mood.crowd)))
        _houses(filler, side, float(start), 26.5 if theme == "lot" else rng.uniform(16.8, 19.5))
        _street(filler, side, float(start), trees=bool(rng.random() < 0.7))


def _heading(filler: Filler, side: int) -> float:
    """Most vehicles stand along their side's traffic, some against it."""
    along = 0.0 if side < 0 else np.pi
    return along + (np.pi if filler.rng.random() < 0.12 else 0.0) + filler.rng.normal(0, 0.02)


def _row(filler: Filler, side: int, start: float, labels: list[str], attribute: str) -> None:
    s, end = start + filler.rng.uniform(0.5, 3), start + BLOCK - 0.5
    for label in labels:
        length = SIZES[label][0][0] * 1.12
        if s + length > end:
            return
        d = side * (PARKING + filler.rng.normal(0, 0.08))
        filler.stand(label, attribute, s + length / 2, d, _heading(filler, side))
        s += length + filler.rng.uniform(0.6, 2.5) + (6 if filler.rng.random() < 0.15 else 0)


def _cars(filler: Filler, side: int, start: float) -> None:
    filler.layout.say("parked cars")
    _row(filler, side, start, ["car"] * 5, "vehicle.parked")


def _plain(filler: Filler, side: int, start: float) -> None:
    """Nobody parks here, or almost."""
    _row(filler, side, start, ["car"] * int(filler.rng.integers(0, 2)), "vehicle.parked")


def _heavy(filler: Filler, side: int, start: float) -> None:
    choice = [["trailer", "truck"], ["truck", "trailer"], ["construction_vehicle", "trailer"]]
    _row(filler, side, start, choice[filler.rng.integers(3)], "vehicle.parked")


def _stop(filler: Filler, side: int, start: float) -> None:
    rng = filler.rng
    filler.layout.say("bus stop")
    state = "vehicle.stopped" if rng.random() < 0.6 else "vehicle.parked"
    _row(filler, side, start + 3, ["bus"], state)
    _row(filler, side, start + 17.5, ["car"], "vehicle.parked")
    _loiter(filler, side, start, int(rng.integers(1, 3)))


def _loiter(filler: Filler, side: int, start: float, count: int) -> None:
    rng = filler.rng
    spots = rng.choice(np.arange(1.0, BLOCK - 1, 1.3), count, replace=False)
    for s in spots:
        sits = rng.random() < 0.1
        filler.stand(
            "pedestrian",
            "pedestrian.sitting_lying_down" if sits else "pedestrian.standing",
            start + s,
            side * rng.uniform(11.8, 12.6),
            rng.uniform(0, 2 * np.pi),
        )


def _cycles(filler: Filler, side: int, start: float) -> None:
    rng = filler.rng
    for s in np.arange(start + 2, start + BLOCK - 2, 1.9):
        if rng.random() < 0.4:
            label = "bicycle" if rng.random() < 0.5 else "motorcycle"
            turn = rng.normal(np.pi / 2, 0.25) + (np.pi if rng.random() < 0.5 else 0)
            filler.stand(label, "cycle.without_rider", s, side * 12.0, turn)
    _row(filler, side, start, ["car"] * int(rng.integers(1, 4)), "vehicle.parked")


def _work(filler: Filler, side: int, start: float) -> None:
    rng = filler.rng
    filler.layout.say("construction")
    s0, s1 = start + 2.0, start + BLOCK - 2.0
    first, second = (str(x) for x in rng.permutation(["barrier", "traffic_cone"]))
    for label, low, high in ((first, s0, (s0 + s1) / 2), (second, (s0 + s1) / 2 + 1, s1)):
        step = 2.75 if label == "barrier" else rng.uniform(1.8, 3.0)
        for s in np.arange(low, high, step):
            turn = np.pi / 2 * (1 if rng.random() < 0.5 else -1) + rng.normal(0, 0.04)
            filler.stand(
                label, "", s + rng.normal(0, 0.06), side * (9.0 + rng.normal(0, 0.1)), turn
            )
    if rng.random() < filler.mix.fences:
        for s in np.arange(s0 + 1.5, s1 - 1.0, 2.75):
            turn = np.pi / 2 + rng.normal(0, 0.04)
            filler.stand("barrier", "", s, side * (12.72 + rng.normal(0, 0.04)), turn)
    for s in (s0 - 0.8, s1 + 0.8):
        filler.stand("traffic_cone", "", s, side * (10.2 + rng.normal(0, 0.2)), 0.0)
    along = rng.uniform(s0 + 5, s1 - 5)
    draw = rng.random()
    if draw < 2 * filler.mix.machines:
        machine = "construction_vehicle" if draw < filler.mix.machines else "truck"
        filler.stand(machine, "vehicle.parked", along, side * 11.2, _heading(filler, side))
    for s in (along - 6.5, along + 6.5):
        if rng.random() < 0.8:
            filler.stand(
                "pedestrian", "pedestrian.standing", s, side * rng.uniform(10.2, 12.3),
                rng.uniform(0, 2 * np.pi),
            )  # fmt: skip
            filler.layout.actors[-1].category = "human.pedestrian.construction_worker"


def _lot(filler: Filler, side: int, start: float) -> None:
    rng = filler.rng
    filler.layout.say("parking lot")
    filler.layout.lots.append(
        (start, start + BLOCK, *sorted((side * 15.0, side * 26.0)))  # type: ignore[arg-type]
    )
    s = start + 1.0
    while s < start + BLOCK - 4:
        draw = rng.random()
        label = "car" if draw < 0.7 else str(rng.choice(filler.mix.lot))
        length, width = SIZES[label][0][0], SIZES[label][0][1]
        if label == "trailer":
            length, width = width, length
            turn = 0.0 if rng.random() < 0.5 else np.pi
        else:
            turn = np.pi / 2 * (1 if rng.random() < 0.5 else -1)
        width *= 1.15
        if s + width > start + BLOCK:
            return
        if rng.random() < 0.75:
            d = 16.2 + length / 2 + rng.uniform(0, 0.8)
            filler.stand(
                label, "vehicle.parked", s + width / 2, side * d, turn + rng.normal(0, 0.04)
            )
        s += width + rng.uniform(0.5, 1.0)


_BLOCKS = {
    "work": _work, "cars": _cars, "plain": _plain, "heavy": _heavy, "stop": _stop,
    "cycles": _cycles, "lot": _lot,
}  # fmt: skip


def _corner(filler: Filler, side: int, s: float) -> None:
    """Vehicles on a side road: one waits, one drives away, some are parked along it."""
    rng = filler.rng
    if any(a.lane == -2 and a.s == s and np.sign(a.d) == side for a in filler.layout.actors):
        return  # both blocks at a crossing ask for it
    out = np.pi / 2 * side
    labels = ("car", "car", "truck", "bus", "motorcycle")
    d = 15.5
    for i in range(int(rng.integers(1, 4))):
        label = str(rng.choice(labels))
        length = SIZES[label][0][0] * 1.1
        state = "cycle.with_rider" if label == "motorcycle" else "vehicle.stopped"
        # Right-hand traffic: who comes towards the main road keeps to its own right.
        filler.stand(label, state, s - side * 1.9, side * (d + length / 2), out + np.pi)
        if i == 0:
            filler.layout.actors[-1].lane, filler.layout.actors[-1].s = -2, s
            filler.layout.actors[-1].d = side
        d += length + rng.uniform(1.5, 3)
    label = str(rng.choice(labels))
    state = "cycle.with_rider" if label == "motorcycle" else "vehicle.moving"
    filler.stand(label, state, s + side * 1.9, side * rng.uniform(14, 30), out)
    filler.layout.actors[-1].speed = float(rng.uniform(2, 7))
    for d in np.arange(20.0, 60.0, 6.5):
        if rng.random() < 0.5:
            filler.stand("car", "vehicle.parked", s + side * 4.75, side * d, out)
    for d in np.arange(17.0, 45.0, 9.0):
        if rng.random() < 0.5:
            filler.stand(
                "pedestrian", "pedestrian.moving", s + side * 6.6, side * d,
                out + (np.pi if rng.random() < 0 else 0.0),
            )  # fmt: skip
            filler.layout.actors[-1].speed = float(rng.uniform(0.7, 1.6))


def _houses(filler: Filler, side: int, start: float, setback: float) -> None:
    rng = filler.rng
    if rng.random() < 0.12:
        return
    width, depth, height = BLOCK - rng.uniform(0.5, 7), rng.uniform(9, 14), rng.uniform(5, 22)
    for road in filler.side_roads:
        if abs(start + BLOCK / 2 - road.s) < BLOCK / 2 + SIDE_ROAD_HALF + 3:
            return
    colour = np.asarray(WALL_COLOURS[rng.integers(len(WALL_COLOURS))]) + rng.normal(0, 0.03, 3)
    parts = [
        shapes.block((-width / 2, -depth / 2, -1), (width / 2, depth / 2, height), colour, WALL)
    ]
    if rng.random() < 0.5:
        roof = np.asarray((0.36, 0.2, 0.16)) * rng.uniform(0.7, 1.2)
        low = (-width / 2 - 0.4, -depth / 2 - 0.4, height)
        high = (width / 2 + 0.4, depth / 2 + 0.4, height + rng.uniform(1.5, 4))
        parts.append(shapes.block(low, high, roof, shapes.PAINT, taper=(0.8, 0.1)))
    filler.place(shapes.join(parts), start + BLOCK / 2, side * (setback + depth / 2))


def _street(filler: Filler, side: int, start: float, *, trees: bool) -> None:
    rng = filler.rng
    for s in (start + 4, start + 17):
        if trees and rng.random() < 0.8:
            filler.place(tree(rng, rng.uniform(2.2, 3.2)), s + rng.uniform(-2, 2), side * 15.5)
    if rng.random() < 0.6:
        lamp = shapes.join(
            [
                shapes.tube((0, 0, 0), (0, 0, 7), 0.09, (0.35, 0.36, 0.38), METAL, sides=6),
                shapes.block((-0.15, -0.9, 6.9), (0.15, 0.9, 7.0), (0.35, 0.36, 0.38), METAL),
                shapes.block((-0.12, -0.85, 6.86), (0.12, 0.85, 6.9), (1.0, 0.86, 0.6), LIGHT),
            ]
        )
        filler.place(lamp, start + 12.5, side * (KERB + 0.25))
        x, y, _ = filler.road.at(start + 12.5, side * (KERB - 0.3))
        filler.layout.lamps.append(np.array([x, y, filler.terrain.height(x) + 6.85]))
