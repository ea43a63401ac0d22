"""Writing the synthetic world: same seed, same bytes; nothing overwritten; names and schedules."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crkd_core.files import PARTIAL
from crkd_core.sensors import CAMERAS, RADARS
from crkd_core.world import WorldError, rig, write_world, writer
from crkd_core.world.content.weather import WeatherError
from crkd_core.world.nuscenes_tables import TABLES


def digest(root: Path) -> dict[str, str]:
    """Hash of every file by its path."""
    return {
        str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(root.rglob("*"))
        if p.is_file()
    }


def test_same_seed_same_bytes_whatever_the_number_of_jobs(tmp_path: Path) -> None:
    """Six key frames are two stretches, so that two processes share the one drive."""
    common = {"scenes": 1, "seconds": 3.0, "image_width": 64, "key_frames_only": True}
    one = digest(write_world(tmp_path / "one", seed=4, jobs=1, **common))
    two = digest(write_world(tmp_path / "two", seed=4, jobs=2, **common))
    assert one == two
    assert len(one) > 6 * 12


def test_another_seed_is_another_world(tmp_path: Path) -> None:
    common = {"scenes": 1, "seconds": 1.0, "image_width": 64, "key_frames_only": True}
    one = digest(write_world(tmp_path / "one", seed=4, **common))
    two = digest(write_world(tmp_path / "two", seed=5, **common))
    same = set(set(one.values()) & set(two.values()))
    constant = {"attribute", "visibility", "splits"}
    assert all(any(name in path for name in constant) for path, h in one.items() if h in same), (
        "files of two seeds are equal"
    )


def test_a_car_may_have_no_radar(tmp_path: Path) -> None:
    common = {"scenes": 1, "seconds": 1.0, "seed": 4, "image_width": 64, "key_frames_only": True}
    channels = ("LIDAR_TOP", "CAM_FRONT")
    folder = write_world(tmp_path / "out", channels=channels, **common) / "v1.0-mini"
    written = json.loads((folder / "sample_data.json").read_text())
    assert {Path(row["filename"]).parts[1] for row in written} == {*channels}
    boxes = json.loads((folder / "sample_annotation.json").read_text())
    assert any(row["num_lidar_pts"] for row in boxes)
    assert not any(row["num_radar_pts"] for row in boxes)


def test_an_existing_dataset_is_never_touched(tiny_world: Path, tmp_path: Path) -> None:
    before = digest(tiny_world / "v1.0-mini")
    with pytest.raises(WorldError, match=r"tiny_world exists and is not an empty folder.*choose"):
        write_world(tiny_world, scenes=1)
    assert digest(tiny_world / "v1.0-mini") == before
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(WorldError, match="not an empty folder"):
        write_world(file, scenes=1)
    assert file.read_text() == "mine"


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch) -> None:
    calls = []

    def broken(stretch):
        calls.append(list(tmp_path.iterdir()))
        raise RuntimeError("disk full")

    monkeypatch.setattr(writer, "record", broken)
    with pytest.raises(RuntimeError, match="disk full"):
        write_world(tmp_path / "out", scenes=1, seconds=1.0)
    assert [p.suffix for p in calls[0]] == [PARTIAL]
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_may_be_used_and_nothing_else_remains(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    write_world(out, scenes=1, seconds=1.0, image_width=64, key_frames_only=True, version="v2-x")
    assert list(tmp_path.iterdir()) == [out]
    assert {p.stem for p in (out / "v2-x").iterdir()} == {*TABLES, "splits"}
    assert not list(out.rglob(f"*{PARTIAL}"))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"scenes": 0}, "scenes: expected 1 to 500, got 0"),
        ({"seconds": 0.4}, "seconds: expected 1 to 95, got 0.4"),
        ({"seed": -1}, "seed: expected 0 to .* got -1"),
        ({"image_width": 10}, "image_width: expected 64 to 1600, got 10"),
        ({"jobs": 0}, "jobs: expected 1 to 256, got 0"),
        ({"version": "a/b"}, "version: expected the name of a folder .*, got 'a/b'"),
        ({"version": ".."}, "version: expected the name of a folder .*, got '..'"),
        ({"version": "samples"}, "version: expected .* other than .*samples.*, got 'samples'"),
        ({"mix": "even"}, "mix: expected one of real, balanced, got 'even'"),
        ({"lidar_sweeps": 10}, "lidar_sweeps: expected 0 to 9, got 10"),
        ({"weather": {"snow": 1.0}}, "weather: expected shares of .*, got 'snow=1'"),
        ({"weather": {"clear": 0.0}}, "weather: expected shares of .*, got 'clear=0'"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(
    tmp_path: Path, change: dict, text: str
) -> None:
    with pytest.raises((WorldError, WeatherError), match=text):
        write_world(tmp_path / "out", **{"scenes": 1, **change})
    assert list(tmp_path.iterdir()) == []


@given(st.integers(1, 500))
@settings(deadline=None, max_examples=60)
def test_scene_names(scenes: int) -> None:
    train, val = writer.scene_names(scenes)
    assert len(train) + len(val) == scenes == len({*train, *val})
    assert len(val) >= 1
    if scenes == 1:
        assert (train, val) == ([], ["scene-0103"])
    if scenes == 2:
        assert (train, val) == (["scene-0061"], ["scene-0103"])
    if scenes == 10:
        assert (tuple(train), tuple(val)) == (writer.MINI_TRAIN, writer.MINI_VAL)
    assert abs(len(val) - scenes / 5) <= 0.8


def test_splits_name_the_scenes(tiny_world: Path) -> None:
    splits = json.loads((tiny_world / "v1.0-mini" / "splits.json").read_text())
    assert splits == {
        "world_train": ["scene-0061"],
        "world_val": ["scene-0103"],
        "world_all": ["scene-0061", "scene-0103"],
    }


@given(st.integers(2, 45), st.lists(st.floats(0.02, 0.98), min_size=5, max_size=5))
@settings(deadline=None, max_examples=30)
def test_schedule(key_frames: int, phases: list[float]) -> None:
    shots = rig.schedule(key_frames, phases=np.array(phases))
    assert shots == sorted(shots)
    sparse = rig.schedule(key_frames, phases=np.array(phases), sweeps=rig.Sweeps(cameras=False))
    assert sparse == [s for s in shots if s.is_key or s.channel not in CAMERAS]
    few = rig.schedule(
        key_frames, phases=np.array(phases), sweeps=rig.Sweeps(cameras=False, lidar=2, radar=3)
    )
    assert set(few) <= set(sparse)
    for channel, most in (("LIDAR_TOP", 2), ("RADAR_FRONT", 3)):
        for sample in range(key_frames):
            every = [s for s in sparse if s.channel == channel and s.sample == sample]
            own = [s for s in few if s.channel == channel and s.sample == sample]
            assert own == every[-most - 1 :]
    for channel in rig.CHANNELS:
        own = [s for s in shots if s.channel == channel]
        keys = [s for s in own if s.is_key]
        assert [s.sample for s in keys] == list(range(key_frames))
        samples = [s.sample for s in own]
        assert samples == sorted(samples)
        for key in keys:
            late = key.time_us - key.sample * rig.KEY_US
            assert abs(late) <= (1e6 / 26 + 1 if channel in RADARS else 43_000)
    # Six sweeps of every radar are there before the first reference time.
    for channel in RADARS:
        early = [s for s in shots if s.channel == channel and s.time_us <= -1000]
        assert len(early) >= 6
