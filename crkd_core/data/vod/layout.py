"""Where View-of-Delft keeps what: sensors, splits, frames.

Every sensor has a folder laid out as KITTI's, and a frame's five-digit name joins them::

    lidar/          ImageSets/{train,val,...}.txt
                    training/{calib,image_2,label_2,pose,velodyne}/00000.*
                    testing/...                      (the same; in the archive a link to training)
    radar/          training/{calib,velodyne}/...    (the last scan)
    radar_3frames/  radar_5frames/                   (the last three and five in one cloud)

The documentation calls the last two ``radar_3_scans`` and ``radar_5_scans``; both are understood.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from crkd_core.data.vod.classes import VOD_CLASSES
from crkd_core.data.vod.errors import VodError
from crkd_core.files import read_file

#: Scans in one cloud -> what its folder may be called.
RADAR_FOLDERS = {
    1: ("radar",),
    3: ("radar_3frames", "radar_3_scans"),
    5: ("radar_5frames", "radar_5_scans"),
}
LIDAR_FOLDER = "lidar"
#: Which camera and which radar of a Frame the one camera and the one radar are.
CAMERA, RADAR = "CAM_FRONT", "RADAR_FRONT"
#: Where images and labels are looked for: a set may be unpacked without its other folders.
_SHARED = (LIDAR_FOLDER, *(name for names in RADAR_FOLDERS.values() for name in names))
_PARTS = ("training", "testing")


def is_vod(root: str | os.PathLike[str]) -> bool:
    """Whether a folder is laid out as View-of-Delft: lidar/ with splits and calibration."""
    lidar = Path(root) / LIDAR_FOLDER
    return (lidar / "ImageSets").is_dir() and any((lidar / p / "calib").is_dir() for p in _PARTS)


class Vod:
    """The files of View-of-Delft in one root folder.

    Args:
        root: folder that holds ``lidar``, ``radar``, ``radar_3frames`` and ``radar_5frames``.

    Attributes:
        root: as given.
        version: its name in reports.
        cameras, radars: of its rig, by the names of a Frame's.
        classes: what its truth can be of.

    Raises:
        VodError: the folder is not laid out so.
    """

    version = "View-of-Delft"
    cameras = (CAMERA,)
    radars = (RADAR,)

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root, self.classes = Path(root), VOD_CLASSES
        if not is_vod(self.root):
            raise VodError(
                f"{self.root}: expected the root of View-of-Delft, with {LIDAR_FOLDER}/ImageSets "
                f"and {LIDAR_FOLDER}/training/calib; found neither or not both"
            )

    def splits(self) -> dict[str, list[str]]:
        """Split name -> names of its frames, of every list in ImageSets.

        Raises:
            VodError: a list that cannot be read, or holds other things than names of frames.
        """
        folder = self.root / LIDAR_FOLDER / "ImageSets"
        return {path.stem: _names(path) for path in sorted(folder.glob("*.txt"))}

    def samples_of(self, split: str) -> list[str]:
        """Names of the frames of a split, in its order.

        Args:
            split: the name of a list in ImageSets, or frames themselves, joined by commas.

        Raises:
            VodError: there is no such list, or it is empty; lists what exists.
        """
        splits = self.splits()
        if split not in splits and all(name.isdecimal() for name in split.split(",")):
            return list(dict.fromkeys(split.split(",")))
        if not splits.get(split):
            here = ", ".join(name for name, frames in splits.items() if frames) or "none"
            reason = "is empty" if split in splits else "is not known"
            raise VodError(
                f"{self.root}: split {split!r} {reason}; lists in {LIDAR_FOLDER}/ImageSets: {here}"
            )
        return splits[split]

    def image(self, name: str) -> Path:
        """The frame's image."""
        return self._shared("image_2", f"{name}.jpg")

    def labels(self, name: str) -> Path | None:
        """The frame's label file; None where it is of the test set, which has none."""
        if self._part(name) == "testing":
            return None
        path = self._shared("label_2", f"{name}.txt")
        return None if name in self._tested and not path.exists() else path

    def pose(self, name: str) -> Path:
        """The frame's pose file."""
        return self._shared("pose", f"{name}.json")

    def lidar(self, name: str) -> Path:
        """The frame's LiDAR cloud."""
        return self.root / LIDAR_FOLDER / self._part(name) / "velodyne" / f"{name}.bin"

    def lidar_calibration(self, name: str) -> Path:
        """Where the LiDAR sits, and the camera's matrix."""
        return self.root / LIDAR_FOLDER / self._part(name) / "calib" / f"{name}.txt"

    def radar(self, name: str, scans: int) -> Path:
        """The frame's cloud of so many radar scans, a key of RADAR_FOLDERS.

        Raises:
            VodError: the data set is unpacked without that folder.
        """
        folder = self._radar_folder(scans)
        return folder / self._part(name) / "velodyne" / f"{name}.bin"

    def radar_calibration(self, name: str, scans: int) -> Path:
        """Where the radar sits.

        Raises:
            VodError: see ``radar``.
        """
        return self._radar_folder(scans) / self._part(name) / "calib" / f"{name}.txt"

    def check_known(self, names: list[str]) -> None:
        """Refuse frames that have no calibration here.

        Raises:
            VodError: names the first.
        """
        for name in names:
            path = self.lidar_calibration(name)
            if not path.exists():
                raise VodError(
                    f"{self.root}: no frame {name!r}: {path} is not there; unpack the archive "
                    "again, or correct the list of the split"
                )

    @cached_property
    def _tested(self) -> frozenset[str]:
        """Names of the test set, whose frames lie among the others in the archive."""
        path = self.root / LIDAR_FOLDER / "ImageSets" / "test.txt"
        return frozenset(_names(path) if path.exists() else ())

    def _radar_folder(self, scans: int) -> Path:
        for name in RADAR_FOLDERS[scans]:
            if (self.root / name).is_dir():
                return self.root / name
        raise VodError(
            f"{self.root}: no folder {' or '.join(RADAR_FOLDERS[scans])}, which holds clouds of "
            f"{scans} radar scans; unpack it, or set detector.radar.sweeps to what is there"
        )

    def _part(self, name: str) -> str:
        folder = self.root / LIDAR_FOLDER
        there = (p for p in _PARTS if (folder / p / "calib" / f"{name}.txt").exists())
        return next(there, _PARTS[0])

    def _shared(self, kind: str, file: str) -> Path:
        """The file in the first sensor folder that has it; where none has, in that of LiDAR."""
        part = self._part(Path(file).stem)
        places = [self.root / sensor / part / kind / file for sensor in _SHARED]
        return next((path for path in places if path.exists()), places[0])


def scans_held(scans: int) -> int:
    """How many radar scans the clouds hold that are read for so many: a key of RADAR_FOLDERS."""
    return min(count for count in RADAR_FOLDERS if count >= scans)


def _names(path: Path) -> list[str]:
    """The names in one list of ImageSets."""
    try:
        text = read_file(path).decode("ascii", "replace")
    except OSError as error:
        raise VodError(f"{path}: cannot read the split: {error.strerror}") from error
    names = text.split()
    if wrong := next((name for name in names if not name.isdecimal()), None):
        raise VodError(
            f"{path}: expected names of frames such as 00549, one a line, got {wrong!r}"
        )
    if twice := next(_repeated(names), None):
        raise VodError(f"{path}: frame {twice} is there twice")
    return names


def _repeated(names: list[str]) -> Iterator[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            yield name
        seen.add(name)
