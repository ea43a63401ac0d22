"""Light that reaches surfaces: sun and sky by day; lamps, headlights and windows by night."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core.world.content.scene import Scene
from crkd_core.world.content.weather import NIGHT
from crkd_core.world.sensors.moment import Moment

#: Below this much sun, behind clouds, there are no shadows.
_CLOUDED = 0.2
#: Shadows further away than this are not seen, metres.
_SHADOWS = 70.0
#: Street lamps and headlights of others that are looked at: metres, number.
_NEAR, _MOST = 60.0, 9
#: Where the light of street lamps, of others' headlights and of the own ones ends, metres.
_LAMP_REACH, _POOL_REACH, _BEAM_REACH = 32.0, 14.0, 120.0
_LAMP = np.array([[15.0], [12.0], [7.6]], np.float32)
_POOL = np.array([[2.6], [2.6], [2.4]], np.float32)
_BEAM = np.array([[46.0], [45.0], [42.0]], np.float32)


def daylight(
    scene: Scene, moment: Moment, points: NDArray[np.float32], normal: NDArray[np.float32],
    distance: NDArray[np.float32], *, on_ground: bool,
) -> NDArray[np.float32]:  # fmt: skip
    """[N] brightness of surfaces by sun, with shadows where one can see them, and sky.

    Args:
        scene: the drive.
        moment: the time.
        points: [3, N] metres.
        normal: [3, N].
        distance: [N] of the points from who looks, metres.
        on_ground: whether they lie on the ground.
    """
    weather = scene.weather
    light = normal[2] * np.float32(0.25 * weather.ambient)
    light += np.float32(0.75 * weather.ambient)
    sun = weather.sun.astype(np.float32)
    direct = sun @ normal
    direct *= np.float32(weather.direct)
    np.maximum(direct, 0, out=direct)
    if weather.direct > _CLOUDED:
        near = ((direct > 0) & (distance < _SHADOWS)).nonzero()[0]
        start = normal.take(near, 1)
        start *= np.float32(0.02)
        start += points.take(near, 1)
        start += sun[:, None] * np.float32(0.03)
        direct[near[moment.sunless(start, on_ground=on_ground)]] = 0
    light += direct
    return light


def lamplight(
    scene: Scene, t: float, points: NDArray[np.float32], normal: NDArray[np.float32]
) -> NDArray[np.float32]:
    """[3, N] brightness by street lamps, own and others' headlights, in a dark street.

    Args:
        scene: the drive.
        t: seconds.
        points: [3, N] metres.
        normal: [3, N].
    """
    local_T_ego = scene.ego_pose(t)
    ego = local_T_ego[:3, 3]
    street, pools = np.zeros((2, points.shape[1]), np.float32)
    lamps = scene.lamps
    if len(lamps):
        near = np.argsort(np.hypot(*(lamps[:, :2] - ego[:2]).T), kind="stable")[:_MOST]
        for lamp in lamps[near]:
            if np.hypot(*(lamp - ego)[:2]) < _NEAR:
                _add(street, lamp, points, normal, soft=6.0, reach=_LAMP_REACH)
    state = scene.state(t)
    drives = scene.lit[state.index] & (np.hypot(*(state.position - ego)[:, :2].T) < 40)
    rows = np.flatnonzero(drives)[:_MOST]
    for position, yaw in zip(state.position[rows], state.yaw[rows], strict=True):
        pool = position + 6.5 * np.array([np.cos(yaw), np.sin(yaw), 0])
        pool[2] -= position[2] - scene.terrain.height(pool[0]) - 1.2
        _add(pools, pool, points, normal, soft=3.0, reach=_POOL_REACH)
    light = street * _LAMP
    light += pools * _POOL
    light += np.float32(scene.weather.ambient)
    lit, strength = _beam(local_T_ego, points, normal)
    for plane, part in zip(light, _BEAM[:, 0], strict=True):
        plane[lit] += strength * part
    return light


def _add(
    light: NDArray[np.float32], lamp: NDArray[Any], points: NDArray[np.float32],
    normal: NDArray[np.float32], *, soft: float, reach: float,
) -> None:  # fmt: skip
    """Add a lamp in the open, unit strength: inverse square, softened near and cut off far.

    Args:
        light: [N] is changed.
        lamp: [3] metres.
        points: [3, N] metres.
        normal: [3, N].
        soft: square metres added to the square of the distance.
        reach: metres beyond which nothing arrives.
    """
    x, y, z = lamp.astype(np.float32)
    level = np.square(points[0] - x)
    level += np.square(points[1] - y)
    rows = (level < np.float32(reach**2)).nonzero()[0]
    if not len(rows):
        return
    level = level.take(rows)
    toward = np.array([[x], [y], [z]]) - points.take(rows, 1)
    facing = np.einsum("ij,ij->j", toward, normal.take(rows, 1))
    square = level + np.square(toward[2])
    fade = 1 - level * np.float32(1 / reach**2)
    light[rows] += np.maximum(facing, 0) / np.sqrt(square) / (square + np.float32(soft)) * fade


def _beam(
    local_T_ego: NDArray[Any], points: NDArray[np.float32], normal: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Of the own low beam: which points [M] it reaches, and how brightly [M].

    It is wide, cut off above, and brighter towards the cut.
    """
    lamp = (local_T_ego @ [3.9, 0, 0.7, 1])[:3].astype(np.float32)
    axes = np.ascontiguousarray(local_T_ego[:3, :3].T, np.float32)
    ahead = axes[0] @ points - axes[0] @ lamp
    rows = ((ahead > 0.2) & (ahead < _BEAM_REACH)).nonzero()[0]
    offset = points.take(rows, 1) - lamp[:, None]
    ahead, left, up = axes @ offset
    distance = np.sqrt(np.einsum("ij,ij->j", offset, offset)) + np.float32(1e-3)
    facing = -np.einsum("ij,ij->j", offset, normal.take(rows, 1)) / distance
    shape = np.exp(-np.square(left / np.maximum(ahead, np.float32(0.5)) / np.float32(0.55)))
    rise = np.clip((up / distance + np.float32(0.004)) / np.float32(0.012), -30, 30)
    shape *= np.float32(0.03) + 1 / (1 + np.exp(rise))
    # Flat incidence on the road is made up for by the beam's shape.
    shape *= np.float32(0.22) + np.float32(0.5) * np.maximum(facing, 0)
    return rows, shape / (np.square(distance + 4) * np.float32(0.35))


def is_night(scene: Scene) -> bool:
    """Whether lamps and headlights are what there is to see by."""
    return scene.weather.kind == NIGHT
