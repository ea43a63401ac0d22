"""View-of-Delft to Frames, without its development kit (docs/vod.md).

Ego is on the ground below the LiDAR, with its axes: x forward, y left, z up. All clouds come moved
to the camera's time already, so that nothing has to be moved here. The one camera is CAM_FRONT of
a Frame and the one radar RADAR_FRONT; the others are missing, as in any rig that lacks them.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import operator
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.boxes import Truth
from crkd_core.config import DRIVABLE, DetectorConfig, ImageConfig
from crkd_core.data import cameras
from crkd_core.data.vod import lidar, radar
from crkd_core.data.vod.absent import check_files
from crkd_core.data.vod.boxes import to_truth
from crkd_core.data.vod.calibration import Calibration, read_calibration
from crkd_core.data.vod.errors import VodError
from crkd_core.data.vod.labels import Objects, objects_of, read_labels
from crkd_core.data.vod.layout import CAMERA, RADAR, RADAR_FOLDERS, Vod, scans_held
from crkd_core.data.vod.lidar import EGO_T_LIDAR
from crkd_core.data.vod.poses import MAP, read_pose
from crkd_core.data.warn import warn_once
from crkd_core.frame import Frame
from crkd_core.sensors import CAMERAS, LIDAR, RADAR_AGE, RADAR_COLUMNS, RADARS

#: Frames a second: the LiDAR leads. Files number frames and do not time them.
FRAME_HZ = 10.0

# To be raised when the digest of an unchanged data set changes, or what a Frame holds of it.
_FORMAT = b"vod 2"

#: What ``sensors`` can name.
_SENSORS = (CAMERA, RADAR)


class VodFrames(Sequence[Frame]):
    """The frames of a split as Frames, read from disk when asked for.

    - Time: the frame's number by FRAME_HZ. Within a clip differences are right.
    - Radar: the last ``radar_sweeps`` scans, of the cloud that holds so many or, where there is
      none, of the next larger one.
    - Pose: None, with a warning, where a file does not tell it.
    - Truth: all labelled objects of the thirteen classes, velocities unknown; None for the test
      set. Token: the frame's name.

    Args:
        tables: the data set.
        split: name of a split, or names of frames.
        radar_sweeps: scans; 0 = no radar.
        lidar_sweeps: 1, or 0 = no LiDAR.
        image: images are prepared for this configuration; None = as recorded.
        sensors: which of CAM_FRONT and RADAR_FRONT to read; the others are missing. None = both.

    Raises:
        VodError: unknown split, frame or sensor, no frame, more scans than there are.
    """

    def __init__(
        self,
        tables: Vod,
        split: str | Sequence[str],
        *,
        radar_sweeps: int = 5,
        lidar_sweeps: int = 0,
        image: ImageConfig | None = None,
        sensors: Collection[str] | None = None,
    ) -> None:
        self.tables = tables
        self.tokens = tables.samples_of(split) if isinstance(split, str) else list(split)
        if not self.tokens:
            raise VodError(f"{tables.root}: expected at least one frame, got none")
        tables.check_known(self.tokens)
        if not 0 <= radar_sweeps <= max(RADAR_FOLDERS):
            raise VodError(
                f"View-of-Delft has clouds of at most {max(RADAR_FOLDERS)} radar scans, got "
                f"{radar_sweeps}; set detector.radar.sweeps to 1, 3 or 5"
            )
        _check_lidar(lidar_sweeps)
        _check_sensors(sensors or ())
        self._scans, self.lidar_sweeps, self._image = radar_sweeps, lidar_sweeps, image
        self._sensors = frozenset(_SENSORS if sensors is None else sensors)

    @property
    def classes(self) -> tuple[str, ...]:
        """What the truth of its Frames can be of."""
        return self.tables.classes

    @classmethod
    def for_detectors(
        cls,
        tables: Vod,
        split: str | Sequence[str],
        *detectors: DetectorConfig,
        sensors: Collection[str] = (),
        lidar_sweeps: int = 0,
        recorded: bool = False,
        remembered: bool = False,
    ) -> VodFrames:
        """The frames as these networks need them; arguments as of NuScenesFrames.for_detectors.

        Raises:
            VodError: see the constructor; or earlier moments or the drivable area are asked for.
        """
        if remembered and detectors[0].temporal is not None:
            raise VodError(
                f"{detectors[0].name} has memory, and Frames of View-of-Delft are read without "
                "earlier moments; train it with --set detector.temporal=null"
            )
        mapped = [config for config in detectors if DRIVABLE in config.segment_classes]
        if mapped:
            raise VodError(
                f"{mapped[0].name} has a head for the drivable area, and View-of-Delft has no "
                "maps that say what it is; leave it out: --set "
                "'detector.segments.classes=[vehicle]', and name in detector.segments.vehicles "
                f"those of {', '.join(mapped[0].classes)} that are vehicles"
            )
        _check_sensors(sensors)
        read = {sensor for config in detectors for sensor in config.sensors}
        return cls(
            tables,
            split,
            radar_sweeps=max(config.radar_sweeps for config in detectors),
            lidar_sweeps=max(lidar_sweeps, *(config.lidar_sweeps for config in detectors)),
            image=None if recorded else detectors[0].image,
            sensors=read & {*(sensors or _SENSORS)},
        )

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> Frame:  # type: ignore[override]
        """The Frame of one name.

        Raises:
            IndexError: no such frame.
            TypeError: no whole number, such as a slice; name the frames instead.
            VodError, CameraError: a file is missing or damaged; names it.
        """
        name = self.tokens[operator.index(index)]
        calibration = self.calibration(index)
        ego_T_camera = EGO_T_LIDAR @ geometry.invert(calibration.camera_T_sensor)
        place, count = CAMERAS.index(CAMERA), len(CAMERAS)
        images: list[NDArray[np.uint8] | None] = [None] * count
        intrinsics, ego_T_cam = (
            np.tile(np.eye(3), (count, 1, 1)),
            np.tile(np.eye(4), (count, 1, 1)),
        )
        intrinsics[place], ego_T_cam[place] = calibration.intrinsics, ego_T_camera
        if CAMERA in self._sensors:
            image = cameras.read_image(self.tables.image(name))
            if self._image is not None:
                image, intrinsics[place] = cameras.prepare_image(
                    image, calibration.intrinsics, self._image, up=ego_T_camera[2, :3]
                )
            images[place] = image
        points, present = self._radar(name, ego_T_camera)
        cloud = None
        if self.lidar_sweeps:
            cloud = lidar.to_frame(lidar.read_cloud(self.tables.lidar(name)))
        global_T_ego = self._place(name, ego_T_camera)
        return Frame(
            stamp_ns=round(int(name) * 1e9 / FRAME_HZ),
            images=tuple(images),
            intrinsics=intrinsics,
            ego_T_cam=ego_T_cam,
            prepared=self._image,
            radar=points,
            radar_present=present,
            lidar=cloud,
            global_T_ego=global_T_ego,
            truth=self._truth(index, calibration),
            token=name,
        )

    def present(self, channel: str) -> NDArray[np.bool_]:
        """[N] which frames have a sensor: all have camera, radar and LiDAR, and none another."""
        return np.full(len(self), channel in (*_SENSORS, LIDAR))

    def truth(self, index: int) -> Truth:
        """Boxes of one frame in ego axes, from labels and calibration alone.

        Raises:
            VodError: the frame is of the test set; or see ``__getitem__``.
        """
        truth = self._truth(index, self.calibration(index))
        if truth is None:
            raise VodError(f"{self.tables.root}: frame {self.tokens[index]} has no labels")
        return truth

    def objects(self, index: int) -> Objects:
        """The label file of one frame, as it is; no objects for the test set.

        Raises:
            VodError: missing or damaged; names the file.
        """
        path = self.tables.labels(self.tokens[index])
        return objects_of([], np.zeros((0, 15))) if path is None else read_labels(path)

    def calibration(self, index: int) -> Calibration:
        """Camera and LiDAR of one frame.

        Raises:
            VodError: missing or damaged; names the file.
        """
        return read_calibration(self.tables.lidar_calibration(self.tokens[index]))

    def check_files(self) -> None:
        """Refuse, before long work, frames of which a file that is read is not there.

        Raises:
            VodError: see ``absent.check_files``.
        """
        scans = self._scans if RADAR in self._sensors else 0
        image, cloud = CAMERA in self._sensors, self.lidar_sweeps > 0
        check_files(self.tables, self.tokens, image=image, scans=scans, lidar=cloud)

    def digest(self) -> str:
        """Changes when names, labels or calibration of these frames do; sensor data is not read.

        Raises:
            VodError: a file is missing.
        """
        sha = hashlib.sha256(_FORMAT)
        for name in self.tokens:
            sha.update(name.encode())
            for path in (self.tables.labels(name), self.tables.lidar_calibration(name)):
                sha.update(b"" if path is None else _bytes(path))
        return sha.hexdigest()[:16]

    def identity(self) -> list[Any]:
        """What its Frames are decided by, as JSON; see NuScenesFrames.identity."""
        return [
            *("vod", self.digest(), self._scans, self.lidar_sweeps),
            self._image and dataclasses.asdict(self._image),
            sorted(self._sensors),
        ]

    def with_lidar_sweeps(self, count: int) -> VodFrames:
        """The same frames with another number of LiDAR sweeps; 0 = no LiDAR.

        Raises:
            VodError: neither 0 nor 1.
        """
        _check_lidar(count)
        frames = copy.copy(self)
        frames.lidar_sweeps = count
        return frames

    def lidar_only(self) -> VodFrames:
        """The same frames without camera and radar, for what reads only LiDAR and truth."""
        return VodFrames(self.tables, self.tokens, lidar_sweeps=self.lidar_sweeps, sensors=())

    def _truth(self, index: int, calibration: Calibration) -> Truth | None:
        path = self.tables.labels(self.tokens[index])
        if path is None:
            return None
        return to_truth(
            read_labels(path),
            ego_T_lidar=EGO_T_LIDAR,
            camera_T_lidar=calibration.camera_T_sensor,
            classes=self.classes,
            source=str(path),
        )

    def _place(self, name: str, ego_T_camera: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """[4, 4] global_T_ego."""
        path = self.tables.pose(name)
        map_T_camera = read_pose(path)
        if map_T_camera is None:
            warn_once(f"{path}: has no {MAP!r}; where the vehicle was then is not known")
            return None
        return map_T_camera @ geometry.invert(ego_T_camera)

    def _radar(
        self, name: str, ego_T_camera: NDArray[np.float64]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Points [N, 20] and which radars deliver [5]."""
        present = np.zeros(len(RADARS), bool)
        if not self._scans or RADAR not in self._sensors:
            return np.zeros((0, len(RADAR_COLUMNS)), np.float32), present
        held = scans_held(self._scans)
        calibration = read_calibration(self.tables.radar_calibration(name, held))
        points = radar.to_frame(
            radar.read_scans(self.tables.radar(name, held)),
            ego_T_camera @ calibration.camera_T_sensor,
        )
        present[RADARS.index(RADAR)] = True
        recent = points[:, RADAR_AGE] * radar.SCAN_HZ < self._scans - 0.5
        return points[recent], present


def _check_lidar(sweeps: int) -> None:
    if sweeps not in (0, 1):
        raise VodError(
            f"View-of-Delft has one LiDAR sweep a frame, got {sweeps}; set "
            "detector.lidar.sweeps to 1"
        )


def _check_sensors(sensors: Collection[str]) -> None:
    unknown = set(sensors) - {*_SENSORS}
    if unknown:
        here = " and ".join(_SENSORS)
        raise VodError(f"unknown sensors {', '.join(sorted(unknown))}; View-of-Delft has {here}")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise VodError(f"{path}: cannot be read: {error.strerror}") from error
