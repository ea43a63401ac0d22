"""Which places of the ground lie in the shadow of what never moves, found once for every place."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core.world.content.terrain import Terrain
from crkd_core.world.sensors.bodies import Tree

#: Size of a place, and of the tiles that are filled when somebody looks there, in places.
METRES = 0.125
TILE = 128
_UNKNOWN, _LIT, _HIDDEN = range(3)


class GroundShadows:
    """A map of the ground for one direction of light, filled tile by tile.

    Args:
        still: what throws the shadows.
        terrain: how high the ground is.
        low, high: [2] corners of the map, metres; what lies outside counts as lit.
        direction: [3] unit vector towards the light.
    """

    def __init__(
        self,
        *,
        still: Tree,
        terrain: Terrain,
        low: NDArray[Any],
        high: NDArray[Any],
        direction: NDArray[Any],
    ) -> None:
        self._still, self._terrain = still, terrain
        self._low = np.asarray(low, np.float32)
        self._toward = np.asarray(direction, np.float32)
        columns, rows = (np.ceil((high - low) / (METRES * TILE)).astype(int) * TILE).tolist()
        self._map = np.full((rows, columns), _UNKNOWN, np.uint8)

    def at(self, x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.bool_]:
        """[N] whether places lie in the shadow."""
        rows, columns = self._map.shape
        column = ((x - self._low[0]) * np.float32(1 / METRES)).astype(np.int32)
        row = ((y - self._low[1]) * np.float32(1 / METRES)).astype(np.int32)
        inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
        place = np.where(inside, row * columns + column, 0)
        found = self._map.ravel().take(place)
        new = (inside & (found == _UNKNOWN)).nonzero()[0]
        if len(new):
            tiles = np.unique((row[new] // TILE) * (columns // TILE) + column[new] // TILE)
            for tile in tiles.tolist():
                self._fill(*divmod(tile, columns // TILE))
            found = self._map.ravel().take(place)
        return (found == _HIDDEN) & inside

    def _fill(self, tile_row: int, tile_column: int) -> None:
        rows = slice(tile_row * TILE, (tile_row + 1) * TILE)
        columns = slice(tile_column * TILE, (tile_column + 1) * TILE)
        grid = np.mgrid[rows, columns][::-1].reshape(2, -1).T
        spots = np.zeros((len(grid), 3), np.float32)
        spots[:, :2] = (grid + 0.5) * METRES + self._low
        spots[:, 2] = self._terrain.height(spots[:, 0]) + 0.03
        toward = np.broadcast_to(self._toward, spots.shape)
        hidden = self._still.blocked(spots, toward).reshape(TILE, TILE)
        self._map[rows, columns] = np.where(hidden, _HIDDEN, _LIT)
