"""What several commands have as an option."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace results that are there already.")
]
