from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import Polygon
from train_tiny import FRAMES, a_config

from crkd_core.boxes import Boxes, Truth
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.data.nuscenes.reader import NuScenes, NuScenesFrames
from crkd_core.data.paste import Paste, PasteDatabase, PasteError, open_database, overlaps
from crkd_core.frame import Frame
from crkd_core.presets import demo_teacher, lc_r50
from crkd_core.train.distributed import Processes
from crkd_core.train.mixed import MixedFrames
from crkd_core.train.run_folder import Run
from crkd_core.train.samples import Views, paste_of

CONFIG = lc_r50().paste
COUNTS = dict(zip(NUSCENES_CLASSES, CONFIG.counts, strict=True))


def some_boxes(rng: np.random.Generator, count: int) -> Truth:
    return Truth(
        center=np.append(rng.uniform(-30, 30, (count, 2)), rng.uniform(0, 1, (count, 1)), 1),
        size=rng.uniform(0.5, 6, (count, 3)),
        yaw=rng.uniform(-4, 4, count),
        velocity=np.zeros((count, 2)),
        label=rng.integers(0, 10, count),
        attribute=np.zeros(count, np.int64),
        num_lidar_points=np.full(count, 9),
        num_radar_points=np.full(count, 9),
        classes=NUSCENES_CLASSES,
    )


def scene(seed: int) -> Frame:
    """Boxes full of points, and as many points elsewhere."""
    rng = np.random.default_rng(seed)
    truth = some_boxes(rng, 12)
    inside = [
        boxes.center + rng.uniform(-0.2, 0.2, (20, 3)) * boxes.size
        for boxes in (truth.select(np.array([i])) for i in range(12))
    ]
    points = np.concatenate([*inside, rng.uniform(-30, 30, (300, 3))])
    cloud = np.pad(points, ((0, 0), (0, 2))).astype(np.float32)
    cloud[:, 3] = seed
    return dataclasses.replace(FRAMES[0], truth=truth, lidar=cloud, token=f"scene {seed}")


SCENES = [scene(seed) for seed in range(6)]


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), far=st.sampled_from([0.0, 900.0, 30_000.0]))
def test_points_at_corners_and_faces_are_inside_as_for_contains(seed, far):
    rng = np.random.default_rng(seed)
    truth = some_boxes(rng, 6)
    truth.center[:, :2] += far * rng.choice([-1, 1], 2)
    out = rng.choice([1 - 1e-3, 1 - 1e-6, 1, 1 + 1e-6, 1 + 1e-3], (6, 8, 1))
    corners = truth.center[:, None] + (truth.corners() - truth.center[:, None]) * out
    middles = (corners[:, :4] + corners[:, [1, 2, 3, 0]]) / 2
    points = np.concatenate([corners, middles, truth.center[:, None]], 1).reshape(-1, 3)
    cloud = np.pad(points, ((0, 0), (0, 2))).astype(np.float32)
    frame = dataclasses.replace(FRAMES[0], truth=truth, lidar=cloud)
    database = PasteDatabase.build([frame], min_points=0)
    slow = [cloud[mask] for mask in truth.contains(cloud)]
    np.testing.assert_array_equal(database.points, np.concatenate(slow))
    np.testing.assert_array_equal(np.diff(database.start), [len(part) for part in slow])


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10_000))
def test_overlap_equals_polygons(seed):
    rng = np.random.default_rng(seed)
    boxes = some_boxes(rng, 8)
    boxes.center[:, :2] /= 4
    shapes = [Polygon(corners[:4, :2]) for corners in boxes.corners()]
    shared = np.array([[a.intersection(b).area for b in shapes] for a in shapes])
    # Of slivers the polygons' own rounding is as large.
    plain = (shared == 0) | (shared > 1e-9)
    np.testing.assert_array_equal(overlaps(boxes, boxes)[plain], shared[plain] > 0)


def test_the_database_holds_each_box_with_its_points():
    database = PasteDatabase.build(SCENES, min_points=5)
    box = 0
    for frame in SCENES:
        for index, mask in enumerate(frame.truth.contains(frame.lidar)):
            if mask.sum() < 5:
                continue
            points = database.points[database.start[box] : database.start[box + 1]]
            np.testing.assert_array_equal(points, frame.lidar[mask])
            assert database.truth.num_lidar_points[box] == mask.sum()
            assert database.truth.label[box] == frame.truth.label[index]
            np.testing.assert_array_equal(database.truth.center[box], frame.truth.center[index])
            box += 1
    assert box == len(database.truth) > 60
    assert (database.truth.num_radar_points == 0).all()
    with pytest.raises(PasteError, match="no box of the training set holds 1000"):
        PasteDatabase.build(SCENES, min_points=1000)


