"""Foreground masks against polygons, and the enlargement rule by hand."""

from __future__ import annotations

import dataclasses

import model_tiny
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_tiny import TINY
from shapely import affinity
from shapely.geometry import MultiPoint, Point, box

from crkd_core.boxes import Boxes
from crkd_core.config import (
    CrkdConfig,
    EnlargeConfig,
    GridConfig,
    ImkdConfig,
    RayConfig,
    TrainConfig,
)
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.distill.foreground import (
    enlarge,
    foreground,
    rasterise,
    ray_foreground,
    with_foreground,
)
from crkd_core.losses.targets import targets_of

GRID = GridConfig(low=(-12.0, -8.0, -5.0), high=(12.0, 8.0, 3.0), cell=0.8)
SAME = EnlargeConfig(share=(0.0, 0.0), growth=(0.0, 0.0))


def boxes(*rows: tuple[float, ...]) -> Boxes:
    """Rows of x, y, length, width, yaw, vx, vy."""
    a = np.array(rows, float).reshape(-1, 7)
    return Boxes(
        center=np.insert(a[:, :2], 2, 0.5, 1),
        size=np.insert(a[:, 2:4], 2, 1.5, 1),
        yaw=a[:, 4],
        velocity=a[:, 5:],
        label=np.zeros(len(a), np.int64),
        classes=NUSCENES_CLASSES,
    )


number = st.floats(-1, 1)


@given(
    st.lists(
        st.tuples(
            number.map(lambda v: 14 * v),
            number.map(lambda v: 10 * v),
            st.floats(0.3, 12),
            st.floats(0.3, 6),
            number.map(lambda v: 4 * v),
        ),
        max_size=4,
    )
)
@settings(deadline=None, max_examples=60)
def test_a_cell_counts_when_its_centre_is_in_a_polygon(rows) -> None:
    found = rasterise(boxes(*[(*row, 0, 0) for row in rows]), GRID)
    assert found.shape == GRID.shape
    x = GRID.low[0] + GRID.cell * (np.arange(GRID.shape[0]) + 0.5)
    y = GRID.low[1] + GRID.cell * (np.arange(GRID.shape[1]) + 0.5)
    centres = np.stack(np.meshgrid(x, y, indexing="ij"), -1).reshape(-1, 2)
    expected, close = (np.zeros(len(centres), bool) for _ in range(2))
    for cx, cy, length, width, yaw in rows:
        flat = box(-length / 2, -width / 2, length / 2, width / 2)
        polygon = affinity.translate(affinity.rotate(flat, yaw, (0, 0), use_radians=True), cx, cy)
        points = MultiPoint(centres).geoms
        expected |= np.array([polygon.covers(p) for p in points])
        close |= np.array([polygon.exterior.distance(p) < 1e-9 for p in points])
    wrong = (found.reshape(-1) != expected) & ~close
    assert not wrong.any()


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(0, 40), st.floats(-2, 2), st.floats(-2, 2))
@settings(deadline=None, max_examples=60)
def test_turning_the_world_changes_no_growth(yaw, turn, x, vx, vy) -> None:
    """The released rule compares world velocities with box sides and fails this."""
    c, s = np.cos(turn), np.sin(turn)
    config = EnlargeConfig(speed=(0.3003, 0.8007), range=(20.0003, 30.0007))
    before = enlarge(boxes((x, 0, 4, 2, yaw, vx, vy)), config)
    after = enlarge(
        boxes((c * x, s * x, 4, 2, yaw + turn, c * vx - s * vy, s * vx + c * vy)), config
    )
    np.testing.assert_allclose(before.size, after.size, rtol=1e-9)


@pytest.mark.parametrize(
    ("row", "length", "width"),
    [
        ((5, 0, 4, 2, 0, 0, 0), 4.5, 2.5),  # near and parked: the least growth
        ((20, 0, 4, 2, 0, 0.3, 0), 4.5, 2.5),  # exactly on the lower thresholds: no share
        ((25, 0, 4, 2, 0, 0, 0), 5.0, 2.5),  # a quarter
        ((30, 0, 4, 2, 0, 0, 0), 6.0, 3.0),  # exactly on the upper one: a half
        ((5, 0, 4, 2, 0, 0, -0.5), 4.5, 2.5),
        ((5, 0, 4, 2, 0, 0, -0.9), 4.5, 3.0),
        ((5, 0, 4, 2, np.pi / 2, 0, 0.9), 6.0, 2.5),  # drives along its own length
        ((35, 0, 4, 2, 0, 0.9, 0.9), 8.0, 4.0),  # far and fast: both shares
        ((35, 0, 12, 2, 0, 9, 0), 16.0, 3.0),  # at most four metres
        ((5, 0, 4, 2, 0, np.nan, np.nan), 4.5, 2.5),
    ],
)
def test_growth(row, length, width) -> None:
    given_boxes = boxes(row)
    found = enlarge(given_boxes, EnlargeConfig())
    np.testing.assert_allclose(found.size[0], [length, width, 1.5])
    np.testing.assert_array_equal(found.center, given_boxes.center)
    np.testing.assert_array_equal(given_boxes.size[0, :2], row[2:4])


