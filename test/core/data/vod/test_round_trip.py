"""The world's drives, written as View-of-Delft and read again, against the world's own Frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from crkd_core import geometry
from crkd_core.cli import app
from crkd_core.config import ConfigError
from crkd_core.data.grid import since_newest
from crkd_core.data.nuscenes.reader import NuScenes, NuScenesFrames
from crkd_core.data.sets import open_set
from crkd_core.data.vod.errors import VodError
from crkd_core.data.vod.layout import Vod
from crkd_core.data.vod.reader import VodFrames
from crkd_core.frame import Frame
from crkd_core.sensors import (
    CAMERAS,
    RADAR_AGE,
    RADAR_COLUMN,
    RADAR_COMPENSATED,
    RADAR_SENSOR,
    RADAR_XYZ,
    RADARS,
)
from crkd_core.world import WorldError, vod, vod_files, write_vod_world, write_world
from crkd_core.world.vod_files import CHANNELS, write_vod

SPLITS = {"train": "world_train", "val": "world_val"}
SCANS = 5


@pytest.fixture(scope="module")
def drives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two drives of a car with one camera, one radar and a LiDAR, as nuScenes."""
    return write_world(
        tmp_path_factory.mktemp("vod") / "drives",
        scenes=2,
        seconds=1.5,
        seed=4,
        image_width=320,
        key_frames_only=True,
        lidar_sweeps=0,
        radar_sweeps=SCANS,
        mix="balanced",
        weather={"clear": 1.0},
        channels=CHANNELS,
    )


@pytest.fixture(scope="module")
def both(drives: Path) -> tuple[list[Frame], list[Frame]]:
    """The world's Frames and those of its View-of-Delft files, sample by sample."""
    tables, root = NuScenes(drives), drives.parent / "vod"
    write_vod(tables, root, splits=SPLITS)
    found = open_set(root)
    assert isinstance(found, Vod)
    ours, read = [], []
    for listed, split in SPLITS.items():
        ours += [*NuScenesFrames(tables, split, radar_sweeps=SCANS, lidar_sweeps=1)]
        read += [*VodFrames(found, listed, radar_sweeps=SCANS, lidar_sweeps=1)]
    return ours, read


def test_camera_and_poses_are_the_worlds(both):
    front = CAMERAS.index("CAM_FRONT")
    for ours, read in zip(*both, strict=True):
        assert read.camera_present.tolist() == [name == "CAM_FRONT" for name in CAMERAS]
        np.testing.assert_array_equal(read.images[front], ours.images[front])
        np.testing.assert_allclose(read.intrinsics, ours.intrinsics, atol=1e-9)
        np.testing.assert_allclose(read.ego_T_cam[front], ours.ego_T_cam[front], atol=1e-9)
        np.testing.assert_allclose(read.global_T_ego, ours.global_T_ego, atol=1e-6)


def test_times_within_a_drive_are_the_worlds(both):
    ours, read = ([f.stamp_ns for f in frames] for frames in both)
    half = len(ours) // 2
    assert np.diff(read[:half]).tolist() == np.diff(ours[:half]).tolist() == [5e8] * (half - 1)
    assert read[half] - read[half - 1] > 5e9, "two drives must not look like one"


def test_lidar_is_the_worlds(both):
    for ours, read in zip(*both, strict=True):
        assert ours.lidar is not None and read.lidar is not None
        np.testing.assert_allclose(read.lidar[:, :3], ours.lidar[:, :3], atol=2e-5)
        np.testing.assert_allclose(read.lidar[:, 3], ours.lidar[:, 3], atol=1e-3)
        assert not read.lidar[:, 4].any()


