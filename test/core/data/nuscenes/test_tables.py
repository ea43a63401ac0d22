"""Versions, splits, damaged tables, and the index cache."""

import dataclasses
import json
import logging
import os
import shutil
from pathlib import Path

import handmade
import numpy as np
import pytest

from crkd_core.data.nuscenes import index_cache, tables
from crkd_core.data.nuscenes.index import build_index
from crkd_core.data.nuscenes.reader import NuScenes, NuScenesError


@pytest.fixture
def root(tmp_path):
    return handmade.write_version(tmp_path / "data", samples=3, files=False)


def rewrite(path, change):
    rows = json.loads(path.read_text())
    change(rows)
    path.write_text(json.dumps(rows))


def same(one, other):
    for field in dataclasses.fields(one):
        np.testing.assert_array_equal(
            getattr(one, field.name), getattr(other, field.name), err_msg=field.name
        )


# ---- versions and splits


def test_the_only_version_is_taken(root):
    assert NuScenes(root).version == "v1.0-mini"
    assert NuScenes(str(root), version="v1.0-mini").version == "v1.0-mini"


def test_the_split_chooses_among_versions(root):
    handmade.write_version(root, version="v1.0-trainval", scenes=("scene-0003",), files=False)
    assert NuScenes(root, split="mini_val").version == "v1.0-mini"
    assert NuScenes(root, split="val").version == "v1.0-trainval"
    text = r"expected one version; versions here: v1\.0-mini, v1\.0-trainval; choose .* --version"
    with pytest.raises(NuScenesError, match=text):
        NuScenes(root)
    with pytest.raises(NuScenesError, match="no single version for 'test'; versions here"):
        NuScenes(root, split="test")
    handmade.write_version(root, version="own", splits={"val": ["scene-0061"]}, files=False)
    assert NuScenes(root, split="val").version == "own"


def test_a_version_folder_is_a_data_set_of_that_version(root, monkeypatch):
    handmade.write_version(root, version="v1.0-trainval", scenes=("scene-0061",), files=False)
    with pytest.raises(NuScenesError, match=r"by its folder, .*v1\.0-trainval"):
        NuScenes(root, split="scene-0061")
    for name in ("v1.0-mini", "v1.0-trainval"):
        tables = NuScenes(root / name, split="scene-0061")
        assert (tables.root, tables.version) == (root, name)
        token = tables.samples_of("scene-0061")[0]
        assert tables.reference(token).path.is_relative_to(root / "samples")
    monkeypatch.chdir(root / "v1.0-mini")
    tables = NuScenes(".", version="v1.0-mini")
    assert (tables.root, tables.version) == (root, "v1.0-mini")
    assert NuScenes(root / "v1.0-mini", version="v1.0-trainval").version == "v1.0-trainval"


def test_unknown_versions_list_what_exists(root, tmp_path):
    with pytest.raises(NuScenesError, match=r"no version 'v2'; versions here: v1\.0-mini"):
        NuScenes(root, version="v2")
    with pytest.raises(NuScenesError, match="gone: no such folder"):
        NuScenes(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NuScenesError, match="empty: no version folder"):
        NuScenes(tmp_path / "empty")


def test_splits_hold_the_scenes_that_are_here(root):
    data = NuScenes(root)
    assert data.scenes_of("mini_train") == ["scene-0061"]
    assert data.scenes_of("mini_val") == ["scene-0103"]
    assert len(data.samples_of("mini_val")) == 3


def test_unknown_splits_list_what_exists(root):
    data = NuScenes(root)
    with pytest.raises(
        NuScenesError,
        match=r"split 'nope' is not known; splits of v1\.0-mini: mini_train, mini_val",
    ):
        data.samples_of("nope")
    with pytest.raises(NuScenesError, match=r"no scene 'scene-9' in .*; 2 scenes: scene-0061"):
        data.scenes_of("scene-0061,scene-9")
    with pytest.raises(NuScenesError, match="split 'val' belongs to versions ending in trainval"):
        data.scenes_of("val")
    other = NuScenes(
        handmade.write_version(root, version="x-mini", scenes=("a", "b"), files=False),
        version="x-mini",
    )
    with pytest.raises(NuScenesError, match=r"'mini_val' has no scene in x-mini; .*: none"):
        other.scenes_of("mini_val")


