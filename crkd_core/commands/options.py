"""What several commands have as an option."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import typer

from crkd_core.config import ConfigError

#: May stand beside --resume: where a run lies, what it reads, which is compared, and where it
#: computes.
OF_A_CALL = ("data", "split", "out", "version", "device", "resume")

Unlabelled = Annotated[Path | None, typer.Option(help="Root folder of drives without boxes.")]
UnlabelledSplit = Annotated[
    str | None, typer.Option(help="A split of it; what it says of boxes is not read.")
]
UnlabelledShare = Annotated[
    float | None,
    typer.Option(help="Of all samples, how many are of these drives; default: 0.5."),
]
PseudoLabels = Annotated[
    Path | None,
    typer.Option(
        help="Learn these boxes of a detector there: the results.json of crkd evaluate --weights."
    ),
]
Data = Annotated[Path, typer.Option(help="Root folder of a nuScenes or View-of-Delft data set.")]
Split = Annotated[
    str,
    typer.Option(
        help="A split of splits.json, of nuScenes or of ImageSets, or scenes: SCENE,SCENE,..."
    ),
]
Out = Annotated[Path, typer.Option(help="Folder to write into.")]
Device = Annotated[str, typer.Option(help='"cpu", "cuda", "cuda:1".')]
Precision = Annotated[str, typer.Option(help="fp32, bf16 or fp16.")]
Engine = Annotated[
    str,
    typer.Option(
        help="What computes the network: torch; on a GPU cuda_graph; on a CPU export, onnxruntime "
        "or openvino, with --weights of crkd export the one that reads them."
    ),
]
Version = Annotated[
    str | None,
    typer.Option(help="Version folder of the data set; needed only if several hold the split."),
]
Steps = Annotated[int | None, typer.Option(min=1, help="Length of the schedule.")]
Resume = Annotated[bool, typer.Option(help="Go on with the run in --out.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace results that are there already.")
]


def leave_out(context: typer.Context, *names: str, beside: str) -> None:
    """Refuse parameters that the command line says and that nothing would read.

    Args:
        context: of the command.
        names: the parameters.
        beside: why not, to stand behind their options: "needs --data".

    Raises:
        ConfigError: names the options.
    """
    said = given(context, but=())
    if found := [said[name] for name in names if name in said]:
        raise ConfigError(f"{', '.join(found)}: {beside}; leave it out")


def given(context: typer.Context, *, but: Collection[str]) -> dict[str, str]:
    """What the command line says, without its defaults: parameter -> option, as --set.

    Args:
        context: of the command.
        but: parameters that are left out.
    """
    found = {}
    for parameter in context.command.params:
        name = parameter.name
        source = None if name is None else context.get_parameter_source(name)
        if name is not None and source is not None and source.name != "DEFAULT":
            said = parameter.secondary_opts if context.params[name] is False else parameter.opts
            found[name] = said[0]
    return {name: option for name, option in found.items() if name not in but}
