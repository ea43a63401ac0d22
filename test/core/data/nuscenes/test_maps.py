"""Map expansions: read from files made here, refused where they are not there or none."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import orjson
import pytest

from crkd_core.config import GridConfig
from crkd_core.data.nuscenes.maps import expansion_file, read_drivable
from crkd_core.data.nuscenes.reader import NuScenes, NuScenesError, NuScenesFrames
from crkd_core.losses.segments import segment_truth
from crkd_core.presets import demo_imkd, demo_imkd_segments

GRID = GridConfig(low=(0.0, 0.0, -1.0), high=(20.0, 20.0, 1.0), cell=1.0)


def write(root: Path, data: object) -> Path:
    path = expansion_file(root, "a-town")
    path.parent.mkdir(parents=True)
    path.write_bytes(orjson.dumps(data))
    return path


def an_expansion() -> dict:
    """A square of 10 m with a hole of 4 m, and a walkway that is none of it."""
    corners = {"a": (2, 2), "b": (12, 2), "c": (12, 12), "d": (2, 12)}
    corners |= {"e": (5, 5), "f": (9, 5), "g": (9, 9), "h": (5, 9)}
    corners |= {"i": (15, 15), "j": (19, 15), "k": (19, 19)}
    return {
        "node": [{"token": token, "x": x, "y": y} for token, (x, y) in corners.items()],
        "polygon": [
            {
                "token": "square",
                "exterior_node_tokens": list("abcd"),
                "holes": [{"node_tokens": list("efgh")}],
            },
            {"token": "walk", "exterior_node_tokens": list("ijk"), "holes": []},
        ],
        "drivable_area": [{"token": "road", "polygon_tokens": ["square"]}],
        "walkway": [{"token": "path", "polygon_token": "walk"}],
    }


def test_only_the_drivable_layer_counts_and_holes_are_left_out(tmp_path):
    write(tmp_path, an_expansion())
    cells = read_drivable(tmp_path, "a-town").cells(GRID)
    expected = np.zeros((20, 20), bool)
    expected[2:12, 2:12] = True
    expected[5:9, 5:9] = False
    np.testing.assert_array_equal(cells, expected)


def test_what_cannot_be_read_names_the_file(tmp_path):
    with pytest.raises(NuScenesError, match=r"maps/expansion/a-town\.json: no such file.*segment"):
        read_drivable(tmp_path, "a-town")
    path = write(tmp_path, {"node": []})
    with pytest.raises(NuScenesError, match=r"a-town\.json: expected node .* KeyError: 'polygon'"):
        read_drivable(tmp_path, "a-town")
    broken = an_expansion()
    broken["polygon"][0]["exterior_node_tokens"] = ["z"]
    path.write_bytes(orjson.dumps(broken))
    with pytest.raises(NuScenesError, match=r"a-town\.json: expected node .* KeyError: 'z'"):
        read_drivable(tmp_path, "a-town")
    path.write_bytes(b"[}")
    with pytest.raises(NuScenesError, match=r"a-town\.json: cannot be read as a map expansion"):
        read_drivable(tmp_path, "a-town")
    with pytest.raises(NuScenesError, match=r"name of a location, got '\.\./a-town'"):
        read_drivable(tmp_path, "../a-town")


def test_outdated_and_empty_maps_are_refused(tmp_path):
    path = write(tmp_path, an_expansion())
    town = path.with_name("singapore-onenorth.json")
    for version in ({}, {"version": "1.0"}, {"version": "1.2"}):
        town.write_bytes(orjson.dumps({**version, **an_expansion()}))
        with pytest.raises(NuScenesError, match=r"onenorth\.json: expected version 1\.3 or later"):
            read_drivable(tmp_path, town.stem)
    town.write_bytes(orjson.dumps({"version": "1.3", **an_expansion()}))
    assert read_drivable(tmp_path, town.stem).cells(GRID).any()
    path.write_bytes(orjson.dumps({**an_expansion(), "drivable_area": []}))
    with pytest.raises(NuScenesError, match=r"a-town\.json: expected polygons of drivable_area"):
        read_drivable(tmp_path, "a-town")


def test_frames_of_the_world_say_where_vehicles_may_drive(tiny_world, tmp_path):
    config = demo_imkd_segments().detector
    tables = NuScenes(tiny_world)
    frames = NuScenesFrames.for_detectors(tables, "world_all", config)
    shares = []
    for index in (0, len(frames) - 1):
        frame = frames[index]
        vehicle, drivable = segment_truth(frame.truth, frame.drivable, config)
        x, y = ((0 - config.grid.low[i]) / config.grid.cell for i in (0, 1))
        assert drivable[int(x) - 1 : int(x) + 2, int(y) - 1 : int(y) + 2].all()
        # Vehicles drive and park on the road, but for those in lots.
        shares.append(float(drivable[vehicle == 1].mean()))
        assert 0.05 < drivable.mean() < 0.8
    assert np.mean(shares) > 0.5
    plain = NuScenesFrames.for_detectors(tables, "world_all", demo_imkd().detector)
    assert plain[0].drivable is None
    shutil.copytree(tiny_world, tmp_path / "bare", ignore=shutil.ignore_patterns("expansion"))
    bare = NuScenes(tmp_path / "bare")
    with pytest.raises(NuScenesError, match=r"maps/expansion/world-.*\.json: no such file"):
        NuScenesFrames.for_detectors(bare, "world_all", config)


def test_another_map_makes_other_frames(tiny_world, tmp_path):
    """Frames that were kept must not outlive the map that they were made of."""
    for name in ("v1.0-mini", "maps"):
        shutil.copytree(tiny_world / name, tmp_path / name)
    tables, config = NuScenes(tmp_path), demo_imkd_segments().detector

    def identity(config):
        return NuScenesFrames.for_detectors(tables, "world_all", config).identity()

    before = identity(config), identity(demo_imkd().detector)
    assert before[0] == identity(config)
    path = expansion_file(tmp_path, tables.location_of(tables.scenes[0]))
    expansion = orjson.loads(path.read_bytes())
    expansion["node"][0]["x"] += 1.0
    path.write_bytes(orjson.dumps(expansion))
    assert identity(config) != before[0] and identity(demo_imkd().detector) == before[1]
