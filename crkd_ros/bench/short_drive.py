"""A short drive to measure the node with: the user's bag, or one made on the spot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from crkd_core.data.nuscenes.reader import NuScenes
from crkd_core.progress import stderr_console
from crkd_ros.bags import recorded_calibration
from crkd_ros.bags.nuscenes import write_bag

_SEED = 71_001
_SECONDS = 4.0
_IMAGE_WIDTH = 800
#: What is written beside the drive, where no calibration is given.
_CALIBRATION = "calibration.yaml"


@dataclass(frozen=True, kw_only=True)
class ShortDrive:
    """A rosbag2 in the layout of crkd bag, and the calibration file of its vehicle."""

    bag: Path
    calibration: Path


def written(calibration: Path | None) -> tuple[str, ...]:
    """Files of the folder that ``short_drive`` replaces."""
    return (_CALIBRATION,) if calibration is None else ()


def short_drive(
    folder: Path, *, bag: Path | None = None, calibration: Path | None = None
) -> ShortDrive:
    """The bag with its calibration, or a generated drive; both are left in ``folder``.

    A drive that an earlier call has left there is taken again.

    Args:
        folder: for what has to be written.
        bag: None: a drive of the synthetic world is made (about half a minute).
        calibration: of the bag's vehicle; None: written from the bag's static transforms.

    Raises:
        BagError, MotionError: the bag cannot be read, or does not tell where its sensors sit.
    """
    if bag is None:
        bag = folder / "drive" / "bag"
        if not bag.exists():
            _make(folder / "drive")
    if calibration is None:
        calibration = folder / _CALIBRATION
        recorded_calibration.of_bag(bag).save(calibration)
    return ShortDrive(bag=bag, calibration=calibration)


def _make(folder: Path) -> None:
    from crkd_core.world import write_world

    stderr_console().print(f"making a drive of {_SECONDS:g} s in {folder}", soft_wrap=True)
    if not (folder / "world").exists():
        write_world(
            folder / "world",
            scenes=1,
            seconds=_SECONDS,
            seed=_SEED,
            image_width=_IMAGE_WIDTH,
            jobs=2,
            mix="balanced",
            weather={"clear": 1.0},
        )
    tables = NuScenes(folder / "world")
    (scene,) = tables.scenes
    write_bag(tables, scene, folder / "bag", with_lidar=False)
