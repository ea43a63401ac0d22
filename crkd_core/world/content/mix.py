"""How often each class occurs: as in nuScenes, or all ten near the road in every drive."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Mix:
    """What a drive is filled with.

    Attributes:
        lanes: weights of the vehicles in the lanes; a trailer comes with its truck.
        gap: mean metres between them, beyond what safety asks.
        riders: mean metres between riders on one side of the road.
        bicycles: share of bicycles among them, the rest are motorcycles.
        walkers: mean metres between people on one line of the pavement.
        loiter: chance that somebody stands about in a block beside the road.
        themes: blocks beside the road; the list is shuffled and gone through completely.
        lot: what stands in a parking lot besides cars.
        machines: share of work zones with a construction vehicle; as many again have a truck.
        fences: chance that a row of barriers parts a work zone from the pavement too.
        begin: blocks where every drive begins, one for each side of the road; none if empty.
        moods: whether crowds and traffic differ from drive to drive.
    """

    lanes: dict[str, float]
    gap: float
    riders: float
    bicycles: float
    walkers: float
    loiter: float
    themes: tuple[str, ...]
    lot: tuple[str, ...]
    machines: float
    fences: float
    begin: tuple[str, ...]
    moods: bool


#: Shares of nuScenes' training set: car 43 %, pedestrian 19 %, barrier 13 %, traffic cone 8 %,
#: truck 7 %, trailer 2 %, bus 1.5 %, construction vehicle 1.3 %, motorcycle and bicycle 1 % each.
REAL = Mix(
    lanes={
        "car": 0.86, "truck": 0.1, "bus": 0.006, "motorcycle": 0.006, "trailer": 0.03,
        "construction_vehicle": 0.005,
    },
    gap=13.0,
    riders=330.0,
    bicycles=0.6,
    walkers=72.0,
    loiter=0.5,
    themes=(
        *["cars"] * 11, *["plain"] * 2, *["lot"] * 4, *["work"] * 3, *["heavy"] * 2, "stop",
        "cycles",
    ),
    lot=("car", "car", "truck", "truck", "trailer", "construction_vehicle"),
    machines=0.25,
    fences=0.75,
    begin=(),
    moods=True,
)  # fmt: skip

#: All ten classes in sight of every drive, however short: tests, demos, small training sets.
BALANCED = Mix(
    lanes={
        "car": 0.45, "truck": 0.13, "bus": 0.1, "motorcycle": 0.15, "trailer": 0.11,
        "construction_vehicle": 0.06,
    },
    gap=24.0,
    riders=20.0,
    bicycles=0.65,
    walkers=100.0,
    loiter=0.3,
    themes=("work", "cars", "heavy", "work", "stop", "cycles", "lot"),
    lot=("truck", "construction_vehicle", "trailer"),
    machines=0.8,
    fences=0.0,
    begin=("work", "stop"),
    moods=False,
)  # fmt: skip

#: By the names that `crkd world --mix` takes.
MIXES = {"real": REAL, "balanced": BALANCED}
