"""nuScenes to Frames, without the devkit (docs/nuscenes.md).

The reference of a Frame is the key image of ANCHOR_CAMERA, or of the first of REFERENCES that the
sample has: its stamp and its ego pose. Everything else goes sensor -> ego at the sensor's own time
-> global -> ego at the reference.
"""

from __future__ import annotations

import copy
import dataclasses
import operator
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.area import Area
from crkd_core.boxes import Truth
from crkd_core.config import DRIVABLE, DetectorConfig, ImageConfig, RadarConfig, TemporalConfig
from crkd_core.data.nuscenes.absent import absent_records, check_key_frames
from crkd_core.data.nuscenes.identity import digest
from crkd_core.data.nuscenes.maps import read_drivable
from crkd_core.data.nuscenes.record import Record
from crkd_core.data.nuscenes.scenes import NuScenes
from crkd_core.data.nuscenes.sensor_files import SensorFiles
from crkd_core.data.nuscenes.sweeps import SweepRule, lacks, present
from crkd_core.data.nuscenes.tables import NuScenesError
from crkd_core.data.past import picked_moments
from crkd_core.data.warn import warn_once
from crkd_core.frame import Frame, PastFrame
from crkd_core.sensors import CAMERAS, CHANNELS, LIDAR, RADARS

__all__ = ["CHANNELS", "NuScenes", "NuScenesError", "NuScenesFrames", "Record"]


#: Polygons of a map that are farther from the vehicle are left out, metres.
_MAPPED = 150.0


