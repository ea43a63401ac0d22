"""The sensors of the synthetic world against slow oracles and against each other."""

from __future__ import annotations

import numpy as np
import pytest
from scene_boxes import boxes_at

from crkd_core import geometry
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.sensors import CAMERAS
from crkd_core.world import rig
from crkd_core.world.content import models
from crkd_core.world.content.layout import SIZES
from crkd_core.world.content.mix import BALANCED
from crkd_core.world.content.scene import Scene
from crkd_core.world.sensors.camera import Camera, pixel_rays
from crkd_core.world.sensors.caster import Caster, placement
from crkd_core.world.sensors.lidar import Lidar
from crkd_core.world.sensors.moment import GROUND, NOTHING, Moment

T = 0.7


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(seed=23, number=0, key_frames=4, mix=BALANCED)


@pytest.fixture(scope="module")
def caster(scene: Scene) -> Caster:
    return Caster(scene)


@pytest.fixture(scope="module")
def moment(caster: Caster) -> Moment:
    return caster.at(T)


@pytest.fixture(scope="module")
def mounts() -> dict[str, rig.Mount]:
    return rig.build_rig(160)


def all_triangles(scene: Scene, t: float) -> tuple[np.ndarray, np.ndarray]:
    """[F, 3, 3] every triangle at t and [F] its actor (-1 scenery, -2 ground), without caster."""
    xy, yaw = scene.place(t)
    position = scene.upright(xy)
    vertices, faces = scene.terrain.mesh(900.0)
    corners = [m.vertices[m.faces] for m in scene.scenery] + [vertices[faces]]
    owners = [np.full(len(m.faces), -1) for m in scene.scenery] + [np.full(len(faces), -2)]
    for i, actor in enumerate(scene.actors):
        pose = placement(position[i], yaw[i])
        vertices = actor.mesh.vertices @ pose[:3, :3].T + pose[:3, 3]
        corners.append(vertices[actor.mesh.faces])
        owners.append(np.full(len(actor.mesh.faces), i))
    return np.concatenate(corners).astype(float), np.concatenate(owners)


def first_hit(triangles: np.ndarray, origin: np.ndarray, ray: np.ndarray) -> tuple[float, int]:
    """Distance and triangle of the first hit (Moeller and Trumbore)."""
    a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
    e1, e2, s = b - a, c - a, origin - a
    p = np.cross(ray, e2)
    det = (e1 * p).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        u = (s * p).sum(1) / det
        q = np.cross(s, e1)
        v = (q @ ray) / det
        t = (e2 * q).sum(1) / det
        hit = (np.abs(det) > 1e-12) & (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 1e-6)
    t = np.where(hit, t, np.inf)
    k = int(t.argmin())
    return (float(t[k]), k) if np.isfinite(t[k]) else (np.inf, NOTHING)


def test_caster_agrees_with_a_slow_oracle(scene: Scene, moment: Moment) -> None:
    triangles, owners = all_triangles(scene, T)
    origin = scene.ego_pose(T)[:3, 3] + [0, 0, 1.7]
    rng = np.random.default_rng(0)
    n = 250
    rays = rng.normal(0, 1, (n, 3)) * [1, 1, 0.05]
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    hits = moment.cast(origin.astype(np.float32), rays.astype(np.float32))
    owner = moment.owner(hits)
    met = set()
    wrong = 0
    for i in range(n):
        distance, k = first_hit(triangles, origin, rays[i])
        expected = owners[k] if k >= 0 else -1
        if expected == -2:
            assert hits.face[i] == GROUND or abs(hits.distance[i] - distance) > 1e-3
            expected = -1
        if distance > 100:  # what is further than the horizon is not simulated
            continue
        # A ray along an edge may go either way; there must be hardly any.
        agrees = abs(hits.distance[i] - distance) < 2e-3 * max(distance, 1)
        wrong += not (agrees and owner[i] == expected)
        met.add(expected)
    assert wrong <= 2
    assert len(met) > 10


