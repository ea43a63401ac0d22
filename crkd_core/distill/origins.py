"""What drives a network was trained on, as far as its run folder says."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from crkd_core.data.nuscenes.tables import NuScenesError
from crkd_core.data.vod.errors import VodError
from crkd_core.distill.held_out import HeldOut, ProtocolError, check_apart
from crkd_core.model.checkpoint import WEIGHTS
from crkd_core.train.run_folder import read_record


def origins(weights: str | Path) -> list[HeldOut] | None:
    """The drives that a network was trained on, and those of what it started from.

    Args:
        weights: run folder, or weights file; of one in a run folder that folder tells.

    Returns:
        None where nothing says; an empty list never.
    """
    weights = Path(weights)
    folder = weights if weights.is_dir() else weights.parent
    if not weights.is_dir() and weights.name != WEIGHTS:
        return None
    with contextlib.suppress(OSError, ValueError, RecursionError, KeyError, TypeError):
        record = read_record(folder)
        config = record["config"]
        found = [HeldOut(data=Path(record["data"]), split=str(record["split"]))]
        if more := config.get("unlabelled"):
            found.append(HeldOut(data=Path(more["data"]), split=more["split"]))
        for before in (config.get("start"), config.get("start_image")):
            if before is None:
                continue
            # A run does not start from itself.
            earlier = None if Path(before).parent == folder else origins(before)
            if earlier is None:
                return None
            found += earlier
        return found
    return None


def check_origins(held_out: HeldOut, networks: Iterable[str | Path]) -> tuple[bool, list[str]]:
    """Refuse to measure networks on drives that they, or what they started from, were trained on.

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
        drives = origins(network)
        known = known and drives is not None
        for trained in drives or ():
            try:
                check_apart(held_out, trained)
            except ProtocolError as error:
                raise ProtocolError(f"{network} was trained on {trained.data}: {error}") from error
            except (NuScenesError, VodError) as error:
                known = False
                notes.append(
                    f"whether {network} was trained on drives of {held_out.split} is not known: "
                    f"{trained.split} of {trained.data} cannot be read: {error}"
                )
    return known, notes
