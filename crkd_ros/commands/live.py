"""`crkd live`."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from crkd_core.commands.options import Overwrite, Version
from crkd_core.files import check_output
from crkd_core.tables import print_tables
from crkd_ros.commands.options import (
    Parameters,
    SensorTopics,
    for_weights,
    node_parameters,
    sensor_topics,
)

if TYPE_CHECKING:
    from crkd_ros.streaming_eval.players import PlayerName


def live(
    bag: Annotated[Path, typer.Argument(help="A rosbag2 of one scene: folder, .mcap or .db3.")],
    weights: Annotated[Path, typer.Option(help="A detector, as for crkd evaluate.")],
    data: Annotated[Path, typer.Option(help="The nuScenes data set of the bag.")],
    split: Annotated[str, typer.Option(help="A split with the bag's scene.")],
    out: Annotated[Path, typer.Option(help="Folder for metrics, picture, page and logs.")],
    rate: Annotated[
        list[float] | None,
        typer.Option(help="Speed of playing (repeatable); default: 0.5, 1, 2."),
    ] = None,
    parameter: Parameters = None,
    config: Annotated[
        list[Path] | None, typer.Option(help="Parameter file of the node (repeatable).")
    ] = None,
    player: Annotated[
        str, typer.Option(help="auto, ros2 (ros2 bag play) or own (crkd play).")
    ] = "auto",
    offline: Annotated[
        bool, typer.Option(help="Also run the detector on every key frame, for comparison.")
    ] = True,
    topic: SensorTopics = None,
    version: Version = None,
    overwrite: Overwrite = False,
) -> None:
    """Play a bag to the live node and score its detections at the moment they came."""
    from crkd_ros.bags.frames import layout_of
    from crkd_ros.parameters.node import NodeConfig
    from crkd_ros.parameters.parameter_file import load_all
    from crkd_ros.streaming_eval.naming import naming
    from crkd_ros.streaming_eval.players import SessionError, player_command
    from crkd_ros.streaming_eval.rates import RESULTS, score_rates
    from crkd_ros.streaming_eval.scores import refuse_other_drives, refuse_other_frames

    if player not in ("auto", "ros2", "own"):
        raise SessionError(f"--player: expected auto, ros2 or own, got {player!r}")
    parameters = node_parameters(parameter)
    rates = rate or [0.5, 1.0, 2.0]
    for one in rates:
        if not 0 < one < math.inf:
            raise SessionError(f"--rate: expected finite numbers above 0, got {one:g}")
    player_command(bag, rate=1.0, player=cast("PlayerName", player))  # Or it is not installed.
    if not weights.exists():
        raise SessionError(f"--weights: there is no file {weights}")
    check_output(out, results=RESULTS, overwrite=overwrite)
    files = config or ()
    framing = load_all(files, NodeConfig, node="detector_node", above=parameters)
    framing = replace(framing, weights=str(weights))
    refuse_other_frames(framing.frame_id, framing.base_frame)
    topics = sensor_topics(topic)
    layout = layout_of(bag, framing, topics)
    for sentence in layout.sentences():
        print(sentence)
    naming(layout, framing)
    from crkd_core.data.nuscenes.reader import NuScenes

    framing = for_weights(framing, weights)
    tables = NuScenes(data, split=split, version=version)
    refuse_other_drives(bag, layout, tables, split)  # Not after the whole bag has been played.
    page = score_rates(
        bag,
        config=framing,
        tables=tables,
        split=split,
        out=out,
        rates=rates,
        parameters=parameters,
        files=files,
        player=cast("PlayerName", player),
        offline=offline,
        topics=topics,
    )
    print_tables(*page)
