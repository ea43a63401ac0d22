"""Makes the objects of a drive and remembers what has been put where.

Sizes follow the mean sizes of the nuScenes classes. Both sides of the road are cut into blocks of
26 m (themes.py); what moves keeps to lines of the road (traffic.py, motion.py).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from crkd_core.world.content import models
from crkd_core.world.content.mix import Mix
from crkd_core.world.content.road import Road, SideRoad
from crkd_core.world.content.shapes import Mesh
from crkd_core.world.content.terrain import Terrain

#: Mean length, width, height in metres and their relative spread.
SIZES = {
    "car": ((4.62, 1.95, 1.73), 0.06),
    "truck": ((6.95, 2.51, 2.84), 0.12),
    "bus": ((11.2, 2.9, 3.47), 0.06),
    "trailer": ((12.2, 2.85, 3.85), 0.08),
    "construction_vehicle": ((6.4, 2.75, 3.2), 0.1),
    "pedestrian": ((0.73, 0.67, 1.75), 0.07),
    "motorcycle": ((2.11, 0.77, 1.47), 0.06),
    "bicycle": ((1.7, 0.6, 1.3), 0.05),
    "traffic_cone": ((0.41, 0.41, 1.05), 0.08),
    "barrier": ((0.5, 2.5, 0.98), 0.05),
}
CATEGORIES = {
    "car": "vehicle.car",
    "truck": "vehicle.truck",
    "bus": "vehicle.bus.rigid",
    "trailer": "vehicle.trailer",
    "construction_vehicle": "vehicle.construction",
    "pedestrian": "human.pedestrian.adult",
    "motorcycle": "vehicle.motorcycle",
    "bicycle": "vehicle.bicycle",
    "traffic_cone": "movable_object.trafficcone",
    "barrier": "movable_object.barrier",
}
CAR_COLOURS = (
    (0.85, 0.85, 0.86), (0.08, 0.08, 0.09), (0.45, 0.46, 0.48), (0.62, 0.64, 0.66),
    (0.55, 0.06, 0.06), (0.08, 0.14, 0.42), (0.1, 0.25, 0.2), (0.5, 0.42, 0.32), (0.75, 0.6, 0.1),
)  # fmt: skip
BUS_COLOURS = ((0.75, 0.12, 0.1), (0.1, 0.45, 0.25), (0.85, 0.8, 0.65), (0.15, 0.35, 0.65))
YELLOW = ((0.92, 0.68, 0.05), (0.95, 0.6, 0.03), (0.85, 0.72, 0.1))
BLOCK = 26.0


@dataclass(kw_only=True)
class Actor:
    """One annotated object.

    It either follows ``lane`` (a line of motion.py) from ``s`` at lateral ``d``, or stays at /
    moves straight from (x, y) along ``yaw`` with ``speed``. ``attribute`` is that of a moving
    object; while it stands it has another (truth.py).
    """

    label: str
    size: tuple[float, float, float]
    mesh: Mesh
    category: str
    attribute: str
    lane: int = -1
    s: float = 0.0
    d: float = 0.0
    turn: float = 0.0
    x: float = 0.0
    y: float = 0.0
    yaw: float = 0.0
    speed: float = 0.0


@dataclass(kw_only=True)
class Layout:
    """Everything in a drive that is not the ground.

    Attributes:
        actors: annotated objects.
        scenery: all other solids.
        lots: paved rectangles, see ``Ground``.
        lamps: [3] light of each street lamp, local frame.
        words: what a description of the drive would name.
    """

    actors: list[Actor] = field(default_factory=list)
    scenery: list[Mesh] = field(default_factory=list)
    lots: list[tuple[float, float, float, float]] = field(default_factory=list)
    lamps: list[NDArray[np.float64]] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    def say(self, word: str) -> None:
        """Add a word to the description, once."""
        if word not in self.words:
            self.words.append(word)


@dataclass(frozen=True, kw_only=True)
class Mood:
    """How crowded the pavement and the lanes of a drive are; 1 is the mean."""

    crowd: float = 1.0
    traffic: float = 1.0


class Filler:
    """Puts actors and scenery on one road.

    Args:
        road: where to.
        terrain: how high.
        side_roads: crossings, kept free.
        mix: how often what.
        rng: draws everything.
    """

    def __init__(
        self, *, road: Road, terrain: Terrain, side_roads: list[SideRoad], mix: Mix,
        rng: np.random.Generator,
    ) -> None:  # fmt: skip
        self.road, self.terrain, self.side_roads = road, terrain, side_roads
        self.mix, self.rng = mix, rng
        self.layout = Layout()
        self.work_side = int(rng.choice([1, -1]))
        moods = np.exp(rng.normal(0, (0.6, 0.3)) - (0.18, 0.045)) if mix.moods else (1.0, 1.0)
        self.mood = Mood(crowd=float(moods[0]), traffic=float(moods[1]))

    def make(self, label: str, attribute: str, **place: float) -> Actor:
        """A new object of a class with its own size, colour and mesh."""
        rng = self.rng
        mean, spread = SIZES[label]
        size = np.array(mean) * np.clip(rng.normal(1, spread, 3), 1 - 2 * spread, 1 + 2 * spread)
        category = CATEGORIES[label]
        rider = attribute == "cycle.with_rider"
        if label in ("motorcycle", "bicycle"):
            size[2] = rng.uniform(1.62, 1.85) if rider else rng.uniform(1.05, 1.2)
        if label == "bus" and rng.random() < 0.2:
            category = "vehicle.bus.bendy"
        if label == "pedestrian":
            draw = rng.random()
            if draw < 0.08:
                category, size = "human.pedestrian.child", size * [0.8, 0.8, 0.7]
            elif draw < 0.1:
                category = "human.pedestrian.police_officer"
            if attribute != "pedestrian.moving":
                size[0] *= 0.75
        mesh = self._mesh(label, size, rider)
        actor = Actor(
            label=label,
            size=(float(size[0]), float(size[1]), float(size[2])),
            mesh=mesh.fitted(size),
            category=category,
            attribute=attribute,
            **place,  # type: ignore[arg-type]
        )
        self.layout.actors.append(actor)
        return actor

    def _mesh(self, label: str, size: np.ndarray, rider: bool) -> Mesh:
        rng = self.rng
        palette = {"bus": BUS_COLOURS, "construction_vehicle": YELLOW}.get(label, CAR_COLOURS)
        colour = np.clip(palette[rng.integers(len(palette))] + rng.normal(0, 0.03, 3), 0.02, 0.98)
        if label in ("pedestrian", "motorcycle", "bicycle"):
            colour = rng.uniform(0.05, 0.95, 3)
        if label == "trailer":
            colour = rng.uniform(0.6, 0.9) + rng.normal(0, 0.06, 3)
        extra = {"rider": rider} if label in ("motorcycle", "bicycle") else {}
        return models.BUILDERS[label](size, colour, rng, **extra)

    def place(self, mesh: Mesh, s: float, d: float) -> None:
        """Put scenery at (s, d), turned along the road."""
        x, y, yaw = self.road.at(s, d)
        c, n = np.cos(yaw), np.sin(yaw)
        turn = np.array([[c, -n, 0], [n, c, 0], [0, 0, 1]])
        vertices = mesh.vertices @ turn.T + [x, y, self.terrain.height(x)]
        self.layout.scenery.append(dataclasses.replace(mesh, vertices=vertices.astype(np.float32)))

    def stand(self, label: str, attribute: str, s: float, d: float, turn: float) -> None:
        """A standing object; ``turn`` is its yaw against the road."""
        x, y, yaw = self.road.at(s, d)
        self.make(label, attribute, x=float(x), y=float(y), yaw=float(yaw) + turn)
