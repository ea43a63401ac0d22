"""Where vehicles may drive, by the map expansion of nuScenes (docs/nuscenes.md, "Maps").

An expansion is a download of its own, ``maps/expansion/LOCATION.json``: nodes, polygons of nodes,
and layers of polygons. Coordinates are global metres. Of the layers ``drivable_area`` is read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson

from crkd_core.area import Area, Ring
from crkd_core.data.nuscenes.tables import NuScenesError
from crkd_core.files import read_file

#: Maps of nuScenes, and their first version that the devkit reads: in 1.0 vehicles of 43 scenes
#: are beside the road, in 1.1 parts at the edges are missing (nutonomy/nuscenes-devkit#279, #364).
LOCATIONS = (
    *("boston-seaport", "singapore-onenorth", "singapore-hollandvillage"),
    "singapore-queenstown",
)
OLDEST_VERSION = "1.3"

#: Bytes of an expansion; the largest of nuScenes has 30 million.
_LARGEST = 1 << 29


def expansion_file(root: Path, location: str) -> Path:
    """Where the expansion of a location lies in a data set."""
    return root / "maps" / "expansion" / f"{location}.json"


def read_drivable(root: Path, location: str) -> Area:
    """The drivable area of a location, global metres.

    Raises:
        NuScenesError: the file is not there, is no expansion, has nothing drivable, or is an
            outdated one of nuScenes; names it.
    """
    path = expansion_file(root, location)
    # The name comes out of a table.
    if not location or Path(location).name != location:
        raise NuScenesError(f"log.json: expected the name of a location, got {location!r}")
    try:
        data = orjson.loads(read_file(path, most=_LARGEST))
    except FileNotFoundError:
        raise NuScenesError(
            f"{path}: no such file, and the drivable area of {location} is in it; unpack the map "
            "expansion of nuScenes into maps/ (docs/nuscenes.md), or leave the drivable area out: "
            "--set 'detector.segments.classes=[vehicle]', or --set detector.segments=null"
        ) from None
    except (OSError, orjson.JSONDecodeError) as error:
        raise NuScenesError(f"{path}: cannot be read as a map expansion: {error}") from error
    try:
        area = _drivable(data)
    except (KeyError, TypeError, ValueError) as error:
        raise NuScenesError(
            f"{path}: expected node (token, x, y), polygon (token, exterior_node_tokens, holes) "
            f"and drivable_area (polygon_tokens) of a map expansion; {type(error).__name__}: "
            f"{error}"
        ) from error
    version = str(data.get("version", "1.0"))
    if location in LOCATIONS and version < OLDEST_VERSION:
        raise NuScenesError(
            f"{path}: expected version {OLDEST_VERSION} or later of the map expansion, got "
            f"{version}, which does not fit the poses of all scenes; download it again"
        )
    if not area.polygons:
        raise NuScenesError(
            f"{path}: expected polygons of drivable_area, got none, so that vehicles could drive "
            "nowhere; leave the drivable area out: --set 'detector.segments.classes=[vehicle]'"
        )
    return area


def _drivable(data: dict[str, Any]) -> Area:
    places = {node["token"]: (float(node["x"]), float(node["y"])) for node in data["node"]}

    def ring(tokens: list[str]) -> Ring:
        return np.array([places[token] for token in tokens], np.float64).reshape(-1, 2)

    polygons = {
        row["token"]: (
            ring(row["exterior_node_tokens"]),
            *(ring(hole["node_tokens"]) for hole in row["holes"]),
        )
        for row in data["polygon"]
    }
    tokens = [token for row in data["drivable_area"] for token in row["polygon_tokens"]]
    return Area(polygons=tuple(polygons[token] for token in tokens))