def test_radar_is_the_worlds(drives, both):
    tables = NuScenes(drives)
    present = [name == "RADAR_FRONT" for name in RADARS]
    for ours, read in zip(*both, strict=True):
        assert read.radar_present.tolist() == present and len(read.radar) > 100
        theirs, other = since_newest(ours.radar), read.radar
        np.testing.assert_allclose(other[:, RADAR_AGE], theirs[:, RADAR_AGE], atol=2e-6)
        rcs = RADAR_COLUMN["rcs"]
        np.testing.assert_array_equal(other[:, rcs], theirs[:, rcs])
        assert not other[:, RADAR_SENSOR].any()
        # A speed is told without its direction, which is taken from where the radar is now.
        age = theirs[:, RADAR_AGE, None]
        place = theirs[:, RADAR_XYZ] - np.pad(theirs[:, RADAR_COMPENSATED] * age, [(0, 0), (0, 1)])
        ray = place[:, :2] - tables.key_record(ours.token, "RADAR_FRONT").ego_T_sensor[:2, 3]
        ray /= np.linalg.norm(ray, axis=1, keepdims=True)
        along = (theirs[:, RADAR_COMPENSATED] * ray).sum(1, keepdims=True)
        speed = np.linalg.norm(theirs[:, RADAR_COMPENSATED], axis=1, keepdims=True)
        assert np.median(np.abs(along) / np.maximum(speed, 1e-9)) > 0.98
        velocity = np.sign(along) * speed * ray
        np.testing.assert_allclose(other[:, RADAR_COMPENSATED], velocity, atol=2e-3)
        place[:, :2] += velocity * age
        np.testing.assert_allclose(other[:, RADAR_XYZ], place, atol=2e-3)


def test_truth_is_the_worlds(both):
    names = {"Car": "car", "Pedestrian": "pedestrian", "truck": "truck", "motor": "motorcycle"}
    names |= {"Cyclist": "bicycle", "bicycle": "bicycle"}
    seen = set()
    for ours, read in zip(*both, strict=True):
        truth, theirs = read.truth, ours.truth
        assert truth is not None and theirs is not None
        # Every box is one of the world's.
        gap = np.linalg.norm(truth.center[:, None] - theirs.center[None], axis=-1)
        which = gap.argmin(1)
        assert len(np.unique(which)) == len(truth)
        same = theirs.select(which)
        np.testing.assert_allclose(truth.center, same.center, atol=1e-6)
        np.testing.assert_allclose(truth.size, same.size, atol=1e-9)
        turn = geometry.wrap_angle(truth.yaw - same.yaw)
        np.testing.assert_allclose(turn, 0, atol=1e-6)
        assert np.isnan(truth.velocity).all()
        for a, b in zip(truth.label, same.label, strict=True):
            name, other = truth.classes[a], same.classes[b]
            assert names.get(name, other) == other
            assert name != "vehicle_other" or other in ("bus", "trailer", "construction_vehicle")
            seen.add(name)
        # None is missing that is near, in the middle of the image and touched by the LiDAR.
        camera = geometry.invert(ours.ego_T_cam[CAMERAS.index("CAM_FRONT")])
        place = geometry.apply(camera, theirs.center)
        ahead = (place[:, 2] > 3) & (np.abs(place[:, 0]) < 0.4 * place[:, 2])
        kept = np.isin([theirs.classes[k] for k in theirs.label], ["traffic_cone", "barrier"])
        near = np.linalg.norm(theirs.center, axis=1) < 45
        must = np.flatnonzero(ahead & near & ~kept & (theirs.num_lidar_points > 0))
        assert {*must.tolist()} <= {*which.tolist()}
    assert seen >= {"Car", "Pedestrian", "Cyclist"}


def test_more_frames_than_names_are_refused_before_they_are_made(
    both, tmp_path, monkeypatch
) -> None:
    last = int(both[1][-1].token)

    def made(*_, **__):
        raise WorldError("it would be made")

    monkeypatch.setattr(vod, "write_world", made)
    for most, error in ((last, VodError), (last + 1, WorldError)):
        monkeypatch.setattr(vod_files, "MOST_FRAMES", most)
        with pytest.raises(error):
            write_vod_world(tmp_path / "vod", scenes=2, seconds=1.5)
    assert not list(tmp_path.iterdir())


def test_options_of_nuscenes_are_refused_with_this_format(tmp_path: Path) -> None:
    options = ["--radar-sweeps", "3", "--version", "v1.0-mini", "--key-frames-only"]
    with pytest.raises(
        ConfigError, match="--key-frames-only, --radar-sweeps, --version: expected"
    ):
        CliRunner().invoke(
            app,
            ["world", "--format", "vod", "--out", str(tmp_path / "vod"), *options],
            catch_exceptions=False,
        )
    assert not (tmp_path / "vod").exists()
