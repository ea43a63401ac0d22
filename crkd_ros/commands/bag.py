"""Command `crkd-bag`: bags of nuScenes scenes, and bags of other converters in our layout."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from crkd_core.command import run
from crkd_core.files import check_output
from crkd_ros.bags import nuscenes
from crkd_ros.bags.foreign.kinds import Kind
from crkd_ros.bags.message_types import BagError

_KINDS = [kind.value for kind in Kind if kind is not Kind.OURS]


class _Group(TyperGroup):
    """`crkd-bag --data ... --scene ... --out ...`, as it was before there were sub-commands."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Options without a sub-command are those of `nuscenes`."""
        if args and args[0].startswith("-") and args[0] != "--help":
            args = ["nuscenes", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Group,
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Bags of nuScenes scenes, and bags of other converters in our layout.\n\n"
    "`crkd-bag --data DIR --scene NAME --out BAG` is short for `crkd-bag nuscenes ...`.",
)
app.command("nuscenes")(nuscenes.command)


@app.command()
def convert(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="A rosbag2, ROS 1 .bag or Foxglove .mcap.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the new bag.")],
    kind: Annotated[str, typer.Option(help=f"Who wrote IN: auto, {', '.join(_KINDS)}.")] = "auto",
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="From crkd-calibration write --data DIR; for bags without camera_info "
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
) -> None:
    """Convert a bag of another nuScenes converter."""
    _choice("--kind", kind, ["auto", *_KINDS])
    _choice("--stamps", stamps, ["auto", "header", "record"])
    _choice("--image-format", image_format, ["jpeg", "png"])
    _choice("--storage", storage, ["mcap", "sqlite3"])
    if out.exists():
        raise BagError(f"{out} exists already; remove it or choose another OUT")
    check_output(out)
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
    )
    plain: dict[str, Any] = {"soft_wrap": True, "markup": False, "highlight": False}
    console = Console()
    console.print(f"{source}: {summary.kind.value} ({summary.kind.converter})", **plain)
    for note in summary.notes:
        console.print(f"  {note}", **plain)
    seconds = (summary.end_ns - summary.start_ns) * 1e-9
    total = sum(summary.messages.values())
    console.print(
        f"{out}: {total} messages of {len(summary.messages)} topics, {seconds:.1f} s", **plain
    )


@app.command()
def info(
    bag: Annotated[Path, typer.Argument(help="A bag of any known converter.")],
    calibration: Annotated[
        Path | None, typer.Option(help="Calibration file that goes with it.")
    ] = None,
) -> None:
    """Show what a bag offers to the detector: sensors, rates, expected frames, what is missing."""
    from crkd_ros.bags.info import describe, show

    found = describe(bag, calibration=calibration)
    show(found, bag, Console(soft_wrap=True, markup=False, highlight=False))


def _choice(option: str, value: str, known: list[str]) -> None:
    if value not in known:
        raise BagError(f"{option}: expected {', '.join(known)}; got {value!r}")


def main() -> None:
    """Entry point of `crkd-bag`."""
    run(app)


if __name__ == "__main__":
    main()