def test_samples_have_their_own_masks_and_may_be_empty() -> None:
    a, b = boxes((3, 2, 4, 2, 0.7, 0, 0)), boxes((-5, -3, 4, 2, 0, 0, 0))
    masks = foreground([a, boxes(), b], GRID, SAME)
    assert not masks[1].any()
    np.testing.assert_array_equal(masks[0], rasterise(a, GRID))
    np.testing.assert_array_equal(masks[2], rasterise(b, GRID))


def test_a_turned_box_has_its_own_area() -> None:
    """At 90 degrees the released mask is empty; here the area is that of the box."""
    fine = dataclasses.replace(GRID, cell=0.1)
    for yaw in (0, np.pi / 4, np.pi / 2, 2.5):
        area = 0.01 * rasterise(boxes((0.033, 0.021, 4, 2, yaw, 0, 0)), fine).sum()
        assert area == pytest.approx(8, rel=0.05), yaw


def test_ellipses_lie_along_the_ray() -> None:
    """Against shapely: a circle of radius 1, stretched, turned to the ray and moved to the box."""
    grid = GridConfig(low=(-40.0, -40.0, -5.0), high=(40.0, 40.0, 3.0), cell=0.8)
    rng = np.random.default_rng(3)
    truth = model_tiny.truth(rng, 12)
    rays = RayConfig(along=0.05, across=0.02)
    found = ray_foreground([truth], grid, rays)[0].numpy()
    x, y = (grid.low[a] + (np.arange(n) + 0.5) * grid.cell for a, n in enumerate(grid.shape))
    expected = np.zeros(grid.shape, bool)
    for center, size, yaw in zip(truth.center, truth.size, truth.yaw, strict=True):
        ray = np.arctan2(center[1], center[0])
        corners = affinity.rotate(
            box(-size[0] / 2, -size[1] / 2, size[0] / 2, size[1] / 2), yaw - ray, use_radians=True
        )
        _, _, along, across = corners.bounds
        far = np.hypot(*center[:2])
        circle = Point(0, 0).buffer(1, quad_segs=256)
        shape = affinity.scale(circle, along + 0.05 * far, across + 0.02 * far)
        shape = affinity.rotate(shape, ray, origin=(0, 0), use_radians=True)
        shape = affinity.translate(shape, *center[:2])
        expected |= np.array([[shape.contains(Point(u, v)) for v in y] for u in x])
    assert (found != expected).sum() <= 2  # a polygon is a little smaller than its ellipse
    assert expected.sum() > 30


def test_the_mask_is_what_the_run_asks_for() -> None:
    crkd = CrkdConfig(
        teacher="",
        teacher_checksum="",
        losses={"msfd_camera": 1.0},
        enlarge=EnlargeConfig(growth=(2.0, 9.0)),
        rays=RayConfig(along=0.3, across=0.1),
    )
    run = TrainConfig(detector=TINY, crkd=crkd)
    truths = [model_tiny.truth(np.random.default_rng(1), 5)]
    made = targets_of(truths, TINY)
    enlarged = with_foreground(made, truths, run).foreground
    rays = with_foreground(
        made, truths, dataclasses.replace(run, crkd=dataclasses.replace(crkd, msfd_mask="rays"))
    ).foreground
    assert torch.equal(enlarged, foreground(truths, TINY.grid, crkd.enlarge))
    assert torch.equal(rays, ray_foreground(truths, TINY.grid, crkd.rays))
    assert not torch.equal(enlarged, foreground(truths, TINY.grid, EnlargeConfig()))
    assert not torch.equal(rays, ray_foreground(truths, TINY.grid, RayConfig()))
    heatmaps = dataclasses.replace(crkd, losses={"respd_heatmap": 1.0})
    run = dataclasses.replace(run, crkd=heatmaps)
    assert with_foreground(made, truths, run).foreground is None


@pytest.mark.parametrize("loss", ["radar", "fused", "label"])
def test_rays_are_made_where_a_loss_of_imkd_counts_by_them(loss) -> None:
    imkd = ImkdConfig(teacher="", teacher_checksum="", rays=RayConfig(along=0.1, across=0.05))
    own = dataclasses.replace(getattr(imkd, loss), cells="rays")
    truths = [model_tiny.truth(np.random.default_rng(1), 5), None]
    made = targets_of(truths, TINY, partly=True)
    run = TrainConfig(detector=TINY, imkd=imkd)
    assert with_foreground(made, truths, run).rays is None
    run = dataclasses.replace(run, imkd=dataclasses.replace(imkd, **{loss: own}))
    found = with_foreground(made, truths, run)
    assert found.foreground is None
    assert torch.equal(found.rays[:1], ray_foreground(truths[:1], TINY.grid, imkd.rays))
    assert not found.rays[1].any()