class NuScenesFrames(Sequence[Frame]):
    """The samples of a split as Frames, read from disk when asked for.

    - Cameras: the key images. A camera without one is missing.
    - Radars: of each, the last ``radar_sweeps`` sweeps on disk that are not later than the
      reference, as the live node would use them: at most radar.OLDEST old, and none where the
      newest is older than radar.TIMEOUT. A radar without any is not present.
    - LiDAR: the key sweep and the sweeps before it, at most lidar.oldest_age old. The key sweep
      ends about a millisecond after the reference image, so ages count from the key sweep, and are
      never negative; all points are moved to ego at the reference, like everything else.
    - Files of sweeps that are not there, and sensors that are missing or lack sweeps in a
      noticeable part of the samples, are warned of.
    - Drivable area, where asked for: that of the map expansion of the scene's location.
    - Truth: the sample's boxes of the ten classes, those without points included, seen from ego at
      the reference; None where the version has no annotations.

    Args:
        tables: the data set.
        split: name of a split, or sample tokens.
        radar_sweeps: sweeps per radar; 0 = no radar.
        lidar_sweeps: LiDAR sweeps; 0 = no LiDAR.
        image: images are prepared for this configuration; None = as recorded.
        sensors: cameras and radars to read; the others are missing from the Frames. None = all.
        memory: of a network; Frames then have the earlier key frames of their scene that it would
            remember. None = none.
        drivable: whether Frames say where vehicles may drive, by the maps of their locations.

    Raises:
        NuScenesError: unknown split or sample, or no sample; or no map where one is asked for.
    """

    def __init__(
        self,
        tables: NuScenes,
        split: str | Sequence[str],
        *,
        radar_sweeps: int = RadarConfig.sweeps,
        lidar_sweeps: int = 0,
        image: ImageConfig | None = None,
        sensors: Collection[str] | None = None,
        memory: TemporalConfig | None = None,
        drivable: bool = False,
    ) -> None:
        self.tables, self.memory = tables, memory
        self.tokens = tables.samples_of(split) if isinstance(split, str) else list(split)
        if not self.tokens:
            raise NuScenesError(f"{tables.root}: expected at least one sample, got none")
        if radar_sweeps < 0 or lidar_sweeps < 0:
            raise NuScenesError(
                f"expected radar_sweeps >= 0 and lidar_sweeps >= 0, got {radar_sweeps} and "
                f"{lidar_sweeps}"
            )
        _check_known(sensors or ())
        self._rows = [tables.sample_row(token) for token in self.tokens]
        self._radar_sweeps, self.lidar_sweeps = radar_sweeps, lidar_sweeps
        self._image = image
        self._sensors = frozenset(CAMERAS + RADARS if sensors is None else sensors)
        swept = {name: radar_sweeps for name in RADARS if name in self._sensors and radar_sweeps}
        swept |= {LIDAR: lidar_sweeps} if lidar_sweeps else {}
        scenes = np.unique(tables.index.sample_scene[self._rows]).tolist()
        self._absent = absent_records(tables.root, tables.index, scenes, swept)
        self._rules = {name: SweepRule.of(name, count) for name, count in swept.items()}
        self._files = SensorFiles(
            tables,
            self._absent,
            sensors=self._sensors,
            radar_sweeps=radar_sweeps,
            image=image,
        )
        samples = np.array(self._rows, np.int64)
        cameras = self._sensors & {*CAMERAS}
        for text in lacks(tables.index, self._absent, samples, self._rules, cameras):
            warn_once(f"{tables.root}: {text}")
        self._drivable: dict[str, Area] = {}
        names = {tables.index.scene_name[row].decode() for row in scenes} if drivable else set()
        for location in sorted({tables.location_of(name) for name in names}):
            self._drivable[location] = read_drivable(tables.root, location)

    @property
    def classes(self) -> tuple[str, ...]:
        """What the truth of its Frames can be of."""
        return self.tables.classes

    @classmethod
    def for_detectors(
        cls,
        tables: NuScenes,
        split: str | Sequence[str],
        *detectors: DetectorConfig,
        sensors: Collection[str] = (),
        lidar_sweeps: int = 0,
        recorded: bool = False,
        remembered: bool = False,
    ) -> NuScenesFrames:
        """The samples as these networks need them, and no file that none of them reads.

        Args:
            tables: the data set.
            split: name of a split, or sample tokens.
            detectors: one, or several that agree on the number of sweeps.
            sensors: cameras and radars that may be read; () = all.
            lidar_sweeps: LiDAR for others than the networks; the larger number counts.
            recorded: leave images as recorded; otherwise they are prepared for the first network.
            remembered: Frames have the earlier moments that the first network uses; a Detector
                that is given one Frame after the other does not need them.

        Raises:
            NuScenesError: see the constructor.
        """
        _check_known(sensors)
        read = {sensor for config in detectors for sensor in config.sensors} - {LIDAR}
        return cls(
            tables,
            split,
            radar_sweeps=max(config.radar_sweeps for config in detectors),
            lidar_sweeps=max(lidar_sweeps, *(config.lidar_sweeps for config in detectors)),
            image=None if recorded else detectors[0].image,
            sensors=read & {*sensors} if sensors else read,
            memory=detectors[0].temporal if remembered else None,
            drivable=any(DRIVABLE in config.segment_classes for config in detectors),
        )

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> Frame:  # type: ignore[override]
        """The Frame of one sample.

        Raises:
            IndexError: no such sample.
            TypeError: no whole number, such as a slice; name the samples' tokens instead.
            NuScenesError: the sample has no key-frame file of any sensor.
            CameraError, RadarError, LidarError: a key-frame file is missing, or any is damaged or
                not what the tables say; names the file.
        """
        return self._frame(self._rows[operator.index(index)], past=False)

    def _frame(self, sample: int, *, past: bool) -> Frame:
        """The Frame of a row of the samples; as an earlier moment without LiDAR and truth."""
        table = self.tables.index
        token = table.sample_token[sample].decode()
        reference = self.tables.reference_row(sample)
        stamp = int(table.record_stamp[reference])
        global_T_ego = self.tables.poses_of([reference])[0]
        ego_T_global = geometry.invert(global_T_ego)
        images, intrinsics, ego_T_cam = self._files.cameras(sample, ego_T_global)
        points, present = self._files.radars(sample, stamp, ego_T_global)
        truth = None
        if self.tables.annotated and not past:
            truth = self.tables.truth_global(token).transformed(ego_T_global)
        lidar = None
        if self.lidar_sweeps and not past:
            lidar = self._files.lidar(sample, ego_T_global, sweeps=self.lidar_sweeps)
        return Frame(
            stamp_ns=stamp,
            images=images,
            intrinsics=intrinsics,
            ego_T_cam=ego_T_cam,
            prepared=self._image,
            radar=points,
            radar_present=present,
            lidar=lidar,
            global_T_ego=global_T_ego,
            truth=truth,
            drivable=None if past else self._drivable_area(sample, global_T_ego),
            token=token,
            scene=table.scene_name[table.sample_scene[sample]].decode(),
            past=() if past else self._past(sample, stamp, ego_T_global),
        )

    def _past(
        self, sample: int, stamp: int, ego_T_global: NDArray[np.float64]
    ) -> tuple[PastFrame | None, ...]:
        """The earlier key frames of the same scene that a network with memory would use."""
        if self.memory is None:
            return ()
        table = self.tables.index
        first = int(np.searchsorted(table.sample_scene, table.sample_scene[sample]))
        # A sample without any key record has no Frame.
        rows = first + np.flatnonzero((table.sample_key[first:sample] >= 0).any(1))
        references = [self.tables.reference_row(row) for row in rows.tolist()]
        stamps = [int(table.record_stamp[row]) for row in references]
        found: list[PastFrame | None] = []
        for picked in picked_moments(stamps, stamp, self.memory):
            if picked is None:
                found.append(None)
                continue
            frame = self._frame(int(rows[picked]), past=True)
            assert frame.global_T_ego is not None
            found.append(PastFrame(frame=frame, now_T_past=ego_T_global @ frame.global_T_ego))
        return tuple(found)

    def _drivable_area(self, sample: int, global_T_ego: NDArray[np.float64]) -> Area | None:
        """Where vehicles may drive near a sample, ego axes; maps are flat, as high as ego is."""
        table = self.tables.index
        area = self._drivable.get(table.scene_location[table.sample_scene[sample]].decode())
        if area is None:
            return None
        x, y, z = global_T_ego[:3, 3]
        near = area.near(np.array([x, y]), _MAPPED)
        return near.moved(geometry.invert(global_T_ego), z=float(z))

    def present(self, channel: str) -> NDArray[np.bool_]:
        """[N] which samples have a camera, a radar or the LiDAR, from the tables alone."""
        samples, rule = np.array(self._rows, np.int64), self._rules.get(channel)
        return present(self.tables.index, self._absent, samples, channel, rule)

    def truth(self, index: int) -> Truth:
        """Boxes of one sample in GLOBAL axes, from the tables alone; see NuScenes.truth_global."""
        return self.tables.truth_global(self.tokens[index])

    def check_files(self) -> None:
        """Refuse, before long work, a set of which files of key frames are not there.

        Raises:
            NuScenesError: counts them and names one.
        """
        read = [*(self._sensors & {*CAMERAS}), *self._rules]
        samples = np.array(self._rows, np.int64)
        check_key_frames(self.tables.root, self.tables.index, samples, read)

    def digest(self) -> str:
        """Changes with what the tables say of these samples and with the sweeps that are there.

        See ``identity.digest``.
        """
        return digest(self.tables.index, np.array(self._rows, np.int64), self._absent)

    def identity(self) -> list[Any]:
        """What its Frames are decided by, as JSON; sensors' files are named in it, not read."""
        return [
            *("nuscenes", self.digest(), self._radar_sweeps, self.lidar_sweeps),
            self._image and dataclasses.asdict(self._image),
            self.memory and dataclasses.asdict(self.memory),
            sorted(self._sensors),
            [[name, area.digest()] for name, area in sorted(self._drivable.items())],
        ]

    def with_lidar_sweeps(self, count: int) -> NuScenesFrames:
        """The same samples with another number of LiDAR sweeps; 0 = no LiDAR.

        Raises:
            NuScenesError: a number below 0.
        """
        if not 0 <= count <= self.lidar_sweeps:
            # Which files of more sweeps are there was not looked at yet.
            return NuScenesFrames(
                self.tables,
                self.tokens,
                radar_sweeps=self._radar_sweeps,
                lidar_sweeps=count,
                image=self._image,
                sensors=self._sensors,
                memory=self.memory,
                drivable=bool(self._drivable),
            )
        frames = copy.copy(self)
        frames.lidar_sweeps = count
        return frames

    def lidar_only(self) -> NuScenesFrames:
        """The same samples without cameras and radars, for what reads only LiDAR and truth."""
        return NuScenesFrames(self.tables, self.tokens, lidar_sweeps=self.lidar_sweeps, sensors=())


def _check_known(sensors: Collection[str]) -> None:
    unknown = set(sensors) - set(CAMERAS + RADARS)
    if unknown:
        known = ", ".join(CAMERAS + RADARS)
        raise NuScenesError(f"unknown sensors {', '.join(sorted(unknown))}; known: {known}")
