"""What the sensors of nuScenes samples recorded, read from their files and seen from ego."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from crkd_core.config import ImageConfig
from crkd_core.data import cameras, lidar, radar
from crkd_core.data.nuscenes.scenes import NuScenes
from crkd_core.data.nuscenes.sweeps import SweepRule, sweeps_until
from crkd_core.data.radar_file import read_pcd
from crkd_core.sensors import CAMERAS, CHANNELS, LIDAR, RADARS


class SensorFiles:
    """Images and point clouds of samples; ``sample`` is a row, ``ego`` that at its reference.

    Args:
        tables: the data set.
        absent: rows of its records without a file, see absent.py.
        sensors: cameras and radars to read; the others are missing.
        radar_sweeps: sweeps per radar.
        image: images are prepared for this configuration; None = as recorded.
    """

    def __init__(
        self,
        tables: NuScenes,
        absent: NDArray[np.int64],
        *,
        sensors: Collection[str],
        radar_sweeps: int,
        image: ImageConfig | None,
    ) -> None:
        self._tables, self._absent = tables, absent
        self._sensors, self._radar_sweeps, self._image = sensors, radar_sweeps, image

    def cameras(
        self, sample: int, ego_T_global: NDArray[np.float64]
    ) -> tuple[tuple[NDArray[np.uint8] | None, ...], NDArray[np.float64], NDArray[np.float64]]:
        """Images, [6, 3, 3] intrinsics and [6, 4, 4] ego_T_cam; identities where there is none.

        Raises:
            CameraError: an image is missing, damaged, or not of the size that the tables say.
        """
        images: list[NDArray[np.uint8] | None] = []
        intrinsics = np.tile(np.eye(3), (len(CAMERAS), 1, 1))
        ego_T_cam = np.tile(np.eye(4), (len(CAMERAS), 1, 1))
        table = self._tables.index
        for camera, name in enumerate(CAMERAS):
            row = int(table.sample_key[sample, CHANNELS.index(name)])
            image = None
            if row >= 0:
                intrinsics[camera] = table.calib_intrinsics[table.record_calib[row]]
                ego_T_cam[camera] = self._moved([row], ego_T_global)[0]
                if name in self._sensors:
                    image = cameras.read_image(
                        self._tables.path_of(row), size=self._tables.image_size(row)
                    )
                    if self._image is not None:
                        image, intrinsics[camera] = cameras.prepare_image(
                            image,
                            intrinsics[camera],
                            self._image,
                            up=table.calib_pose[table.record_calib[row]][2, :3],
                        )
            images.append(image)
        return tuple(images), intrinsics, ego_T_cam

    def radars(
        self, sample: int, stamp: int, ego_T_global: NDArray[np.float64]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Accumulated points [N, 20] and which radars deliver [5].

        Raises:
            RadarError: a sweep is missing or damaged.
        """
        table = self._tables.index
        present = np.zeros(len(RADARS), bool)
        rows: list[int] = []
        sensors: list[int] = []
        for sensor, name in enumerate(RADARS):
            if name not in self._sensors:
                continue
            chain = self._sweeps(sample, name, stamp, self._radar_sweeps)
            present[sensor] = bool(chain)
            rows += chain
            sensors += [sensor] * len(chain)
        poses = self._moved(rows, ego_T_global)
        sweeps = [
            radar.RadarSweep(
                stamp_ns=int(table.record_stamp[row]),
                sensor=sensor,
                points=read_pcd(self._tables.path_of(row)),
                ego_T_radar=pose,
            )
            for row, sensor, pose in zip(rows, sensors, poses, strict=True)
        ]
        return radar.accumulate(sweeps, stamp), present

    def lidar(
        self, sample: int, ego_T_global: NDArray[np.float64], *, sweeps: int
    ) -> NDArray[np.float32] | None:
        """Accumulated points [N, 5] of at most so many sweeps; None without a key sweep.

        Raises:
            LidarError: a sweep is missing or damaged.
        """
        table = self._tables.index
        row = int(table.sample_key[sample, CHANNELS.index(LIDAR)])
        if row < 0:
            return None
        stamp = int(table.record_stamp[row])
        rows = self._sweeps(sample, LIDAR, stamp, sweeps)
        read = [
            lidar.LidarSweep(
                stamp_ns=int(table.record_stamp[one]),
                points=lidar.read_bin(self._tables.path_of(one)),
                ego_T_lidar=pose,
            )
            for one, pose in zip(rows, self._moved(rows, ego_T_global), strict=True)
        ]
        return lidar.accumulate(read, stamp)

    def _sweeps(self, sample: int, channel: str, stamp: int, count: int) -> list[int]:
        rule = SweepRule.of(channel, count)
        return sweeps_until(self._tables.index, self._absent, sample, channel, stamp, rule)

    def _moved(self, rows: list[int], ego_T_global: NDArray[np.float64]) -> NDArray[np.float64]:
        """[n, 4, 4] sensor at its own time -> ego at the reference."""
        table = self._tables.index
        mounting = table.calib_pose[table.record_calib[np.asarray(rows, np.int64)]]
        return ego_T_global @ self._tables.poses_of(rows) @ mounting
