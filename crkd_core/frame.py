"""Frame: one instant as the vehicle sees it. All upstream makes Frames, a Detector eats them."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from crkd_core import frame_checks, geometry
from crkd_core.area import Area
from crkd_core.boxes import Truth
from crkd_core.config import ImageConfig
from crkd_core.frame_checks import FrameError as FrameError  # part of this module's face
from crkd_core.sensors import (
    CAMERAS,
    LIDAR,
    LIDAR_COLUMNS,
    RADAR_AGE,
    RADAR_COLUMN,
    RADAR_COLUMNS,
    RADAR_COMPENSATED,
    RADAR_DEFAULTS,
    RADAR_SENSOR,
    RADAR_VELOCITY,
    RADAR_XYZ,
    RADARS,
)


@dataclass(frozen=True, kw_only=True)
class PastFrame:
    """An earlier moment of a Frame.

    Attributes:
        frame: in its own axes.
        now_T_past: [4, 4] float64, those axes to the axes of the Frame that has it.
    """

    frame: Frame
    now_T_past: NDArray[np.float64]

    def moved(self, new_T_ego: NDArray[np.float64]) -> PastFrame:
        """The same in other axes, both moments moved alike; see Frame.moved."""
        return PastFrame(
            frame=self.frame.moved(new_T_ego),
            now_T_past=new_T_ego @ self.now_T_past @ np.linalg.inv(new_T_ego),
        )


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One instant, in the ego frame (x forward, y left, z up, metres) at ``stamp_ns``.

    Attributes:
        stamp_ns: reference time, whole nanoseconds; kept as int.
        images: one [H, W, 3] uint8 RGB array per CAMERAS entry, None where the camera is missing.
        intrinsics: [6, 3, 3] float64 pinhole matrices of these images, pixels. Pixel (u, v) is the
            centre of column u, row v. After image augmentation any affine map times K.
        ego_T_cam: [6, 4, 4] float64, camera (optical axes) at its own time to ego at ``stamp_ns``.
            Augmentation scales and mirrors it; with images as recorded it is rigid, which is
            looked at when they are prepared (``data.cameras.prepare``). What both hold for a
            missing camera is not read: zeros, the identity, anything finite.
        prepared: the ImageConfig that ``images``, of its size, were made for; None = as recorded.
        radar: [N, 20] float32 with columns RADAR_COLUMNS; positions and velocities in ego axes at
            ``stamp_ns``, moved by compensated velocity x age; age 0 to 60 in seconds;
            ``sensor`` is the index into RADARS. Finite but for ``vx`` and ``vy``, where NaN is
            not known. ``radar_returns`` makes it of what any radar measures.
        radar_present: [5] bool, which radars deliver; kept as an array. A radar that sees nothing
            is still present; one that is not has no returns in ``radar``.
        lidar: [M, 5] float32 x, y, z, intensity (0..255), age 0 to 60 in seconds, all finite;
            None = no LiDAR.
        global_T_ego: [4, 4] float64 pose of ego at ``stamp_ns``, rigid; None = unknown, which one
            that is not finite becomes.
        truth: annotated boxes in ego axes; None = unknown.
        drivable: where vehicles may drive, ego axes; None = unknown, or not asked for.
        token: nuScenes sample token; "" outside a dataset.
        scene: of the drive, or of its stretch between two jumps of the map: no memory outlasts it.
        past: earlier moments, the newest first, None for one that is not known; () = not asked.
            Detectors that are given Frames one by one remember by themselves (infer/memory.py).

    Raises:
        FrameError: an array is not as said here; names it and what was expected.
    """

    stamp_ns: int
    images: tuple[NDArray[np.uint8] | None, ...]
    intrinsics: NDArray[np.float64]
    ego_T_cam: NDArray[np.float64]
    radar: NDArray[np.float32]
    radar_present: NDArray[np.bool_] = field(default_factory=lambda: np.ones(len(RADARS), bool))
    prepared: ImageConfig | None = None
    lidar: NDArray[np.float32] | None = None
    global_T_ego: NDArray[np.float64] | None = None
    truth: Truth | None = None
    drivable: Area | None = None
    token: str = ""
    scene: str = ""
    past: tuple[PastFrame | None, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "stamp_ns", frame_checks.stamp(self.stamp_ns))
        object.__setattr__(self, "radar_present", frame_checks.mask(self.radar_present))
        frame_checks.check_matrices("intrinsics", self.intrinsics, (len(CAMERAS), 3, 3))
        frame_checks.check_matrices("ego_T_cam", self.ego_T_cam, (len(CAMERAS), 4, 4))
        frame_checks.check_images(self.images, self.prepared)
        frame_checks.check_radar(self.radar, self.radar_present)
        if self.lidar is not None:
            frame_checks.check_points("lidar", self.lidar, LIDAR_COLUMNS)
        if self.global_T_ego is not None:
            frame_checks.check_matrices("global_T_ego", self.global_T_ego, (4, 4))
            pose = frame_checks.known_pose(self.global_T_ego)
            object.__setattr__(self, "global_T_ego", pose)

    @property
    def camera_present(self) -> NDArray[np.bool_]:
        """[6] bool, which cameras deliver."""
        return np.array([image is not None for image in self.images])

    @property
    def sensors(self) -> frozenset[str]:
        """Names of the cameras, radars and LiDAR that deliver."""
        seen = zip(CAMERAS + RADARS, (*self.camera_present, *self.radar_present), strict=True)
        names = frozenset(name for name, present in seen if present)
        return names if self.lidar is None else names | {LIDAR}

    def without(self, *sensors: str) -> Frame:
        """The same Frame with these cameras and radars masked, as if they had died.

        Raises:
            FrameError: an unknown sensor.
        """
        frame_checks.check_sensors(sensors, CAMERAS + RADARS)
        return self.keeping(set(CAMERAS + RADARS) - set(sensors))

    def keeping(self, sensors: Collection[str]) -> Frame:
        """The same Frame with every camera and radar masked but these. LiDAR stays, named or not.

        Raises:
            FrameError: an unknown sensor.
        """
        frame_checks.check_sensors(sensors, (*CAMERAS, *RADARS, LIDAR))
        present = self.radar_present & np.array([name in sensors for name in RADARS])
        return dataclasses.replace(
            self,
            images=tuple(
                image if name in sensors else None
                for name, image in zip(CAMERAS, self.images, strict=True)
            ),
            radar=self.radar
            if present.all()
            else self.radar[present[self.radar[:, RADAR_SENSOR].astype(int)]],
            radar_present=present,
            past=tuple(
                past and dataclasses.replace(past, frame=past.frame.keeping(sensors))
                for past in self.past
            ),
        )

    def moved(self, new_T_ego: NDArray[np.float64]) -> Frame:
        """The same Frame in other axes, of all kinds that Boxes.transformed knows.

        It has no global pose: axes that are mirrored or stretched have none.
        """
        radar = self.radar.copy()
        radar[:, RADAR_XYZ] = geometry.apply(new_T_ego, radar[:, RADAR_XYZ])
        for columns in (RADAR_VELOCITY, RADAR_COMPENSATED):
            radar[:, columns] = geometry.rotate(new_T_ego, radar[:, columns])
        lidar = self.lidar
        if lidar is not None:
            lidar = lidar.copy()
            geometry.apply_float32(new_T_ego, lidar[:, :3], out=lidar[:, :3])
        return dataclasses.replace(
            self,
            ego_T_cam=new_T_ego @ self.ego_T_cam,
            radar=radar,
            lidar=lidar,
            truth=None if self.truth is None else self.truth.transformed(new_T_ego),
            drivable=None if self.drivable is None else self.drivable.moved(new_T_ego),
            global_T_ego=None,
            past=tuple(past and past.moved(new_T_ego) for past in self.past),
        )


