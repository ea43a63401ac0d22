"""Weights of one network for another: `python tools/graft.py WEIGHTS --out NEW --set KEY=VALUE`.

A network of another architecture need not begin from nothing where most of it is the same. What
`--set` changes is the detector of WEIGHTS; the parts that `--anew` names begin with fresh weights,
all others are taken over and have to fit. Train what comes out with `crkd train --start NEW`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import torch
import typer

from crkd_core.command import run_function
from crkd_core.config.override import override
from crkd_core.files import ITSELF, check_output
from crkd_core.model.build import build_detector, check_detector
from crkd_core.model.checkpoint import load_weights, save_weights
from crkd_core.model.detector import BevDetector
from crkd_core.presets import preset


class GraftError(RuntimeError):
    """A part that does not fit, or that is not there."""


def graft(source: BevDetector, changes: list[str], anew: list[str], seed: int) -> BevDetector:
    """The network of ``source`` with ``changes``, and its weights outside of ``anew``.

    Args:
        source: any network.
        changes: KEY.KEY=YAML of a training's configuration, below ``detector``.
        anew: prefixes of parameters, whole names between dots: ``image.backbone``.
        seed: of the fresh weights.

    Raises:
        GraftError: parameters outside of ``anew`` that one of both has not, or with another shape;
            a prefix that no parameter has.
        ConfigError: an unknown key, or a value that it cannot have.
    """
    config = dataclasses.replace(preset("demo_student"), detector=source.config)
    changed = override(config, changes)
    if dataclasses.replace(changed, detector=source.config) != config:
        raise GraftError(f"--set {changes}: expected changes of detector.* alone")
    check_detector(changed.detector)
    torch.manual_seed(seed)
    model = build_detector(changed.detector)
    own, given = model.state_dict(), source.state_dict()
    names = own.keys() | given.keys()
    for prefix in anew:
        if not any(_below(name, prefix) for name in names):
            raise GraftError(f"--anew {prefix}: no parameter of either network has this name")
    kept = {name for name in names if not any(_below(name, prefix) for prefix in anew)}
    misfits = sorted(
        name
        for name in kept
        if name not in own or name not in given or own[name].shape != given[name].shape
    )
    if misfits:
        raise GraftError(
            f"{len(misfits)} parameters fit only one of both networks: {misfits[:6]}; name the "
            "parts that shall begin with fresh weights: --anew PART"
        )
    model.load_state_dict({name: given[name] for name in kept}, strict=False)
    return model.eval()


def _below(name: str, prefix: str) -> bool:
    return f"{name}.".startswith(f"{prefix}.")


def main(
    weights: Annotated[Path, typer.Argument(help="Weights file, or a training's folder.")],
    out: Annotated[Path, typer.Option(help="Weights file to write.")],
    changes: Annotated[list[str] | None, typer.Option("--set", help="detector.KEY=YAML.")] = None,
    anew: Annotated[list[str] | None, typer.Option(help="Part with fresh weights.")] = None,
    seed: Annotated[int, typer.Option(help="Of the fresh weights.")] = 0,
    overwrite: Annotated[bool, typer.Option(help="Replace a file that is there.")] = False,
) -> None:
    """Write a network of another architecture that starts with what fits of a trained one."""
    check_output(out, results=ITSELF, overwrite=overwrite)
    source = load_weights(weights)
    model = graft(source, changes or [], anew or [], seed)
    save_weights(model, out)
    fresh = sum(
        value.numel()
        for name, value in model.named_parameters()
        if any(_below(name, prefix) for prefix in anew or [])
    )
    total = sum(value.numel() for value in model.parameters())
    typer.echo(f"{out}: {total - fresh} parameters taken over, {fresh} begin anew")


if __name__ == "__main__":
    run_function(main)
