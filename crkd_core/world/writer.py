"""Writes drives of the synthetic world as a nuScenes dataset.

Names of scenes: one drive in five (at least one) is for validation and comes last. Training drives
take the names of the split mini_train first (scene-0061, scene-0553, ...), validation drives those
of mini_val (scene-0103, scene-0916); a dataset of ten drives is named exactly like v1.0-mini, and
a single drive is scene-0103. When these names are used up, drives are called scene-9001, ...
(training) and scene-9901, ... (validation). With a version that ends in ``mini`` the devkit's own
splits mini_train and mini_val find the first ten; ``splits.json`` adds ``world_train``,
``world_val`` and ``world_all``, which hold every drive. (The devkit refuses predefined names for
other versions, so splits.json does not repeat them.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import orjson
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from crkd_core.files import replacing
from crkd_core.orphans import die_with_parent
from crkd_core.progress import Bar
from crkd_core.sensors import CHANNELS, LIDAR
from crkd_core.world.content.mix import MIXES
from crkd_core.world.content.weather import SHARES, check_shares, weather_kind
from crkd_core.world.drive import Recorded, Stretch, record
from crkd_core.world.nuscenes_tables import Tables
from crkd_core.world.rig import Sweeps

MINI_TRAIN = tuple(
    f"scene-{n}" for n in ("0061", "0553", "0655", "0757", "0796", "1077", "1094", "1100")
)
MINI_VAL = ("scene-0103", "scene-0916")

#: Key frames of one job: short enough that one drive keeps several processes busy.
STRETCH = 5
#: Drives are recorded 100 s apart, the first one at this time (microseconds).
EPOCH_US = 1_600_000_000_000_000
DRIVE_US = 100_000_000
#: What no version can be called.
_TAKEN = ("..", "maps", "samples", "sweeps")


class WorldError(ValueError):
    """A request that cannot be fulfilled, or a place where nothing may be written."""


def scene_names(scenes: int) -> tuple[list[str], list[str]]:
    """Names of the training and the validation drives, see the top of this file."""
    held_out = max(1, round(scenes / 5))
    driven = scenes - held_out
    train = [*MINI_TRAIN, *(f"scene-9{i:03d}" for i in range(1, driven + 1))][:driven]
    val = [*MINI_VAL, *(f"scene-99{i:02d}" for i in range(1, held_out + 1))][:held_out]
    return train, val


def write_world(
    out: str | Path,
    *,
    scenes: int,
    seconds: float = 20.0,
    seed: int = 0,
    image_width: int = 800,
    jobs: int = 1,
    key_frames_only: bool = False,
    lidar_sweeps: int = Sweeps.lidar,
    radar_sweeps: int = Sweeps.radar,
    mix: str = "real",
    weather: Mapping[str, float] = SHARES,
    version: str = "v1.0-mini",
    channels: Sequence[str] = CHANNELS,
) -> Path:
    """Make drives and write them as a nuScenes dataset.

    The same seed gives the same bytes, whatever ``jobs`` is. Drive i of a seed has equal content
    in datasets of any number of scenes of the same length.

    Args:
        out: folder of the new dataset; must not exist, or be empty.
        scenes: number of drives, 1 to 500.
        seconds: length of a drive; there are two key frames per second.
        seed: not negative.
        image_width: pixels, 64 to 1600; pictures are 16:9.
        jobs: processes. More than one needs an importable main module (``spawn``).
        key_frames_only: leave out the images between key frames.
        lidar_sweeps: keep so many LiDAR sweeps before each key sweep; a network that reads ten
            needs nine. Fewer make a smaller set.
        radar_sweeps: the same of every radar.
        mix: how often each class occurs: "real" as in nuScenes, "balanced" for all ten classes in
            sight of every drive.
        weather: shares of the drives that are clear, rain and night; which drive is which follows
            from seed and number alone.
        version: name of the folder of the tables.
        channels: the sensors that are written; the LiDAR, which boxes need, among them.

    Returns:
        ``out``.

    Raises:
        WeatherError: shares of unknown weather.
        WorldError: ``out`` already holds something, or an argument is out of range.
    """
    out = Path(out)
    _check(out, scenes=scenes, seconds=seconds, seed=seed, image_width=image_width, jobs=jobs,
           lidar_sweeps=lidar_sweeps, radar_sweeps=radar_sweeps, mix=mix, weather=weather,
           version=version, channels=channels)  # fmt: skip
    with replacing(out) as part:
        for channel in CHANNELS:
            (part / "samples" / channel).mkdir(parents=True)
            (part / "sweeps" / channel).mkdir(parents=True)
        (part / "maps" / "expansion").mkdir(parents=True)
        train, val = scene_names(scenes)
        key_frames = key_frames_of(seconds)
        drives = [
            [
                Stretch(
                    seed=seed,
                    number=number,
                    name=name,
                    key_frames=key_frames,
                    first=first,
                    last=min(first + STRETCH, key_frames),
                    base_us=EPOCH_US + number * DRIVE_US,
                    image_width=image_width,
                    sweeps=Sweeps(
                        cameras=not key_frames_only,
                        lidar=lidar_sweeps,
                        radar=radar_sweeps,
                        channels=tuple(channels),
                    ),
                    mix=mix,
                    weather=weather_kind(seed, number, weather),
                    out=part,
                )
                for first in range(0, key_frames, STRETCH)
            ]
            for number, name in enumerate([*train, *val])
        ]
        tables = Tables(seed=seed, image_width=image_width)
        recorded = _record_all([s for drive in drives for s in drive], jobs=jobs)
        for drive in drives:
            tables.add_drive([recorded[(s.number, s.first)] for s in drive])
        folder = part / version
        folder.mkdir()
        for name, rows in tables.rows.items():
            (folder / f"{name}.json").write_bytes(orjson.dumps(rows))
        splits = {"world_train": train, "world_val": val, "world_all": [*train, *val]}
        (folder / "splits.json").write_bytes(orjson.dumps(splits, option=orjson.OPT_INDENT_2))
    return out


def _check(
    out: Path,
    *,
    scenes: int,
    seconds: float,
    seed: int,
    image_width: int,
    jobs: int,
    lidar_sweeps: int,
    radar_sweeps: int,
    mix: str,
    weather: Mapping[str, float],
    version: str,
    channels: Sequence[str],
) -> None:
    ranges: dict[str, tuple[float, float, float]] = {
        "scenes": (scenes, 1, 500),
        "seed": (seed, 0, 2**31),
        "image_width": (image_width, 64, 1600),
        "jobs": (jobs, 1, 256),
        "lidar_sweeps": (lidar_sweeps, 0, Sweeps.lidar),
        "radar_sweeps": (radar_sweeps, 0, Sweeps.radar),
    }
    for name, (value, low, high) in ranges.items():
        if not low <= value <= high:
            raise WorldError(f"{name}: expected {low:g} to {high:g}, got {value!r}")
    key_frames_of(seconds)
    if mix not in MIXES:
        raise WorldError(f"mix: expected one of {', '.join(MIXES)}, got {mix!r}")
    check_shares(weather)
    unknown = [name for name in channels if name not in CHANNELS]
    if unknown or LIDAR not in channels:
        raise WorldError(
            f"channels: expected {LIDAR} and any of {', '.join(CHANNELS)}, got "
            f"{', '.join(channels)}"
        )
    if not version or Path(version).name != version or version in _TAKEN:
        raise WorldError(
            f"version: expected the name of a folder other than {', '.join(_TAKEN)}, got "
            f"{version!r}"
        )
    check_new(out)


def key_frames_of(seconds: float) -> int:
    """How many key frames a drive of this length has, KEY_US apart.

    Raises:
        WorldError: ``seconds`` is out of range.
    """
    if not 1 <= seconds <= 95:
        raise WorldError(f"seconds: expected 1 to 95, got {seconds!r}")
    return int(seconds * 2 + 1e-9)


def check_new(out: Path) -> None:
    """Refuse a place where something lies already.

    Raises:
        WorldError: ``out`` is there and is not an empty folder.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise WorldError(
            f"{out} exists and is not an empty folder: nothing was written; choose another place "
            f"or remove it first"
        )


@contextmanager
def _progress(total: int) -> Iterator[Bar]:
    columns = (
        TextColumn("[bold]world"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("key frames"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, unit="key frame") as progress:
        progress.add_task("world", total=total)
        yield progress


def _record_all(stretches: list[Stretch], *, jobs: int) -> dict[tuple[int, int], Recorded]:
    recorded: dict[tuple[int, int], Recorded] = {}
    with _progress(sum(s.last - s.first for s in stretches)) as progress:
        task = progress.task_ids[0]

        def keep(done: Recorded) -> None:
            stretch = done.stretch
            recorded[(stretch.number, stretch.first)] = done
            progress.advance(task, stretch.last - stretch.first)

        if jobs == 1 or len(stretches) == 1:
            for stretch in stretches:
                keep(record(stretch))
            return recorded
        with ProcessPoolExecutor(
            min(jobs, len(stretches)), get_context("spawn"), initializer=die_with_parent
        ) as pool:
            futures = [pool.submit(record, stretch) for stretch in stretches]
            try:
                for future in as_completed(futures):
                    keep(future.result())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return recorded