def test_own_splits_come_first(tmp_path, caplog):
    splits = {"mini_val": ["scene-0061"], "rainy": ["scene-0103", "scene-9999"]}
    splits["scene-0061"] = ["scene-0103"]
    data = NuScenes(handmade.write_version(tmp_path, splits=splits, files=False))
    assert data.scenes_of("mini_val") == ["scene-0061"]
    assert data.scenes_of("mini_train") == ["scene-0061"]
    assert caplog.text == ""
    for _ in range(2):
        assert data.scenes_of("rainy") == ["scene-0103"]
    assert (
        caplog.text.count("1 of 2 scenes of 'rainy' are not in v1.0-mini, first scene-9999") == 1
    )
    assert data.scenes_of("scene-0061") == ["scene-0103"]
    (tmp_path / "v1.0-mini" / "splits.json").write_text("[1]")
    with pytest.raises(NuScenesError, match=r"splits\.json: expected a mapping from split names"):
        data.splits()


def test_predefined_splits_are_the_official_ones():
    official = pytest.importorskip("nuscenes.utils.splits").create_splits_scenes()
    for version in ("v1.0-trainval", "v1.0-test", "v1.0-mini"):
        for split, names in tables.predefined_splits(version).items():
            assert len(names) == len(set(names)) and set(names) == set(official[split])
    assert {s for v in ("trainval", "test", "mini") for s in tables.predefined_splits(v)} == {
        *tables.SPLIT_SUFFIX
    }


# ---- damaged tables


@pytest.mark.parametrize("table", tables.TABLES)
def test_missing_and_malformed_tables_are_named(root, table):
    path = root / "v1.0-mini" / f"{table}.json"
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    with pytest.raises(NuScenesError, match=rf"{table}\.json: malformed JSON near byte \d+"):
        NuScenes(root)
    path.write_text('{"a": 1}')
    with pytest.raises(NuScenesError, match=rf"{table}\.json: expected a JSON list of objects"):
        NuScenes(root)
    if table != "sample":
        path.unlink()
        with pytest.raises(NuScenesError, match=rf"{table}\.json: cannot read table: No such"):
            NuScenes(root)


# ---- large tables come in pieces


@pytest.mark.parametrize("size", [3000, 4097, 20000])
def test_pieces_give_the_same_index(root, monkeypatch, size):
    folder = root / "v1.0-mini"
    whole = build_index(folder)
    monkeypatch.setattr(tables, "_CHUNK_BYTES", size)
    pieces = list(tables.read_table(folder / "sample_data.json"))
    assert len(pieces) > 5
    same(build_index(folder), whole)


