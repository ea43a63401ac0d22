"""Rows of a JSON table to arrays, every value checked; all raise NuScenesError naming the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core.data.nuscenes.tables import NuScenesError, Row, read_table

#: Called with the number of bytes read since the last call.
Advance = Callable[[int], None]


def whole_table(folder: Path, name: str, advance: Advance) -> tuple[Path, list[Row]]:
    """Path and all rows of a small table."""
    path = folder / f"{name}.json"
    return path, [row for rows in read_table(path, advance) for row in rows]


def column(path: Path, rows: list[Row], field: str) -> list[Any]:
    """One field of every row.

    Raises:
        NuScenesError: a row has no such field; names file, row and token.
    """
    try:
        return [row[field] for row in rows]
    except KeyError:
        bad = next(row for row in rows if field not in row)
        raise NuScenesError(
            f"{path}: the record with token {bad.get('token')!r} has no field {field!r}"
        ) from None


def numbered(path: Path, rows: list[Row], known: dict[str, int] | None = None) -> dict[str, int]:
    """Token -> row, continuing ``known`` (which is changed) when a table comes in pieces."""
    known = {} if known is None else known
    start = len(known)
    tokens = column(path, rows, "token")
    try:
        known.update(zip(tokens, range(start, start + len(tokens)), strict=True))
    except TypeError as error:
        raise NuScenesError(f"{path}: field 'token': expected a text in every record") from error
    if len(known) != start + len(tokens):
        raise NuScenesError(f"{path}: two records have the same token; tokens must be unique")
    return known


def lookup(
    path: Path, rows: list[Row], field: str, table: dict[str, Any], other: str
) -> list[Any]:
    """What the tokens in one field stand for in ``table``, made from ``other``.json."""
    tokens = column(path, rows, field)
    try:
        return [table[token] for token in tokens]
    except (KeyError, TypeError):
        bad = next(
            i for i, token in enumerate(tokens) if not isinstance(token, str) or token not in table
        )
        raise NuScenesError(
            f"{path}: record {rows[bad].get('token')!r}: {field} is {tokens[bad]!r}, which is not "
            f"in {other}.json"
        ) from None


def numbers(
    path: Path, rows: list[Row], field: str, dtype: Any, shape: tuple[int, ...] = ()
) -> NDArray[Any]:
    """One numeric field of all rows, [rows, *shape], checked."""
    values = column(path, rows, field)
    try:
        array = np.asarray(values or np.zeros((0, *shape)))
        if array.shape != (len(rows), *shape) or array.dtype.kind not in "iufb":
            raise ValueError(f"shape {array.shape} of type {array.dtype}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError("a value is not finite")
        return array.astype(dtype)
    except ValueError as error:
        expected = f"{shape[0]} numbers" if shape else "a number"
        raise NuScenesError(
            f"{path}: field {field!r}: expected {expected} in every record: {error}"
        ) from error


def poses(path: Path, rows: list[Row]) -> NDArray[np.float64]:
    """[rows, 7] translation and quaternion w x y z."""
    translation = numbers(path, rows, "translation", np.float64, (3,))
    rotation = numbers(path, rows, "rotation", np.float64, (4,))
    zero = np.linalg.norm(rotation, axis=1) < 1e-9
    if zero.any():
        bad = rows[int(np.argmax(zero))]
        raise NuScenesError(f"{path}: record {bad.get('token')!r}: rotation of length zero")
    return np.concatenate([translation, rotation], 1)


def strings(path: Path, rows: list[Row], field: str) -> NDArray[np.bytes_]:
    """One text field of all rows, [rows], fixed-width UTF-8."""
    values = column(path, rows, field)
    try:
        return np.array([value.encode() for value in values] or [b""], np.bytes_)[: len(values)]
    except AttributeError as error:
        raise NuScenesError(f"{path}: field {field!r}: expected a text in every record") from error


def concatenate(arrays: list[NDArray[Any]], empty: tuple[int, ...]) -> NDArray[Any]:
    """Arrays end to end; zeros of shape ``empty`` when there are none."""
    return np.concatenate(arrays) if arrays else np.zeros(empty)
