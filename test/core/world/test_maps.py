"""Maps of the world: mask, expansion and what is painted on the ground say the same."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from crkd_core import geometry
from crkd_core.area import Area
from crkd_core.config import GridConfig
from crkd_core.data.nuscenes.maps import read_drivable
from crkd_core.world.content.road import ASPHALT, GRASS, WALK
from crkd_core.world.content.scene import Scene
from crkd_core.world.map_files import PIXEL, mask_file, write_map


def cells_at(area: Area, low: np.ndarray, size: float) -> np.ndarray:
    """Cells of 0.1 m of the square from ``low`` on."""
    shift = geometry.pose([-low[0], -low[1], 0], np.array([1.0, 0, 0, 0]))
    grid = GridConfig(low=(0.0, 0.0, -1.0), high=(size, size, 1.0), cell=PIXEL)
    return area.moved(shift).cells(grid)


@pytest.fixture(scope="module")
def drive(tmp_path_factory) -> tuple[Scene, Path]:
    root = tmp_path_factory.mktemp("map")
    (root / "maps" / "expansion").mkdir(parents=True)
    scene = Scene(seed=3, number=1, key_frames=4)
    write_map(scene, root, "a-log")
    return scene, root


def test_mask_and_polygons_agree_in_global_coordinates(drive) -> None:
    scene, root = drive
    mask = cv2.imread(str(root / mask_file("a-log")), cv2.IMREAD_UNCHANGED)
    assert mask is not None and mask.dtype == np.uint8 and mask.ndim == 2
    assert set(np.unique(mask[::7, ::7])) == {0, 255}
    x, y = (scene.global_T_local @ scene.ego_pose(0.0))[:2, 3]
    low = np.floor(np.array([x, y]) - 40)
    cells = cells_at(read_drivable(root, "a-log"), low, 80.0)
    first = np.rint(low / PIXEL).astype(int)
    shown = mask[::-1][first[1] : first[1] + 800, first[0] : first[0] + 800].T == 255
    # Drawing takes in the pixels on an outline.
    assert 0.05 < cells.mean() < 0.9 and (cells != shown).mean() < 0.01


def test_the_road_that_is_painted_is_the_road_of_the_map(drive) -> None:
    scene, root = drive
    rng = np.random.default_rng(0)
    local = rng.uniform(-45, 45, (4000, 2)) + scene.ego_pose(0.0)[:2, 3]
    colour = scene.ground.colour(*local.astype(np.float32).T, np.full(4000, 0.1, np.float32)).T
    kinds = np.array([GRASS, WALK, ASPHALT]) / 255
    kind = np.linalg.norm(colour[:, None] - kinds, axis=2).argmin(1)
    sure = np.linalg.norm(colour - kinds[kind], axis=1) < 0.06
    area = read_drivable(root, "a-log").moved(geometry.invert(scene.global_T_local))
    low = local.min(0)
    first = ((local[sure] - low) / PIXEL).astype(int)
    inside = cells_at(area, low, 90.0)[tuple(first.clip(max=899).T)]
    road = kind[sure] == 2
    assert min(road.sum(), (~road).sum()) > 100
    # Paved lots have nearly the colour of roads.
    assert inside[~road].mean() < 0.02 and inside[road].mean() > 0.9


def test_the_car_drives_on_the_map_where_the_tables_say_it_is(drive) -> None:
    scene, root = drive
    area = read_drivable(root, "a-log")
    for t in (0.0, 0.7, 1.5):
        x, y = (scene.global_T_local @ scene.ego_pose(t))[:2, 3]
        assert cells_at(area, np.array([x, y]) - 0.5, 1.0).all()