@pytest.mark.parametrize("channel", [*CAMERAS, "LIDAR_TOP"])
def test_columns_change_no_ray(
    scene: Scene, moment: Moment, mounts: dict[str, rig.Mount], channel: str
) -> None:
    """Sensors that say how their rays are ordered see what they would see without."""
    local_T_ego = scene.ego_pose(T)
    local_T_rays = local_T_ego
    sensor: Camera | Lidar
    if channel == "LIDAR_TOP":
        sensor = Lidar(scene=scene, mount=mounts[channel])
        local_T_rays = local_T_ego @ mounts[channel].ego_T_sensor
        rays = sensor._rays
    else:
        sensor = Camera(scene=scene, mount=mounts[channel])
        rays = sensor._rays.T
    rays = (rays @ local_T_rays[:3, :3].T).astype(np.float32)
    origin = (local_T_ego @ mounts[channel].ego_T_sensor[:, 3])[:3].astype(np.float32)
    ordered, any_order = moment.cast(origin, rays, sensor._columns), moment.cast(origin, rays)
    np.testing.assert_array_equal(ordered.face, any_order.face)
    np.testing.assert_array_equal(ordered.distance, any_order.distance)
    if channel in ("CAM_FRONT", "LIDAR_TOP"):
        assert scene.moving[moment.owner(any_order)[any_order.face >= 0]].any()


def test_a_glance_sees_boxes_where_rays_meet_bodies(scene: Scene, moment: Moment) -> None:
    origin = (scene.ego_pose(T)[:3, 3] + [0, 0, 0.6]).astype(np.float32)
    azimuth = np.linspace(-np.pi, np.pi, 720)
    rays = np.stack([np.cos(azimuth), np.sin(azimuth), np.full(720, 0.004)], 1)
    rays = (rays / np.linalg.norm(rays, axis=1, keepdims=True)).astype(np.float32)
    hits = moment.cast(origin, rays)
    distance, owner = moment.glance(origin, rays)
    # A box is nowhere behind the body that it is of.
    assert (distance <= hits.distance * (1 + 1e-5) + 1e-3).all()
    assert (owner == moment.owner(hits)).mean() > 0.9
    moving = (owner >= 0) & scene.moving[owner]
    assert moving.sum() > 10
    boxes, index = boxes_at(scene, T)
    row_of = {int(a): r for r, a in enumerate(index)}
    ends = origin + rays * distance[:, None]
    for i in np.flatnonzero(moving):
        assert boxes.contains(ends[i : i + 1], margin=0.02)[row_of[int(owner[i])], 0]


def test_the_map_of_shadows_agrees_with_rays(scene: Scene, moment: Moment) -> None:
    """On the ground; at the edge of a shadow a place of 12 cm may be on either side."""
    rng = np.random.default_rng(2)
    places = scene.ego_pose(T)[:2, 3] + rng.uniform(-25, 25, (4000, 2))
    z = scene.terrain.height(places[:, 0]) + 0.03
    starts = np.stack([*places.T, z]).astype(np.float32)
    by_map, by_rays = (moment.sunless(starts, on_ground=on) for on in (True, False))
    assert 0.02 < by_rays.mean() < 0.98
    assert (by_map == by_rays).mean() > 0.97


def test_meshes_fill_their_boxes() -> None:
    rng = np.random.default_rng(1)
    for label in NUSCENES_CLASSES:
        size = np.array(SIZES[label][0])
        extra = {"rider": True} if label in ("motorcycle", "bicycle") else {}
        mesh = models.BUILDERS[label](size, (0.5, 0.5, 0.5), rng, **extra).fitted(size)
        np.testing.assert_allclose(mesh.vertices.max(0), size / 2, rtol=1e-5)
        np.testing.assert_allclose(mesh.vertices.min(0), -size / 2, rtol=1e-5)
        assert mesh.faces.max() < len(mesh.vertices)
        assert len(mesh.faces) == len(mesh.colour) == len(mesh.material)


def test_lidar_returns_lie_in_truth_boxes_or_outside_all(
    scene: Scene, moment: Moment, mounts: dict[str, rig.Mount]
) -> None:
    lidar = Lidar(scene=scene, mount=mounts["LIDAR_TOP"])
    sweep = lidar.sweep(moment, np.random.default_rng(3))
    assert sweep.dtype == np.float32 and sweep.shape[1] == 5
    assert 15_000 < len(sweep) < 34_560
    assert set(np.unique(sweep[:, 4])) <= set(range(32))
    assert sweep[:, 3].min() >= 0 and sweep[:, 3].max() <= 255
    elevation = np.arctan2(sweep[:, 2], np.hypot(sweep[:, 0], sweep[:, 1]))
    for ring in (0, 10, 20):
        expected = -30.67 + ring * (10.67 + 30.67) / 31
        of_ring = np.rad2deg(elevation[sweep[:, 4] == ring])
        np.testing.assert_allclose(of_ring, expected, atol=1e-3)
    local_T_lidar = scene.ego_pose(T) @ mounts["LIDAR_TOP"].ego_T_sensor
    points = geometry.apply(local_T_lidar, sweep[:, :3])
    # Every return above the ground that is not in a box (plus noise) is from scenery.
    boxes, index = boxes_at(scene, T)
    rays = points - local_T_lidar[:3, 3]
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    hits = moment.cast(local_T_lidar[:3, 3].astype(np.float32), rays.astype(np.float32))
    owner = moment.owner(hits)
    row_of = {int(a): r for r, a in enumerate(index)}
    on = np.flatnonzero(owner >= 0)
    inside = boxes.contains(points[on], margin=0.1)
    own = inside[[row_of[int(a)] for a in owner[on]], np.arange(len(on))]
    assert len(on) > 1000 and own.mean() > 0.999


