"""A radar of one drive: 125 returns a sweep, the nearest first, as the sensor of nuScenes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.sensors import RADARS
from crkd_core.world import rig
from crkd_core.world.content.scene import Scene
from crkd_core.world.sensors.moment import Moment
from crkd_core.world.sensors.radar.clutter import FAN, FARTHEST, Clutter
from crkd_core.world.sensors.radar.codes import OwnMotion, table
from crkd_core.world.sensors.radar.objects import ObjectEchoes
from crkd_core.world.sensors.radar.returns import joined

FIELD_OF_VIEW = np.deg2rad(60.0)
#: Objects further away do not answer, metres.
REACH = 120.0
#: The most a sensor sends; clutter fills what objects leave.
RETURNS = 125
#: Shares of a sweep.
_OUTSIDE, _CHILDREN = 0.07, 0.17


class Radar:
    """One radar of one drive."""

    def __init__(self, *, scene: Scene, mount: rig.Mount) -> None:
        self.scene, self.mount = scene, mount
        number = RADARS.index(mount.channel)
        self._objects = ObjectEchoes(
            scene=scene, radar=number, reach=REACH, half_view=FIELD_OF_VIEW
        )
        self._clutter = Clutter(scene=scene, radar=number, half_view=FIELD_OF_VIEW)

    def sweep(self, moment: Moment, rng: np.random.Generator) -> NDArray[np.float32]:
        """[125, 18] returns in the radar frame at the time of the moment, RADAR_FIELDS."""
        t = moment.t
        local_T_radar = self.scene.ego_pose(t) @ self.mount.ego_T_sensor
        outside = int(rng.binomial(RETURNS, _OUTSIDE))
        children = int(rng.binomial(RETURNS, _CHILDREN))
        room = RETURNS - outside - children
        view = self._objects.in_view(self.scene.state(t), local_T_radar)
        fan = self._clutter.rays @ local_T_radar[:3, :3].T.astype(np.float32)
        distance, owner = moment.glance(
            local_T_radar[:3, 3].astype(np.float32), np.concatenate([fan, view.rays])
        )
        walls = np.minimum(distance[:FAN], FARTHEST).astype(float)
        sight = view.sight(distance[FAN:], owner[FAN:])
        real = self._objects.returns(view, sight, local_T_radar, t, rng)
        real = joined([real, self._clutter.ghosts(real, walls, rng)])
        if len(real) > room:
            real = real.take(np.argsort(real.distance, kind="stable")[:room])
        standing = self._clutter.standing(room - len(real), t, walls, local_T_radar, rng)
        parents = joined([real, standing])
        inside = joined([parents, self._clutter.children(children, parents, rng)])
        inside = inside.within(FIELD_OF_VIEW)
        returns = joined([inside, self._clutter.outside(outside, rng)])
        return table(returns, self.own_motion(t), rng)

    def own_motion(self, t: float) -> OwnMotion:
        """The radar's own: the vehicle's velocity plus that of the lever arm, radar axes."""
        velocity, rate = self.scene.ego_velocity(t)
        local_T_ego = self.scene.ego_pose(t)
        arm = (local_T_ego[:3, :3] @ self.mount.ego_T_sensor[:3, 3])[:2]
        velocity = velocity + rate * np.array([-arm[1], arm[0]])
        turned = geometry.rotate(geometry.invert(local_T_ego @ self.mount.ego_T_sensor), velocity)
        return OwnMotion(velocity=turned, rate=rate)
