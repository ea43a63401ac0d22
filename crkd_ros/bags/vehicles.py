"""Which topics are of the vehicle whose sensors are read, where a bag holds several. Pure.

Bags of a fleet have one robot's topics below ``/robot1`` and another's below ``/robot2``, often
with the same names of frames: their transforms and odometry must not be mixed.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from crkd_ros.bags.container import Topic
from crkd_ros.bags.definitions import is_radar_objects
from crkd_ros.bags.message_types import CLOUD, IMAGES, ODOMETRY, TF, BagError

#: Parts of a name; of a vehicle, those that all of its topics begin with.
_Parts = tuple[str, ...]


def of_one_vehicle(
    path: Path,
    topics: Mapping[str, Topic],
    sensors: Collection[str],
    named: Mapping[str, str],
    preferred: Collection[str],
) -> tuple[dict[str, Topic], tuple[str, ...]]:
    """The topics without those of other vehicles, and below which names these lie.

    Several vehicles are in a bag if one sensor has topics at two places, and both places have
    transforms or odometry of their own. Where only transforms are of several, those at the places
    of the sensors are taken.

    Args:
        path: of the bag, for the error's text.
        topics: of the bag, by name.
        sensors: channels that are looked for.
        named: channel or other key -> topic that the user names, "" where it is left out.
        preferred: topics that the parameters name; they tell the vehicle where the user does not.

    Raises:
        BagError: nothing tells which of several vehicles is meant.
    """
    found = [topic for topic in topics.values() if topic.count]
    places = {sensor: _places(sensor, found) for sensor in sensors}
    rivals = {sensor: _vehicles(own, found) for sensor, own in places.items()}
    vehicles = set[_Parts]().union(*rivals.values())
    asked = _of(vehicles, (name for name in named.values() if name in topics))
    asked = asked or _of(vehicles, (name for name in preferred if name in topics))
    if any(len(own & asked) != 1 and sensor not in named for sensor, own in rivals.items() if own):
        sensor, own = next((name, places[name]) for name, own in rivals.items() if own)
        example = next(name for place in own.values() for name in place)
        raise BagError(
            f"{path}: it holds {len(vehicles)} vehicles, below "
            f"{' and '.join(sorted(map(_name, vehicles)))}; name a topic of the one that is "
            f"meant, e.g. --topic {sensor}={example}"
        )
    left = vehicles - asked
    kept = [topic for topic in found if not _of(vehicles, [topic.name]) & left]
    ours = [_parts(name) for own in places.values() for place in own.values() for name in place]
    ours += [_parts(name) for name in named.values() if name]
    spaces = {_parts(topic.name)[:-1] for topic in kept if topic.type_name in TF} - {()}
    shared = {one for one in spaces if any(_below(name, one) for name in ours)}
    if shared:
        left |= {one for one in spaces if not any(_below(one, other) for other in shared)}
    every = vehicles | left
    return {name: topic for name, topic in topics.items() if not _of(every, [name]) & left}, tuple(
        sorted(map(_name, left))
    )


def _places(sensor: str, topics: Iterable[Topic]) -> dict[_Parts, list[str]]:
    """What stands before a sensor's name -> its topics there."""
    found: dict[_Parts, list[str]] = {}
    for topic in topics:
        lower = _parts(topic.name.lower())
        kind = topic.type_name in (*IMAGES, CLOUD) or is_radar_objects(topic.type_name)
        if kind and sensor.lower() in lower:
            place = _parts(topic.name)[: lower.index(sensor.lower())]
            found.setdefault(place, []).append(topic.name)
    return found


def _vehicles(places: Iterable[_Parts], topics: Collection[Topic]) -> set[_Parts]:
    """Those beginnings of the places of one sensor that are vehicles of their own."""
    found = set[_Parts]()
    for one, other in itertools.combinations(places, 2):
        while one and other and one[-1] == other[-1]:
            one, other = one[:-1], other[:-1]
        if _motion(one, other, topics) & _motion(other, one, topics):
            found |= {one, other}
    return found


def _motion(place: _Parts, other: _Parts, topics: Iterable[Topic]) -> set[str]:
    """Which kinds of poses there are below a place, and not below another one in it."""
    found = set[str]()
    for topic in topics:
        parts = _parts(topic.name)
        if not _below(parts, place) or (_below(other, place) and _below(parts, other)):
            continue
        if topic.type_name in TF:
            found.add("static" if "static" in topic.name else "moving")
        elif topic.type_name == ODOMETRY:
            found.add("odometry")
    return found


def _of(vehicles: Iterable[_Parts], names: Iterable[str]) -> set[_Parts]:
    """The vehicles that have topics of these names."""
    found = set[_Parts]()
    for name in names:
        above = [one for one in vehicles if _below(_parts(name), one)]
        found |= {max(above, key=len)} if above else set()
    return found


def _below(parts: _Parts, place: _Parts) -> bool:
    return parts[: len(place)] == place


def _parts(name: str) -> _Parts:
    return tuple(part for part in name.split("/") if part)


def _name(parts: _Parts) -> str:
    return "/" + "/".join(parts)