def test_pictures_and_boxes_agree(
    scene: Scene, moment: Moment, mounts: dict[str, rig.Mount]
) -> None:
    """Pixels of an object lie within the projection of its box, for every camera."""
    boxes, index = boxes_at(scene, T)
    corners = boxes.corners()
    local_T_ego = scene.ego_pose(T)
    checked = 0
    for name in CAMERAS:
        mount = mounts[name]
        assert mount.intrinsics is not None
        local_T_cam = local_T_ego @ mount.ego_T_sensor
        rays = pixel_rays(mount) @ local_T_ego[:3, :3].T
        hits = moment.cast(local_T_cam[:3, 3].astype(np.float32), rays.astype(np.float32))
        owner = moment.owner(hits).reshape(mount.height, mount.width)
        for row, actor in enumerate(index):
            v, u = np.nonzero(owner == actor)
            in_camera = geometry.apply(geometry.invert(local_T_cam), corners[row])
            if len(u) < 4 or in_camera[:, 2].min() < 0.3:
                continue
            pixels = in_camera / in_camera[:, 2:] @ mount.intrinsics.T
            assert u.min() >= pixels[:, 0].min() - 1e-3 and u.max() <= pixels[:, 0].max() + 1e-3
            assert v.min() >= pixels[:, 1].min() - 1e-3 and v.max() <= pixels[:, 1].max() + 1e-3
            checked += 1
    assert checked > 15


def test_picture_has_sky_above_and_ground_below(
    scene: Scene, moment: Moment, mounts: dict[str, rig.Mount]
) -> None:
    camera = Camera(scene=scene, mount=mounts["CAM_FRONT"])
    a = camera.render(moment, np.random.default_rng(1))
    b = camera.render(moment, np.random.default_rng(1))
    c = camera.render(moment, np.random.default_rng(2))
    assert a.shape == (90, 160, 3) and a.dtype == np.uint8
    np.testing.assert_array_equal(a, b)
    assert (a != c).any() and np.abs(a.astype(int) - c).max() < 40  # noise only
    assert a.std() > 15


def test_what_is_hidden_from_one_eye_is_hidden_from_all(
    scene: Scene, moment: Moment, mounts: dict[str, rig.Mount]
) -> None:
    """From one place, a fan of radar rays, LiDAR rays and pixels see the same objects."""
    origin = (scene.ego_pose(T)[:3, 3] + [0, 0, 1.5]).astype(np.float32)
    rays = (pixel_rays(mounts["CAM_FRONT"]) @ scene.ego_pose(T)[:3, :3].T).astype(np.float32)
    hits = moment.cast(origin, rays)
    many = moment.cast(np.tile(origin, (len(rays), 1)), rays)
    np.testing.assert_array_equal(hits.face, many.face)
    on = np.flatnonzero(hits.face >= 0)
    short = hits.distance[on] * np.float32(0.98)
    # Nothing lies between the eye and what it sees, from wherever on the way one looks.
    half = moment.cast(origin + rays[on] * short[:, None] / 2, rays[on])
    np.testing.assert_allclose(half.distance + short / 2, hits.distance[on], rtol=1e-3, atol=1e-3)


def test_a_glance_along_a_body_and_beside_it_does_not_meet_it(moment):
    """Rays exactly along a side are within the box's width for ever, or never."""
    bodies, met = moment._bodies, 0
    for actor, turn, place, half in zip(
        bodies.actor, bodies.turn, bodies.place, bodies.half, strict=True
    ):
        forward = turn[:, 0]
        assert forward[1] * turn[0, 0] - forward[0] * turn[1, 0] == 0
        for aside, meets in ((half[1] + 0.5, False), (0.0, True)):
            origin = place - 3 * half[0] * forward + aside * turn[:, 1]
            _, owner = moment.glance(origin, forward[None])
            assert meets or owner[0] != actor
            met += meets and owner[0] == actor
    assert met > len(bodies.actor) / 2, "most bodies have nothing close before them"
