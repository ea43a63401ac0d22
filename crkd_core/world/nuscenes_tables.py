"""The thirteen nuScenes tables of recorded drives."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from crkd_core import geometry
from crkd_core.data.nuscenes.classes import NUSCENES_ATTRIBUTES
from crkd_core.sensors import CAMERAS, CHANNELS
from crkd_core.world import rig
from crkd_core.world.calibration import recorded_rig
from crkd_core.world.content.scene import scene_key
from crkd_core.world.drive import Recorded, log_name, shot_file
from crkd_core.world.map_files import mask_file
from crkd_core.world.rig import Mount
from crkd_core.world.truth import noticed

Row = dict[str, Any]

TABLES = (
    "category",
    "attribute",
    "visibility",
    "instance",
    "sensor",
    "calibrated_sensor",
    "ego_pose",
    "log",
    "scene",
    "sample",
    "sample_data",
    "sample_annotation",
    "map",
)

#: The 23 categories of nuScenes.
CATEGORIES = (
    "human.pedestrian.adult",
    "human.pedestrian.child",
    "human.pedestrian.wheelchair",
    "human.pedestrian.stroller",
    "human.pedestrian.personal_mobility",
    "human.pedestrian.police_officer",
    "human.pedestrian.construction_worker",
    "animal",
    "vehicle.car",
    "vehicle.motorcycle",
    "vehicle.bicycle",
    "vehicle.bus.bendy",
    "vehicle.bus.rigid",
    "vehicle.truck",
    "vehicle.construction",
    "vehicle.emergency.ambulance",
    "vehicle.emergency.police",
    "vehicle.trailer",
    "movable_object.barrier",
    "movable_object.trafficcone",
    "movable_object.pushable_pullable",
    "movable_object.debris",
    "static_object.bicycle_rack",
)
#: Upper ends of the visibility levels 1 to 4.
VISIBILITY = (
    ("1", 0.4, "v0-40"),
    ("2", 0.6, "v40-60"),
    ("3", 0.8, "v60-80"),
    ("4", 1.1, "v80-100"),
)


class Tables:
    """Grows table by table, drive by drive.

    Args:
        seed: of the world; part of every token, so that two worlds can be merged.
        image_width: pixels, for the intrinsics.
    """

    def __init__(self, *, seed: int, image_width: int) -> None:
        self._seed = seed
        self._image_width = image_width
        self.rows: dict[str, list[Row]] = {name: [] for name in TABLES}
        for i, name in enumerate(CATEGORIES):
            self._add("category", name, name=name, description="", index=i + 1)
        for name in NUSCENES_ATTRIBUTES:
            self._add("attribute", name, name=name, description="")
        for level, end, text in VISIBILITY:
            description = f"visible in the six cameras: up to {min(end, 1.0):.0%}"
            self.rows["visibility"].append(
                {"token": level, "level": text, "description": description}
            )
        for channel, mount in rig.build_rig(image_width).items():
            self._add("sensor", channel, channel=channel, modality=mount.modality)

    def token(self, *parts: object) -> str:
        """A 32-digit token, a function of the seed and of what it names."""
        text = "/".join(str(p) for p in (self._seed, *parts))
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def _add(self, table: str, *key: object, **fields: Any) -> None:
        self.rows[table].append({"token": self.token(table, *key), **fields})

    def add_drive(self, parts: Sequence[Recorded]) -> None:
        """Add one drive from its stretches, in order of time."""
        stretch = parts[0].stretch
        name = stretch.name
        log = log_name(self._seed, name)
        self._add(
            "log", name, logfile=log, vehicle="world", date_captured="2026-01-01",
            location=log,  # Every drive has its own map, and lies on it where it likes.
        )  # fmt: skip
        self._add(
            "map", name, log_tokens=[self.token("log", name)], category="semantic_prior",
            filename=mask_file(log),
        )  # fmt: skip
        count = stretch.key_frames
        self._add(
            "scene", name, name=name, log_token=self.token("log", name), nbr_samples=count,
            description=parts[0].description,
            first_sample_token=self.token("sample", name, 0),
            last_sample_token=self.token("sample", name, count - 1),
        )  # fmt: skip
        for k in range(count):
            self._add(
                "sample", name, k, timestamp=stretch.base_us + k * rig.KEY_US,
                scene_token=self.token("scene", name),
                **self._links(k, count, lambda i: self.token("sample", name, i)),
            )  # fmt: skip
        key = scene_key(self._seed, stretch.number)
        mounts = recorded_rig(key, self._image_width)
        for channel, mount in mounts.items():
            intrinsics = mount.intrinsics
            self._add(
                "calibrated_sensor", name, channel,
                sensor_token=self.token("sensor", channel),
                translation=mount.ego_T_sensor[:3, 3].tolist(),
                rotation=geometry.matrix_to_quat_wxyz(mount.ego_T_sensor[:3, :3]).tolist(),
                camera_intrinsic=[] if intrinsics is None else intrinsics.tolist(),
            )  # fmt: skip
        self._add_data(parts, mounts)
        self._add_annotations(parts)

    @staticmethod
    def _links(i: int, count: int, token: Any) -> Row:
        return {"prev": token(i - 1) if i else "", "next": token(i + 1) if i + 1 < count else ""}

    def _add_data(self, parts: Sequence[Recorded], mounts: dict[str, Mount]) -> None:
        stretch = parts[0].stretch
        name = stretch.name
        by_channel: dict[str, list[tuple[Any, ...]]] = {channel: [] for channel in CHANNELS}
        for part in parts:
            for shot in part.shots:
                by_channel[shot[0].channel].append(shot)
        for channel, shots in by_channel.items():
            shots.sort(key=lambda entry: entry[0].time_us)
            mount = mounts[channel]
            tokens = [self.token("sample_data", name, channel, s[0].time_us) for s in shots]
            for i, (shot, translation, rotation) in enumerate(shots):
                stamp = stretch.base_us + shot.time_us
                key = (name, channel, shot.time_us)
                self._add(
                    "ego_pose", *key, translation=translation, rotation=rotation,
                    timestamp=stamp,
                )  # fmt: skip
                self._add(
                    "sample_data", *key,
                    sample_token=self.token("sample", name, shot.sample),
                    ego_pose_token=self.token("ego_pose", *key),
                    calibrated_sensor_token=self.token("calibrated_sensor", name, channel),
                    timestamp=stamp,
                    fileformat="jpg" if channel in CAMERAS else "pcd",
                    is_key_frame=shot.is_key,
                    height=mount.height,
                    width=mount.width,
                    filename=shot_file(stretch, shot),
                    **self._links(i, len(tokens), tokens.__getitem__),
                )  # fmt: skip

    def _add_annotations(self, parts: Sequence[Recorded]) -> None:
        name = parts[0].stretch.name
        actors = {index: actor for part in parts for index, actor in part.actors.items()}
        truth = noticed({k: rows for part in parts for k, rows in part.truth.items()})
        chains: dict[int, list[int]] = {}
        for k, rows in sorted(truth.items()):
            for row in rows:
                chains.setdefault(row.actor, []).append(k)
        links: dict[int, list[str]] = {}
        for index, chain in sorted(chains.items()):
            links[index] = [self.token("sample_annotation", name, index, k) for k in chain]
            self._add(
                "instance", name, index,
                category_token=self.token("category", actors[index].category),
                nbr_annotations=len(chain),
                first_annotation_token=links[index][0],
                last_annotation_token=links[index][-1],
            )  # fmt: skip
        for k, rows in sorted(truth.items()):
            for row in rows:
                chain, actor = chains[row.actor], actors[row.actor]
                tokens = links[row.actor]
                level = next(v for v, end, _ in VISIBILITY if row.visible < end)
                attributes = [self.token("attribute", row.attribute)] if row.attribute else []
                self._add(
                    "sample_annotation", name, row.actor, k,
                    sample_token=self.token("sample", name, k),
                    instance_token=self.token("instance", name, row.actor),
                    visibility_token=level,
                    attribute_tokens=attributes,
                    translation=row.translation,
                    size=actor.size_wlh,
                    rotation=row.rotation,
                    num_lidar_pts=row.lidar,
                    num_radar_pts=row.radar,
                    **self._links(chain.index(k), len(chain), tokens.__getitem__),
                )  # fmt: skip
