"""Rows that name the row before or after them: ``prev`` and ``next``, followed and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crkd_core.data.nuscenes.columns import bad_row, shown


def links(
    path: Path,
    tokens: Sequence[str],
    row_of: Mapping[str, int],
    *,
    field: str,
    notes: list[str],
    stamp: NDArray[np.int64],
    same: NDArray[np.integer],
) -> NDArray[np.int64]:
    """[n] the row that each row links to, -1 where there is none.

    A token that no row has counts as none, as at the edge of a part of a larger data set; how
    many there are is noted.

    Args:
        path: the table.
        tokens: of the rows that are linked to; "" = none.
        row_of: token -> row.
        field: "prev" or "next".
        notes: takes what is missing, in words.
        stamp: [n] time of each row.
        same: [n] what two linked rows must have in common: the sensor, or the object.

    Raises:
        NuScenesError: a row before that is not earlier, a row after that is not later (so that
            nothing runs in a circle), two rows with the same neighbour, or a link to another
            sensor or object; names both rows.
    """
    found = np.array([row_of.get(token, -2) if token else -1 for token in tokens], np.int64)
    missing = np.flatnonzero(found == -2)
    if len(missing):
        notes.append(
            f"{path.name}: {field} of {len(missing)} rows names rows that are not in the table, "
            f"first {shown(tokens[missing[0]])}: they count as having none"
        )
    found = np.maximum(found, -1)
    rows = np.flatnonzero(found >= 0)
    others = found[rows]
    names = list(row_of)

    def check(bad: NDArray[np.bool_], problem: str) -> None:
        if bad.any():
            row, other = (int(of[np.argmax(bad)]) for of in (rows, others))
            raise bad_row(
                path,
                row,
                names[row],
                f"{field} is row {other} ({names[other]}), {problem}",
            )

    check(same[others] != same[rows], "which is of something else")
    early = stamp[others] - stamp[rows] if field == "prev" else stamp[rows] - stamp[others]
    check(early >= 0, f"which is not {'earlier' if field == 'prev' else 'later'}")
    _, first = np.unique(others, return_index=True)
    again = np.ones(len(rows), bool)
    again[first] = False
    check(again, f"which is that of another row too; a row has one {field}")
    return found


def velocity_of_vehicle(
    stamp: NDArray[np.int64], pose: NDArray[np.float64], block: NDArray[np.int64]
) -> float:
    """Median speed between neighbouring records of a sensor, m/s; 0 where there are none.

    Args:
        stamp: [n] nanoseconds.
        pose: [n, 7] translation first, metres.
        block: [n] ascending: records of one sensor in one scene.
    """
    elapsed = np.diff(stamp) * 1e-9
    follows = (np.diff(block) == 0) & (elapsed > 0)
    if not follows.any():
        return 0.0
    moved = np.linalg.norm(np.diff(pose[:, :3], axis=0), axis=1)
    return float(np.median(moved[follows] / elapsed[follows]))
