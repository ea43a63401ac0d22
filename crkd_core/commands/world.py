"""`crkd world` and `crkd world-report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from crkd_core.commands.options import Out, Overwrite, Version
from crkd_core.config import ConfigError
from crkd_core.files import ITSELF, check_output
from crkd_core.tables import print_tables


def world(
    out: Out,
    scenes: Annotated[int, typer.Option(min=1, help="Number of drives.")] = 1,
    seconds: Annotated[float, typer.Option(min=1.0, help="Length of a drive.")] = 20.0,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    image_width: Annotated[
        int | None, typer.Option(min=64, help="Pixels, 16:9; default: 800, of vod 1600.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    key_frames_only: Annotated[
        bool, typer.Option(help="Leave the camera sweeps out (training sets).")
    ] = False,
    lidar_sweeps: Annotated[
        int | None,
        typer.Option(min=0, max=9, help="LiDAR sweeps kept before each key frame; default: 9."),
    ] = None,
    radar_sweeps: Annotated[
        int | None,
        typer.Option(
            min=0, max=13, help="Sweeps of each radar kept before each key frame; default: 13."
        ),
    ] = None,
    mix: Annotated[
        str, typer.Option(help="real: classes as in nuScenes; balanced: all in every drive.")
    ] = "real",
    weather: Annotated[
        str, typer.Option(help="Shares of the drives, or one kind: rain.")
    ] = "clear=0.7,rain=0.2,night=0.1",
    version: Annotated[
        str | None, typer.Option(help="Name of the version folder; default: v1.0-mini.")
    ] = None,
    format_: Annotated[
        str,
        typer.Option("--format", help="nuscenes, or vod: View-of-Delft, of one camera and radar."),
    ] = "nuscenes",
) -> None:
    """Make synthetic drives as a genuine nuScenes or View-of-Delft data set."""
    from crkd_core.world import parse_shares, write_vod_world, write_world

    check_output(out)
    size: dict[str, Any] = {} if image_width is None else {"image_width": image_width}
    if format_ not in ("nuscenes", "vod"):
        raise ConfigError(f"--format: expected nuscenes or vod, got {format_!r}")
    asked: dict[str, Any] = {
        "key_frames_only": key_frames_only or None,
        "lidar_sweeps": lidar_sweeps,
        "radar_sweeps": radar_sweeps,
        "version": version,
    }
    asked = {name: value for name, value in asked.items() if value is not None}
    if format_ == "vod":
        if asked:
            raise ConfigError(
                f"{', '.join('--' + name.replace('_', '-') for name in asked)}: expected with "
                "--format nuscenes alone, since View-of-Delft has key frames of one LiDAR sweep "
                "and up to 5 radar scans, and no versions; leave it out"
            )
        write_vod_world(
            out,
            scenes=scenes,
            seconds=seconds,
            seed=seed,
            jobs=jobs,
            mix=mix,
            weather=parse_shares(weather),
            **size,
        )
        return
    write_world(
        out,
        scenes=scenes,
        seconds=seconds,
        seed=seed,
        jobs=jobs,
        mix=mix,
        weather=parse_shares(weather),
        **asked,
        **size,
    )


def world_report(
    data: Annotated[Path, typer.Argument(help="Root folder of a nuScenes-format data set.")],
    split: Annotated[str | None, typer.Option(help="Only this split.")] = None,
    samples: Annotated[
        int, typer.Option(min=1, help="Read the sweeps of at most so many key frames.")
    ] = 400,
    out: Annotated[Path | None, typer.Option(help="A PNG to write.")] = None,
    version: Version = None,
    overwrite: Overwrite = False,
) -> None:
    """Count what the sensors of a data set see, beside real nuScenes."""
    from crkd_core.census.report import world_report as report
    from crkd_core.census.take import real

    if out is not None:
        if out.suffix.lower() != ".png":
            raise ConfigError(f"--out: expected FILE.png, got {out}")
        check_output(out, results=ITSELF, overwrite=overwrite)
    print_tables(*report(data, split=split, most=samples, out=out, version=version))
    print(f"nuScenes: {real()['source']}")
    if out is not None:
        print(f"written: {out}")
