"""The map of a drive, as nuScenes has maps: a mask and its expansion, in global coordinates.

The mask is a grey picture of 0.1 m a pixel, 255 where vehicles may drive. Its lower left corner is
the origin of the global frame, so that row ``height - 1 - r`` and column c cover x from 0.1 c and
y from 0.1 r on. The expansion holds the same roads as polygons (docs/nuscenes.md, "Maps").
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import orjson
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.world.content.scene import Scene

#: Edge of a pixel of the mask, metres.
PIXEL = 0.1
#: The layers of an expansion; the world knows one of them.
LAYERS = (
    *("polygon", "line", "node", "drivable_area", "road_segment", "road_block", "lane"),
    *("ped_crossing", "walkway", "stop_line", "carpark_area", "road_divider", "lane_divider"),
    *("traffic_light", "lane_connector"),
)
_VERSION = "1.3"
#: Metres of map behind the last road.
_MARGIN = 10.0
#: Fractional bits of drawing coordinates.
_SHIFT = 4
#: Empty rows that are compressed together.
_ROWS = 64


def mask_file(log: str) -> str:
    """Path of the mask relative to the data set, for the table ``map``."""
    return f"maps/{log}.png"


def write_map(scene: Scene, root: Path, log: str) -> None:
    """Write mask and expansion of a drive.

    Args:
        scene: the drive.
        root: of the data set, with its folder ``maps/expansion``.
        log: name of the drive's log, which is also that of its location.
    """
    roads = [
        geometry.apply(scene.global_T_local, np.insert(outline, 2, 0.0, axis=1))[:, :2]
        for outline in scene.ground.roads
    ]
    size = np.ceil((np.concatenate(roads).max(0) + _MARGIN) / PIXEL).astype(int)
    (root / mask_file(log)).write_bytes(_mask(roads, width=int(size[0]), height=int(size[1])))
    expansion = _expansion(roads, log, edge=(size * PIXEL).tolist())
    (root / "maps" / "expansion" / f"{log}.json").write_bytes(orjson.dumps(expansion))


def _expansion(roads: list[NDArray[np.float64]], log: str, *, edge: list[float]) -> dict[str, Any]:
    rows: dict[str, Any] = {name: [] for name in LAYERS}
    for road, outline in enumerate(roads):
        nodes = [_token(log, "node", road, index) for index in range(len(outline))]
        rows["node"] += [
            {"token": token, "x": x, "y": y}
            for token, (x, y) in zip(nodes, outline.tolist(), strict=True)
        ]
        polygon = _token(log, "polygon", road)
        rows["polygon"].append({"token": polygon, "exterior_node_tokens": nodes, "holes": []})
        token = _token(log, "drivable_area", road)
        rows["drivable_area"].append({"token": token, "polygon_tokens": [polygon]})
    return {
        "version": _VERSION,
        **rows,
        "arcline_path_3": {},
        "connectivity": {},
        "canvas_edge": edge,
    }


def _token(*parts: object) -> str:
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()[:32]


def _mask(roads: list[NDArray[np.float64]], *, width: int, height: int) -> bytes:
    """The PNG. Most of it is empty and never in memory: a whole map has 300 million pixels."""
    pixels = [outline / PIXEL for outline in roads]
    low = np.floor(np.min([p.min(0) for p in pixels], 0)).astype(int)
    high = np.ceil(np.max([p.max(0) for p in pixels], 0)).astype(int)
    window = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
    for outline in pixels:
        # The centre of pixel 0 is at 0.5.
        place = np.rint((outline - low - 0.5) * 2**_SHIFT).astype(np.int32)
        cv2.fillPoly(window, [place], 255, cv2.LINE_8, _SHIFT)
    packed = _Rows(width)
    packed.empty(height - int(high[1]))
    for row in window[::-1]:
        packed.add(int(low[0]), row)
    packed.empty(int(low[1]))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", packed.finish()), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


class _Rows:
    """The rows of a grey PNG as one zlib stream; many empty rows cost as much as few."""

    def __init__(self, width: int) -> None:
        self._width = width
        # Raw deflate: blocks that were compressed before can be put in between.
        self._deflate = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
        self._parts = [b"\x78\x01"]
        self._sum = 1

    def add(self, first: int, row: NDArray[np.uint8]) -> None:
        """A row that is empty but for ``row`` from column ``first`` on."""
        line = bytes(1 + first) + row.tobytes() + bytes(self._width - first - len(row))
        self._sum = zlib.adler32(line, self._sum)
        self._parts.append(self._deflate.compress(line))

    def empty(self, count: int) -> None:
        """So many empty rows."""
        many, rest = divmod(count, _ROWS)
        self._parts.append(self._deflate.flush(zlib.Z_FULL_FLUSH))
        for times, rows in ((many, _ROWS), (1, rest)):
            data = bytes(rows * (1 + self._width))
            packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
            block = packer.compress(data) + packer.flush(zlib.Z_FULL_FLUSH)
            for _ in range(times):
                self._sum = zlib.adler32(data, self._sum)
                self._parts.append(block)

    def finish(self) -> bytes:
        """The whole stream."""
        return b"".join((*self._parts, self._deflate.flush(), struct.pack(">I", self._sum)))