def test_frames_are_filled_up_without_collisions():
    database = PasteDatabase.build(SCENES[1:], min_points=5)
    paste = Paste(database, counts=COUNTS)
    frame = SCENES[0]
    got = paste(frame, position=0, rng=np.random.default_rng(1))
    own = len(frame.truth)
    new = got.truth.select(np.arange(own, len(got.truth)))
    assert len(new) > 5
    for field in dataclasses.fields(Truth):
        np.testing.assert_array_equal(
            getattr(got.truth, field.name)[:own], getattr(frame.truth, field.name)
        )
    for label, name in enumerate(NUSCENES_CLASSES):
        before = (frame.truth.label == label).sum()
        assert (got.truth.label == label).sum() <= max(before, COUNTS[name])
    crossing = overlaps(new, got.truth)
    crossing[np.arange(len(new)), own + np.arange(len(new))] = False
    assert not crossing.any()
    # Points: what was inside a new box is gone, and exactly the boxes' own points came.
    kept = frame.lidar[~new.contains(frame.lidar).any(0)]
    # They come first: of a cloud that is too large a network keeps the beginning.
    np.testing.assert_array_equal(got.lidar[-len(kept) :], kept)
    added = got.lidar[: -len(kept)]
    assert len(added) == new.num_lidar_points.sum() and (added[:, 3] > 0).all()
    assert new.contains(added, margin=1e-4).any(0).all()
    again = paste(frame, position=0, rng=np.random.default_rng(1))
    np.testing.assert_array_equal(again.lidar, got.lidar)
    assert frame.lidar is SCENES[0].lidar and len(frame.truth) == own


def test_pasting_stops(tmp_path):
    paste = Paste(PasteDatabase.build(SCENES, min_points=5), counts=COUNTS, stop=7)
    rng = np.random.default_rng(0)
    assert paste(SCENES[0], position=6, rng=rng) is not SCENES[0]
    assert paste(SCENES[0], position=7, rng=rng) is SCENES[0]
    blind = dataclasses.replace(SCENES[0], lidar=None)
    with pytest.raises(PasteError, match="has no LiDAR; ground-truth paste"):
        paste(blind, position=0, rng=rng)
    with pytest.raises(PasteError, match="has no LiDAR"):
        PasteDatabase.build([blind], min_points=5)


def test_a_database_is_built_once(tmp_path, capfd):
    built = open_database(tmp_path / "paste", SCENES, min_points=5)
    assert "paste database" in capfd.readouterr().err
    again = open_database(tmp_path / "paste", [], min_points=5, builds=False)
    np.testing.assert_array_equal(built.points, again.points)
    np.testing.assert_array_equal(built.truth.label, again.truth.label)
    for damaged in (b"damaged", b""):
        (tmp_path / "paste" / "points.npy").write_bytes(damaged)
        with pytest.raises(PasteError, match="remove the folder"):
            open_database(tmp_path / "paste", SCENES, min_points=5)
    assert isinstance(again.truth, Boxes)


def test_two_that_build_a_database_at_once_both_have_it(tmp_path):
    class Overtaken(list):
        """Scenes; while they are read, another run builds the same database."""

        def __getitem__(self, index: int) -> Frame:
            if index == len(self) - 1:
                open_database(tmp_path / "paste", SCENES, min_points=5)
            return super().__getitem__(index)

    late = open_database(tmp_path / "paste", Overtaken(SCENES), min_points=5)
    there = PasteDatabase.load(tmp_path / "paste")
    np.testing.assert_array_equal(late.points, there.points)
    assert [path.name for path in tmp_path.iterdir()] == ["paste"]


def test_a_teacher_sees_pasted_boxes(tiny_world, tmp_path):
    config = dataclasses.replace(
        demo_teacher(),
        depth_weight=0.0,
        augment=None,
        paste=dataclasses.replace(CONFIG, stop_step=1),
    )
    frames = NuScenesFrames(NuScenes(tiny_world), "mini_train", lidar_sweeps=2)
    run = Run.start(tmp_path, config, data="", split="")
    paste = paste_of(frames, run, Processes(count=2))
    views, plain = Views(frames, config, paste=paste), Views(frames, config)
    assert len(views[0].truth) > len(plain[0].truth)
    # Two processes of four samples: the first step ends at position 8.
    assert len(views[7].truth) > len(plain[7].truth)
    assert len(views[8].truth) == len(plain[8].truth)
    assert len(list((tiny_world / "v1.0-mini" / ".crkd_paste").iterdir())) == 1
    assert paste_of(frames, Run(tmp_path, a_config()), Processes()) is None


def test_of_pseudo_labelled_drives_nothing_is_cut_out(tiny_world, tmp_path):
    """Nobody drew a box there: the database is that of the labelled drives."""
    config = dataclasses.replace(
        demo_teacher(), depth_weight=0.0, paste=dataclasses.replace(CONFIG, min_points=6)
    )
    tables = NuScenes(tiny_world)
    labelled, others = (
        NuScenesFrames(tables, split, lidar_sweeps=2) for split in ("mini_train", "mini_val")
    )
    run = Run.start(tmp_path, config, data="", split="")
    mixed = paste_of(MixedFrames(labelled, others, share=0.5), run, Processes())
    alone = paste_of(labelled, run, Processes())
    assert len(mixed.database.truth) == len(alone.database.truth) > 0
