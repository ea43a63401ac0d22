"""`crkd calibration`: calibration files, written, shown, checked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crkd_core.commands.options import Overwrite, leave_out
from crkd_core.files import ITSELF, check_output
from crkd_core.tables import Table, print_tables
from crkd_ros.commands.options import Params, SensorTopics, node_config, sensor_topics

if TYPE_CHECKING:
    from crkd_ros.motion.calibration_file import Calibration

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Write, show or check a file that says where the sensors sit.",
)

Data = Annotated[Path | None, typer.Option(help="Root folder of a nuScenes data set.")]
Bag = Annotated[Path | None, typer.Option(help="A rosbag2: folder, .mcap or .db3.")]
Scene = Annotated[str | None, typer.Option(help="Scene of --data; needed if cars differ.")]
Version = Annotated[str | None, typer.Option(help="Version folder of --data, if several.")]
Base = Annotated[
    str | None,
    typer.Option(help="Frame of the vehicle in --bag; default: base_frame of --params."),
]


@app.command()
def write(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="The new file.")],
    data: Data = None,
    bag: Bag = None,
    scene: Scene = None,
    version: Version = None,
    base: Base = None,
    topic: SensorTopics = None,
    params: Params = None,
    overwrite: Overwrite = False,
) -> None:
    """Write the calibration of a data set or a bag as a file for the node."""
    _check_source(context, data, bag)
    read = [path for path in (bag, params) if path is not None]
    check_output(out, results=ITSELF, overwrite=overwrite, read=read)
    calibration, source = _load(
        data=data,
        bag=bag,
        scene=scene,
        version=version,
        base=base,
        topics=sensor_topics(topic),
        params=params,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    calibration.save(
        out,
        comment=f"Calibration from {source}, by crkd calibration.\n"
        f"Poses are sensor axes -> {calibration.base} axes, metres; see config/calibration.yaml.",
    )
    print(f"{out}: {len(calibration.frames)} sensors from {source}")


@app.command()
def show(file: Annotated[Path, typer.Argument(help="A calibration file.")]) -> None:
    """Print a calibration file as a table."""
    import numpy as np

    from crkd_ros.motion.calibration_file import Calibration

    rows = []
    # The file does not say what the vehicle's own frame is called; it may list any other.
    calibration = Calibration.load(file, base="")
    for frame in calibration.frames:
        pose, camera = calibration.base_T(frame), calibration.camera(frame)
        # A camera looks along its z axis, anything else along x.
        axis = pose[:3, 2 if camera is not None or frame.startswith("cam") else 0]
        heading = np.rad2deg(np.arctan2(axis[1], axis[0]))
        cells = [*pose[:3, 3], heading, np.rad2deg(np.arcsin(np.clip(axis[2], -1, 1)))]
        texts = [f"{round(value, 2) + 0.0:.2f}" for value in cells]  # never "-0.00"
        image, fov = "", ""
        if camera is not None and camera.image_size is not None:
            width, height = camera.image_size
            degrees = 2 * np.rad2deg(np.arctan(width / 2 / camera.intrinsics[0, 0]))
            distortion = f" {camera.distortion_model}" if camera.distortion else ""
            image, fov = f"{width} x {height}{distortion}", f"{degrees:.1f}"
        rows.append([frame, *texts, image, fov])
    columns = ("frame", "x", "y", "z (m)", "heading", "elevation (deg)", "image", "fov (deg)")
    print_tables(Table(columns=columns, rows=rows), lines=False)


@app.command()
def check(
    context: typer.Context,
    data: Data = None,
    bag: Bag = None,
    calibration: Annotated[
        Path | None, typer.Option(help="The file to check; else the drive's own calibration.")
    ] = None,
    scene: Scene = None,
    version: Version = None,
    frames: Annotated[int, typer.Option(min=1, help="How many frames to look at.")] = 48,
    topic: SensorTopics = None,
    params: Params = None,
) -> None:
    """Check the calibration over a drive, as the node does.

    Exit status 1 when it looks wrong, a sensor of the bag was in no frame, or the drive is too
    short to say.
    """
    from crkd_core.data.nuscenes.reader import NuScenes
    from crkd_ros.bags.recorded_calibration import CalibrationError, of_dataset
    from crkd_ros.calibration_check.drive import check_bag, check_dataset
    from crkd_ros.motion.calibration_file import Calibration
    from crkd_ros.parameters.framing import FramingConfig

    _check_source(context, data, bag)
    framing = node_config(params) or FramingConfig()
    known = None
    if calibration is not None:
        known = Calibration.load(calibration, base=framing.base_frame)
    unseen: tuple[str, ...] = ()
    if data is not None:
        tables = NuScenes(data, version=version)
        scene = scene or tables.scenes[0]
        result = check_dataset(tables, scene, known or of_dataset(tables, scene), frames=frames)
    else:
        assert bag is not None
        looked = check_bag(bag, known, frames=frames, framing=framing, topics=sensor_topics(topic))
        result, unseen = looked.check, looked.unseen
        for trouble in looked.troubles:
            print(f"not looked at: {trouble}")
    for finding in result.findings:
        print(f"- {finding.text}")
    if not result.done:
        raise CalibrationError(
            f"{data or bag}: the drive is too short to judge the calibration by: "
            f"{result.summary()}; take a longer one, or look at fewer with --frames"
        )
    if unseen:
        raise CalibrationError(
            f"{bag}: expected every sensor of the bag in a frame, got none of "
            f"{', '.join(unseen)} (the rest {result.summary()}); mend what is said of them above, "
            f"or leave them out (--topic {unseen[0]}=)"
        )
    print(result.summary())
    if result.findings:
        raise typer.Exit(1)


def _check_source(context: typer.Context, data: Path | None, bag: Path | None) -> None:
    """One of the two, and no option that is of the other."""
    from crkd_ros.bags.recorded_calibration import CalibrationError

    if (data is None) == (bag is None):
        raise CalibrationError("give either --data (a nuScenes data set) or --bag (a rosbag2)")
    if data is None:
        leave_out(context, "scene", "version", beside="of --data, and a bag holds one drive")
    else:
        leave_out(context, "base", "topic", "params", beside="of --bag, which is not given")


def _load(
    *,
    data: Path | None,
    bag: Path | None,
    scene: str | None,
    version: str | None,
    base: str | None,
    topics: dict[str, str],
    params: Path | None,
) -> tuple[Calibration, str]:
    """The calibration of the one source that was named, and that source in words."""
    from crkd_core.data.nuscenes.reader import NuScenes
    from crkd_ros.bags.recorded_calibration import of_bag, of_dataset
    from crkd_ros.parameters.framing import FramingConfig

    if data is not None:
        tables = NuScenes(data, version=version)
        where = f"data set {data.name}/{tables.version}" + (f", {scene}" if scene else "")
        return of_dataset(tables, scene), where
    assert bag is not None
    framing = node_config(params) or FramingConfig()
    base = base or framing.base_frame
    return of_bag(bag, base=base, framing=framing, topics=topics), f"bag {bag.name}"
