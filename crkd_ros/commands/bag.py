"""`crkd bag`: bags of nuScenes scenes, and bags of other converters in our layout."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crkd_core.command import run_function
from crkd_core.files import check_output
from crkd_ros.commands.options import Params, SensorTopics, node_config, sensor_topics

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Make, convert and describe bags: of nuScenes scenes, and of other converters.",
)


@app.command()
def nuscenes(
    data: Annotated[Path, typer.Option(help="Root folder of a nuScenes data set.")],
    scene: Annotated[str, typer.Option(help="Name of the scene, e.g. scene-0103.")],
    out: Annotated[Path, typer.Option(help="Folder of the new bag; must not exist.")],
    storage: Annotated[str, typer.Option(help="mcap or sqlite3.")] = "mcap",
    version: Annotated[
        str | None, typer.Option(help="Version folder; needed only if there are several.")
    ] = None,
    lidar: Annotated[bool, typer.Option(help="Write the LiDAR clouds.")] = True,
) -> None:
    """Write a nuScenes scene as a rosbag2 that the node, Foxglove and RViz play."""
    from crkd_core.data.nuscenes.reader import NuScenes
    from crkd_ros.bags.nuscenes import write_bag

    _choice("--storage", storage, ["mcap", "sqlite3"])
    _new(out, "--out")
    summary = write_bag(
        NuScenes(data, version=version),
        scene,
        out,
        storage=storage,  # type: ignore[arg-type]  # checked above
        with_lidar=lidar,
    )
    seconds = (summary.end_ns - summary.start_ns) * 1e-9
    total = sum(summary.messages.values())
    print(f"{out}: {total} messages of {len(summary.messages)} topics, {seconds:.1f} s")


@app.command()
def convert(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="A rosbag2, ROS 1 .bag or Foxglove .mcap.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the new bag.")],
    kind: Annotated[
        str, typer.Option(help="Who wrote IN, as `crkd bag info IN` says it; auto: found out.")
    ] = "auto",
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="From crkd calibration write --data DIR; for bags without camera_info "
            "or tf. Where it lists a sensor, it overrules the bag."
        ),
    ] = None,
    stamps: Annotated[
        str,
        typer.Option(help="Times of the messages: header, record (headers are empty) or auto."),
    ] = "auto",
    image_format: Annotated[
        str, typer.Option(help="What raw images become: jpeg, or png (exact, ten times larger).")
    ] = "jpeg",
    jpeg_quality: Annotated[int, typer.Option(min=1, max=100, help="Of raw images.")] = 95,
    storage: Annotated[str, typer.Option(help="mcap or sqlite3.")] = "mcap",
    lidar: Annotated[bool, typer.Option(help="Write the LiDAR clouds.")] = True,
    topic: SensorTopics = None,
    params: Params = None,
) -> None:
    """Convert a bag of another nuScenes converter, or of a vehicle of your own."""
    from crkd_ros.bags.foreign.kinds import Kind

    known = [one.value for one in Kind if one is not Kind.OURS]
    _choice("--kind", kind, ["auto", *known])
    _choice("--stamps", stamps, ["auto", "header", "record"])
    _choice("--image-format", image_format, ["jpeg", "png"])
    _choice("--storage", storage, ["mcap", "sqlite3"])
    _new(out, "OUT")
    from crkd_ros.bags.foreign.conversion import convert_bag

    summary = convert_bag(
        source,
        out,
        kind=None if kind == "auto" else Kind(kind),
        calibration=calibration,
        stamps=stamps,
        image_format=image_format,  # type: ignore[arg-type]  # checked above
        jpeg_quality=jpeg_quality,
        storage=storage,  # type: ignore[arg-type]  # checked above
        with_lidar=lidar,
        framing=node_config(params),
        topics=sensor_topics(topic),
    )
    print(f"{source}: {summary.kind.value} ({summary.kind.converter})")
    for note in summary.notes:
        print(f"  {note}")
    seconds = (summary.end_ns - summary.start_ns) * 1e-9
    total = sum(summary.messages.values())
    print(f"{out}: {total} messages of {len(summary.messages)} topics, {seconds:.1f} s")


@app.command()
def info(
    bag: Annotated[Path, typer.Argument(help="A bag of any known converter.")],
    calibration: Annotated[
        Path | None, typer.Option(help="Calibration file that goes with it.")
    ] = None,
    topic: SensorTopics = None,
    params: Params = None,
) -> None:
    """Show what a bag offers to the detector: sensors, rates, expected frames, what is missing."""
    from crkd_ros.bags.info import describe
    from crkd_ros.bags.info_text import show

    framing, topics = node_config(params), sensor_topics(topic)
    told = describe(bag, calibration=calibration, framing=framing, topics=topics)
    options = [] if calibration is None else ["--calibration", str(calibration)]
    options += [] if params is None else ["--params", str(params)]
    options += [word for text in topic or () for word in ("--topic", text)]
    show(told, bag, options=options)


def _choice(option: str, value: str, known: list[str]) -> None:
    from crkd_ros.bags.message_types import BagError

    if value not in known:
        raise BagError(f"{option}: expected {', '.join(known)}; got {value!r}")


def _new(out: Path, option: str) -> None:
    """Refuse a place that is taken or where nothing can be written."""
    from crkd_ros.bags.message_types import BagError

    if out.exists():
        raise BagError(f"{out} exists already; remove it or choose another {option}")
    check_output(out)


def nuscenes2bag() -> None:
    """Entry point of `ros2 run crkd_ros nuscenes2bag`: `crkd bag nuscenes`."""
    run_function(nuscenes)