def test_damage_behind_the_first_piece_is_located(root, monkeypatch):
    path = root / "v1.0-mini" / "sample_data.json"
    data = path.read_bytes()
    place = data.index(b'"timestamp"', len(data) // 2)
    path.write_bytes(data[:place] + b"?" + data[place + 1 :])
    monkeypatch.setattr(tables, "_CHUNK_BYTES", 5000)
    with pytest.raises(NuScenesError, match="malformed JSON near byte") as caught:
        NuScenes(root)
    found = int(str(caught.value).split("near byte ")[1].split(":")[0])
    assert abs(found - place) < 20


@pytest.mark.parametrize("size", [64, 1000, 4096])
def test_rows_may_hold_lists_of_objects_and_any_text(root, monkeypatch, size):
    path = root / "v1.0-mini" / "sample_annotation.json"
    whole = build_index(root / "v1.0-mini")
    rewrite(path, lambda rows: [row.update(p=[{"i": 1}, {"i": [{}, {}]}]) for row in rows])
    rewrite(path, lambda rows: [row.update(q='}, {"[', r="\\") for row in rows])
    monkeypatch.setattr(tables, "_CHUNK_BYTES", size)
    assert len(list(tables.read_table(path))) > 1
    same(build_index(root / "v1.0-mini"), whole)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(NuScenesError, match="malformed JSON near byte"):
        build_index(root / "v1.0-mini")


def test_progress_counts_every_byte(root, monkeypatch):
    seen = []
    build_index(root / "v1.0-mini", seen.append)
    expected = [(root / "v1.0-mini" / f"{name}.json").stat().st_size for name in tables.TABLES]
    assert sum(seen) == sum(expected)
    monkeypatch.setattr(tables, "_PROGRESS_BYTES", 0)
    with tables.table_progress(root / "v1.0-mini") as advance:
        advance(10)


# ---- the cache


def test_a_second_start_does_not_parse_the_tables(root):
    first = NuScenes(root).index
    for name in tables.TABLES:
        path = root / "v1.0-mini" / f"{name}.json"
        stat = path.stat()
        path.write_bytes(b"?" * stat.st_size)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    same(NuScenes(root).index, first)
    same(first, index_cache.open_index(root / "v1.0-mini"))


def test_changed_tables_are_read_again(root):
    before = NuScenes(root)
    path = root / "v1.0-mini" / "scene.json"
    rewrite(path, lambda rows: rows[0].update(name="scene-9061"))
    assert before.scenes[0] == "scene-0061"
    assert NuScenes(root).scenes[0] == "scene-9061"
    assert len(list((root / "v1.0-mini" / ".crkd_index").iterdir())) == 1


@pytest.mark.parametrize("damage", ["truncate", "remove", "swap", "sizes"])
def test_a_damaged_cache_is_built_again(root, caplog, damage):
    first = build_index(root / "v1.0-mini")
    NuScenes(root)
    (folder,) = (root / "v1.0-mini" / ".crkd_index").iterdir()
    path = folder / "record_pose.npy"
    if damage == "truncate":
        path.write_bytes(path.read_bytes()[:-8])
    elif damage == "remove":
        path.unlink()
    elif damage == "swap":
        path.write_bytes(bytes(path.stat().st_size))
    else:
        (folder / "sizes.json").write_text("{")
    with caplog.at_level(logging.WARNING):
        same(NuScenes(root).index, first)
    assert "damaged index" in caplog.text and "building it again" in caplog.text
    caplog.clear()
    same(NuScenes(root).index, first)
    assert not caplog.text


def test_where_the_data_is_read_only_the_user_cache_is_used(root, tmp_path, monkeypatch, caplog):
    # A file in the way stands for a read-only folder, also for a superuser.
    (root / "v1.0-mini" / ".crkd_index").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first = NuScenes(root).index
    assert list((tmp_path / "cache" / "crkd" / "index").glob("*/*/sizes.json"))
    same(NuScenes(root).index, first)
    assert not caplog.text
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    same(NuScenes(root).index, first)
    assert "cannot keep the index, every start will build it" in caplog.text


def test_a_user_without_a_home_is_no_obstacle(root, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 7)
    with pytest.raises(RuntimeError):
        Path.home()
    assert len(NuScenes(root).scenes) == 2
    beside = root / "v1.0-mini" / ".crkd_index"
    assert beside.is_dir()
    # Nor is a cache folder that cannot even be asked for.
    shutil.rmtree(beside)
    beside.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(root / ("long" * 100)))
    assert len(NuScenes(root).scenes) == 2


def test_a_scene_whose_name_has_a_comma_is_a_split(tmp_path):
    names = ("scene-0061", "town, rain")
    data = NuScenes(handmade.write_version(tmp_path, scenes=names, files=False))
    assert data.scenes_of("town, rain") == ["town, rain"]


def test_scenes_joined_by_commas_are_a_split(root):
    data = NuScenes(root)
    both = ["scene-0103", "scene-0061"]
    assert data.scenes_of("scene-0103,scene-0061,scene-0103") == both
    assert data.samples_of(",".join(both)) == data.samples_of("mini_val") + data.samples_of(
        "mini_train"
    )
    with pytest.raises(NuScenesError, match="'mini_train,mini_val' joins splits; expected one"):
        data.scenes_of("mini_train,mini_val")
    with pytest.raises(NuScenesError, match="no scene 'nowhere'"):
        data.scenes_of("scene-0103,nowhere")
