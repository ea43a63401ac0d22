"""What a nuScenes version holds: splits, scenes, samples, sensor records and annotated boxes."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.boxes import Boxes, Truth
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.data.nuscenes.index import Index
from crkd_core.data.nuscenes.index_cache import open_index
from crkd_core.data.nuscenes.record import Record
from crkd_core.data.nuscenes.splits import scenes_of, splits_held, unknown_scene
from crkd_core.data.nuscenes.tables import NuScenesError, find_version
from crkd_core.data.nuscenes.truths import bicycle_racks, truths
from crkd_core.sensors import CAMERAS, CHANNELS, LIDAR, RADARS, REFERENCES

logger = logging.getLogger(__name__)


class NuScenes:
    """The indexed tables of one version.

    Args:
        root: folder that holds version folders, ``samples`` and ``sweeps``; or a version folder.
        version: name of the version folder; None = the only one, or the one that holds ``split``.
        split: helps to choose a version, nothing else.
        quiet: do not warn of what the tables lack; for whoever opens them again.

    Attributes:
        root, version: as chosen.
        index: the tables as arrays.
        cameras, radars: of its rig, by the names of a Frame's.
        classes: what its truth can be of.

    Raises:
        NuScenesError: no such version, no single choice, or tables that cannot be read.
    """

    cameras = CAMERAS
    radars = RADARS

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        version: str | None = None,
        split: str | None = None,
        quiet: bool = False,
    ) -> None:
        self.root, self.version = find_version(Path(root), version, split)
        self.classes = NUSCENES_CLASSES
        self.index: Index = open_index(self.root / self.version)
        for note in () if quiet else self.index.notes.tolist():
            logger.warning("%s: %s", self.root / self.version, note.decode())
        self._sample_row = {t.decode(): i for i, t in enumerate(self.index.sample_token)}
        self._scene_row = {name.decode(): i for i, name in enumerate(self.index.scene_name)}

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        # A worker process maps the cache again instead of receiving gigabytes.
        return _reopen, (str(self.root), self.version)

    @property
    def scenes(self) -> list[str]:
        """Names of all scenes, in the order of the table."""
        return list(self._scene_row)

    def splits(self) -> dict[str, list[str]]:
        """Split name -> names of its scenes that this version holds; splits.json comes first."""
        return splits_held(self.root / self.version, self._scene_row)

    def scenes_of(self, split: str) -> list[str]:
        """Scene names of a split; warns once of those in splits.json that are not here.

        Args:
            split: its name, or else a scene of this version, or several, joined by commas.

        Raises:
            NuScenesError: unknown split or scene, or none of its scenes is here; lists what is.
        """
        return scenes_of(self.root / self.version, self._scene_row, split)

    def samples_of(self, split: str) -> list[str]:
        """Sample tokens of a split, scene by scene in time order.

        Raises:
            NuScenesError: see ``scenes_of``.
        """
        return [token for name in self.scenes_of(split) for token in self.samples_of_scene(name)]

    def samples_of_scene(self, scene: str) -> list[str]:
        """Sample tokens of one scene in time order.

        Raises:
            NuScenesError: unknown scene.
        """
        row = self._scene(scene)
        low, high = np.searchsorted(self.index.sample_scene, [row, row + 1])
        return [token.decode() for token in self.index.sample_token[low:high]]

    def scene_of(self, sample_token: str) -> str:
        """Name of the scene that a sample belongs to."""
        scene = self.index.sample_scene[self.sample_row(sample_token)]
        return self.index.scene_name[scene].decode()

    def description_of(self, scene: str) -> str:
        """What the table says about a scene (nuScenes: "Night, rain, ..." in free words)."""
        return self.index.scene_description[self._scene(scene)].decode()

    def location_of(self, scene: str) -> str:
        """Where a scene was recorded."""
        return self.index.scene_location[self._scene(scene)].decode()

    def records(self, scene: str, channel: str) -> Iterator[Record]:
        """Every file of one sensor in a scene, key frames and sweeps, in time order.

        Raises:
            NuScenesError: unknown scene or channel.
        """
        block = self._scene(scene) * len(CHANNELS) + _channel(channel)
        for row in range(*self.index.scene_records[block : block + 2]):
            yield self._record(row)

    def calibrations(self, scene: str) -> Iterator[Record]:
        """The first file of every calibrated sensor of a scene: as a rule, one a channel.

        Raises:
            NuScenesError: unknown scene.
        """
        row = self._scene(scene)
        for channel in range(len(CHANNELS)):
            block = row * len(CHANNELS) + channel
            low, high = self.index.scene_records[block : block + 2]
            _, first = np.unique(self.index.record_calib[low:high], return_index=True)
            for offset in sorted(first):
                yield self._record(int(low + offset))

    def key_record(self, sample_token: str, channel: str) -> Record | None:
        """The key-frame file of one sensor in a sample; None where the sensor has none.

        Raises:
            NuScenesError: unknown sample or channel.
        """
        row = int(self.index.sample_key[self.sample_row(sample_token), _channel(channel)])
        return self._record(row) if row >= 0 else None

    def reference(self, sample_token: str) -> Record:
        """The key-frame file that sets time and pose of a sample's Frame.

        It is that of the first sensor in REFERENCES that has one, else the LiDAR's.

        Raises:
            NuScenesError: unknown sample, or one without any key-frame file.
        """
        return self._record(self.reference_row(self.sample_row(sample_token)))

    def anchor(self, scene: str) -> str:
        """The sensor that sets the time of most Frames of a scene.

        Raises:
            NuScenesError: unknown scene, or one without samples that have key-frame files.
        """
        row = self._scene(scene)
        low, high = np.searchsorted(self.index.sample_scene, [row, row + 1])
        seen = low + np.flatnonzero((self.index.sample_key[low:high] >= 0).any(1))
        channels = Counter(self._record(self.reference_row(s)).channel for s in seen.tolist())
        if not channels:
            raise NuScenesError(
                f"{self.root / self.version}: scene {scene}: expected samples with key-frame "
                "records in sample_data.json, got none; take another scene"
            )
        return channels.most_common(1)[0][0]

    def reference_row(self, sample: int) -> int:
        """Row among the records of the reference of a sample, by the sample's row."""
        keys = self.index.sample_key[sample]
        for channel in (*REFERENCES, LIDAR):
            if (row := int(keys[CHANNELS.index(channel)])) >= 0:
                return row
        raise NuScenesError(
            f"sample {self.index.sample_token[sample].decode()}: no key-frame record of any known "
            "sensor in sample_data.json; a Frame takes its time and pose from one"
        )

    def stamp_ns(self, sample_token: str) -> int:
        """Time of a sample (of its annotations), nanoseconds."""
        return int(self.index.sample_stamp[self.sample_row(sample_token)])

    def truth_global(self, sample_token: str) -> Truth:
        """Annotated boxes of the ten classes in GLOBAL axes, those without points included.

        Velocity is the devkit's: centred difference over the neighbouring annotations, one-sided
        at the ends, NaN where these are too far apart or missing.

        Raises:
            NuScenesError: unknown sample.
        """
        return self.truths_global([sample_token])[0]

    def truths_global(self, sample_tokens: Sequence[str]) -> tuple[Truth, NDArray[np.int64]]:
        """``truth_global`` of many samples in one, and [N] which of them each box is of.

        Raises:
            NuScenesError: unknown sample.
        """
        samples = np.array([self.sample_row(token) for token in sample_tokens], np.int64)
        return truths(self.index, samples, self.classes)

    def bicycle_racks(self, sample_token: str) -> Boxes:
        """Bicycle racks of a sample in GLOBAL axes; they are no detection class.

        The metrics ignore bicycles and motorcycles whose centre lies in one
        (docs/nuscenes.md, "Detection task").

        Raises:
            NuScenesError: unknown sample.
        """
        return bicycle_racks(self.index, self.sample_row(sample_token))

    def ego_translation(self, sample_token: str) -> NDArray[np.float64]:
        """[3] global position of ego at the key LiDAR sweep: the metrics measure range from it.

        Where there is no LiDAR (the devkit cannot score that), it is that at the reference.

        Raises:
            NuScenesError: unknown sample, or one without any key-frame file.
        """
        sample = self.sample_row(sample_token)
        row = int(self.index.sample_key[sample, CHANNELS.index(LIDAR)])
        if row < 0:
            row = self.reference_row(sample)
        return self.index.record_pose[row, :3].copy()

    @property
    def annotated(self) -> bool:
        """Whether this version says what its scenes hold, be it nothing; a test set does not."""
        return len(self.index.box_label) > 0 or not self.version.endswith("test")

    def sample_row(self, sample_token: str) -> int:
        """Row of a sample in ``index``.

        Raises:
            NuScenesError: unknown sample.
        """
        try:
            return self._sample_row[sample_token]
        except KeyError:
            raise NuScenesError(
                f"no sample {sample_token!r} in {self.root / self.version}, which has "
                f"{len(self._sample_row)} samples"
            ) from None

    def image_size(self, row: int) -> tuple[int, int] | None:
        """Width and height of one row of the records; None where the table does not say."""
        width, height = self.index.record_size[row].tolist()
        return (width, height) if width and height else None

    def path_of(self, row: int) -> Path:
        """File of one row of the records in ``index``."""
        return self.root / self.index.record_file[row].decode()

    def poses_of(self, rows: NDArray[np.integer] | list[int]) -> NDArray[np.float64]:
        """[n, 4, 4] ``global_T_ego`` of rows of the records in ``index``."""
        pose = self.index.record_pose[np.asarray(rows, np.int64)]
        matrices = np.zeros((len(pose), 4, 4))
        matrices[:, :3, :3] = geometry.quat_wxyz_to_matrix(pose[:, 3:])
        matrices[:, :3, 3] = pose[:, :3]
        matrices[:, 3, 3] = 1
        return matrices

    def _scene(self, scene: str) -> int:
        if scene not in self._scene_row:
            raise unknown_scene(self.root / self.version, self._scene_row, scene)
        return self._scene_row[scene]

    def _record(self, row: int) -> Record:
        index = self.index
        calib = index.record_calib[row]
        return Record(
            channel=CHANNELS[index.calib_channel[calib]],
            stamp_ns=int(index.record_stamp[row]),
            path=self.path_of(row),
            is_key_frame=bool(index.record_is_key[row]),
            sample_token=index.sample_token[index.record_sample[row]].decode(),
            ego_T_sensor=index.calib_pose[calib].copy(),
            global_T_ego=self.poses_of([row])[0],
            intrinsics=index.calib_intrinsics[calib].copy(),
            width=int(index.record_size[row, 0]),
            height=int(index.record_size[row, 1]),
        )


def _reopen(root: str, version: str) -> NuScenes:
    return NuScenes(root, version=version, quiet=True)


def _channel(channel: str) -> int:
    if channel not in CHANNELS:
        raise NuScenesError(f"unknown channel {channel!r}; known: {', '.join(CHANNELS)}")
    return CHANNELS.index(channel)