def radar_returns(
    xyz: NDArray[np.floating],
    velocity: NDArray[np.floating],
    *,
    rcs: NDArray[np.floating] | float,
    age: NDArray[np.floating] | float,
    sensor: str,
) -> NDArray[np.float32]:
    """``Frame.radar`` of what any radar measures; several radars are concatenated.

    Columns that only nuScenes' radars have are RADAR_DEFAULTS, as for the clouds of a node.

    Args:
        xyz: [N, 3] where the returns were when they were measured, ego axes at ``stamp_ns`` of
            the Frame, metres. They are moved by velocity x age here.
        velocity: [N, 2] over ground, x and y of ego axes, m/s. Of a radar that measures radial
            speeds: the speed without the vehicle's own motion, times the unit vector from the
            radar to the return.
        rcs: [N] or one number, radar cross-section, dBsm.
        age: [N] or one number, how long before ``stamp_ns`` they were measured, seconds, >= 0.
        sensor: which of RADARS measured them.

    Raises:
        FrameError: an unknown radar, or arrays of other shapes.
    """
    if sensor not in RADARS:
        raise FrameError(f"unknown radar {sensor!r}; known: {', '.join(RADARS)}")
    radar = np.zeros((len(xyz), len(RADAR_COLUMNS)), np.float32)
    for name, value in RADAR_DEFAULTS.items():
        radar[:, RADAR_COLUMN[name]] = value
    given = {"xyz": (xyz, 3), "velocity": (velocity, 2)}
    for name, (array, width) in given.items():
        if np.shape(array) != (len(radar), width):
            raise FrameError(
                f"radar_returns: {name}: expected shape {(len(radar), width)}, got "
                f"{np.shape(array)}"
            )
    for name, values in {"rcs": rcs, "age": age}.items():
        if np.shape(values) not in ((), (len(radar),)):
            raise FrameError(
                f"radar_returns: {name}: expected one number or {len(radar)}, got shape "
                f"{np.shape(values)}"
            )
        radar[:, RADAR_COLUMN[name]] = values
    radar[:, RADAR_XYZ] = xyz
    radar[:, RADAR_VELOCITY] = radar[:, RADAR_COMPENSATED] = velocity
    radar[:, :2] += radar[:, RADAR_COMPENSATED] * radar[:, RADAR_AGE, None]
    radar[:, RADAR_SENSOR] = RADARS.index(sensor)
    return radar
