"""What drives a network was trained on, as far as run folders say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crkd_core.data.nuscenes.tables import NuScenesError
from crkd_core.data.vod.errors import VodError
from crkd_core.distill.held_out import HeldOut, ProtocolError, check_apart
from crkd_core.model.checkpoint import WEIGHTS
from crkd_core.train.run_folder import read_record


@dataclass
class Origins:
    """The drives that a network was trained on, and those of all that it learned from.

    Attributes:
        drives: run folder and drives, of itself, and of what it started from and was taught by.
        untold: files of which nothing says what they were made from.
    """

    drives: list[tuple[Path, HeldOut]] = field(default_factory=list)
    untold: list[str] = field(default_factory=list)


def origins(weights: str | Path) -> Origins:
    """Where a network has what it knows from.

    Args:
        weights: run folder, or weights file; of one in a run folder that folder tells.
    """
    found = Origins()
    _gather(Path(weights), found, above=(), met=set())
    return found


def _gather(weights: Path, found: Origins, *, above: tuple[Path, ...], met: set[Path]) -> None:
    folder = (weights if weights.is_dir() else weights.parent).resolve()
    record = None
    # What a run has learned from is not itself: another run lay there, and is gone.
    if (weights.is_dir() or weights.name == WEIGHTS) and folder not in above:
        record = _record(folder)
    if record is None:
        found.untold.append(str(weights))
        return
    if folder in met:
        return
    met.add(folder)
    drives, earlier, labels = record
    found.drives += [(folder, one) for one in drives]
    # A file of boxes does not say which detector made it.
    found.untold += labels
    for before in earlier:
        _gather(before, found, above=(*above, folder), met=met)


def _record(folder: Path) -> tuple[list[HeldOut], list[Path], list[str]] | None:
    """Drives of a run, the networks that it learned from, and files of boxes; None: no run."""
    try:
        record: Any = read_record(folder)
        config = record["config"]
        drives = [HeldOut(data=Path(record["data"]), split=str(record["split"]))]
        more = config.get("unlabelled") or {}
        if more:
            drives.append(HeldOut(data=Path(more["data"]), split=more["split"]))
        methods = (config.get(name) for name in ("crkd", "imkd"))
        earlier = [config.get("start"), config.get("start_image")]
        earlier += [method["teacher"] for method in methods if method]
        labels = more.get("pseudo_labels")
        return (
            drives,
            [Path(path) for path in dict.fromkeys(earlier) if path is not None],
            [] if labels is None else [str(labels)],
        )
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None


def check_origins(held_out: HeldOut, networks: Iterable[str | Path]) -> tuple[bool, list[str]]:
    """Refuse to measure networks on drives that they, or what they learned from, were trained on.

    Args:
        held_out: drives to measure on.
        networks: run folders or weights files.

    Returns:
        Whether it is known of all of them that they were not, and notes on those whose folder
        names drives that cannot be opened.

    Raises:
        ProtocolError: a sample is in both.
        NuScenesError, VodError: the held-out drives cannot be used.
    """
    held_out.tables().samples_of(held_out.split)
    known, notes = True, []
    for network in dict.fromkeys(map(str, networks)):
        found = origins(network)
        known = known and not found.untold
        for run, trained in found.drives:
            own = run in (Path(network).resolve(), Path(network).resolve().parent)
            of = network if own else f"{network} has learned from {run}, which"
            try:
                check_apart(held_out, trained)
            except ProtocolError as error:
                raise ProtocolError(f"{of} was trained on {trained.data}: {error}") from error
            except (NuScenesError, VodError) as error:
                known = False
                notes.append(
                    f"whether {of} was trained on drives of {held_out.split} is not known: "
                    f"{trained.split} of {trained.data} cannot be read: {error}"
                )
    return known, notes
