"""Of which sweeps clouds are made, against a search through all records."""

import json
import shutil

import handmade
import numpy as np
import pytest

from crkd_core.data import lidar, radar
from crkd_core.data.nuscenes.reader import NuScenes, NuScenesError, NuScenesFrames
from crkd_core.data.nuscenes.sweeps import SweepRule
from crkd_core.sensors import LIDAR, RADAR_AGE, RADAR_SENSOR, RADARS

SCENE = "scene-0061"


def expected_ages(tables, token, channel, stamp_ns, count, *, timeout, oldest):
    """Seconds, newest first."""
    own = tables.key_record(token, channel)
    ages = sorted(
        (stamp_ns - record.stamp_ns) * 1e-9
        for record in tables.records(SCENE, channel)
        if record.stamp_ns <= stamp_ns and (record.path.exists() or record == own)
    )
    ages = [age for age in ages if age <= oldest + 1e-9][:count]
    return ages if ages and ages[0] <= timeout + 1e-9 else []


def check_ages(tables, *, radar_sweeps, lidar_sweeps):
    """Returns how many sweeps clouds have, and how old the oldest is, of radars and LiDAR."""
    frames = NuScenesFrames(
        tables, "mini_train", radar_sweeps=radar_sweeps, lidar_sweeps=lidar_sweeps
    )
    seen = set()
    for frame in frames:
        for sensor, name in enumerate(RADARS):
            ages = expected_ages(
                *(tables, frame.token, name, frame.stamp_ns, radar_sweeps),
                timeout=radar.TIMEOUT,
                oldest=radar.OLDEST,
            )
            found = frame.radar[frame.radar[:, RADAR_SENSOR] == sensor][:, RADAR_AGE]
            np.testing.assert_allclose(list(dict.fromkeys(found.tolist())), ages, atol=1e-6)
            assert frame.radar_present[sensor] == bool(ages)
            seen.add((name, len(ages), round(max(ages, default=0.0), 1)))
        key = tables.key_record(frame.token, LIDAR)
        ages = expected_ages(
            *(tables, frame.token, LIDAR, key.stamp_ns, lidar_sweeps),
            timeout=np.inf,
            oldest=lidar.oldest_age(lidar_sweeps),
        )
        np.testing.assert_allclose(np.unique(frame.lidar[:, 4]), ages, atol=1e-6)
        seen.add((LIDAR, len(ages), round(max(ages), 1)))
    return seen


def test_nothing_is_said_of_a_whole_set(tmp_path, caplog):
    tables = NuScenes(handmade.write_version(tmp_path, samples=8, scenes=(SCENE,)))
    seen = check_ages(tables, radar_sweeps=6, lidar_sweeps=10)
    assert {(RADARS[0], 6, 0.4), (LIDAR, 10, 0.5)} <= seen
    assert caplog.text == ""


def test_sweeps_that_are_lost_are_made_up_for_by_older_ones(tmp_path, caplog):
    root = handmade.write_version(tmp_path, samples=8, scenes=(SCENE,))
    rng = np.random.default_rng(0)
    for path in sorted((root / "sweeps").glob("[RL]*/*")):
        if rng.random() < 0.4:
            path.unlink()
    seen = check_ages(NuScenes(root), radar_sweeps=6, lidar_sweeps=10)
    assert max(age for name, count, age in seen if name != LIDAR and count == 6) > 0.6
    assert max(age for name, count, age in seen if name == LIDAR and count == 10) > 0.6
    assert "has no usable sweep" not in caplog.text and "has fewer than" not in caplog.text


def test_key_frames_alone_are_used_as_live_and_what_is_lacking_is_said(tmp_path, caplog):
    """The reference is before the LiDAR, so of a radar that fires between no key frame is new."""
    root = handmade.write_version(tmp_path, samples=8, scenes=(SCENE,))
    shutil.rmtree(root / "sweeps")
    seen = check_ages(NuScenes(root), radar_sweeps=6, lidar_sweeps=10)
    assert max(count for name, count, _ in seen if name != LIDAR) in (4, 5)
    assert max(age for name, _, age in seen if name != LIDAR) <= 2.0
    assert {(count, age) for name, count, age in seen if name == LIDAR} == {(1, 0.0), (2, 0.5)}
    frames = NuScenesFrames(NuScenes(root), "mini_train")
    late = {name: sum(not f.radar_present[i] for f in frames) for i, name in enumerate(RADARS)}
    assert any(late.values()) and not all(late.values())
    for name, count in late.items():
        said = f"{name} has no usable sweep in {count} of 8 samples"
        assert (said in caplog.text) == (count > 1)
    assert "none at most 0.3 s before the reference" in caplog.text
    assert "LIDAR_TOP has fewer than 10 sweeps of at most 0.95 s in 6 of 8 samples" in caplog.text


def test_more_lidar_sweeps_are_those_of_a_set_made_with_so_many(tmp_path):
    root = handmade.write_version(tmp_path, samples=8, scenes=(SCENE,))
    shutil.rmtree(root / "sweeps" / LIDAR)
    tables = NuScenes(root)
    made = NuScenesFrames(tables, "mini_train", lidar_sweeps=10, radar_sweeps=2)
    fewer = NuScenesFrames(tables, "mini_train", radar_sweeps=2)
    changed = fewer.with_lidar_sweeps(10)
    for one, other in zip(changed, made, strict=True):
        np.testing.assert_array_equal(one.lidar, other.lidar)
        np.testing.assert_array_equal(one.radar, other.radar)
    assert changed.identity() == made.identity() and fewer[0].lidar is None
    with pytest.raises(NuScenesError, match="lidar_sweeps >= 0, got 2 and -1"):
        fewer.with_lidar_sweeps(-1)


def test_sensors_that_the_tables_do_not_have_are_said_to_be_lacking(tmp_path, caplog):
    root = handmade.write_version(tmp_path, samples=8, scenes=(SCENE,), files=False)
    path = root / "v1.0-mini" / "sample_data.json"
    rows = json.loads(path.read_text())
    lacking = ("CAM_BACK", RADARS[0], LIDAR)
    rows = [row for row in rows if not any(f"/{name}/" in row["filename"] for name in lacking)]
    keys = [r for r in rows if r["is_key_frame"] and "/CAM_FRONT/" in r["filename"]]
    for row in keys[:3]:
        row["is_key_frame"] = False
    path.write_text(json.dumps(rows))
    NuScenesFrames(NuScenes(root), "mini_train", radar_sweeps=6, lidar_sweeps=10)
    assert f"{root}: the data set has no CAM_BACK, {RADARS[0]}, {LIDAR}" in caplog.text
    assert f"{RADARS[0]} has no usable sweep" not in caplog.text
    assert "no key frame of CAM_FRONT in 3 of 8 samples: it is missing there" in caplog.text
    caplog.clear()
    NuScenesFrames(NuScenes(root), "mini_train", radar_sweeps=0, sensors=("CAM_FRONT_LEFT",))
    assert caplog.text == ""


@pytest.mark.parametrize("channel", [RADARS[0], LIDAR])
def test_limits_are_inclusive(channel):
    rule = SweepRule.of(channel, 3)
    newest = 10**18 - round(min(rule.timeout, 1e-3) * 1e9)
    oldest = 10**18 - round(rule.oldest * 1e9)
    stamps = np.array([oldest - 1, oldest, newest, 10**18 + 1])
    first, end, cut = rule.chosen(stamps, np.array([10**18, 10**18 + 1]))
    assert (first[0], end[0], cut[0]) == (1, 3, True)
    assert (first[1], end[1], cut[1]) == (2, 4, True)
