"""Rows of a table to columns, every value checked (schema.py); all raise NuScenesError.

An error names table, row (counted from 0) with its token, and field.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core.data.nuscenes.schema import SCHEMA, Field
from crkd_core.data.nuscenes.tables import NuScenesError, Row, read_table

#: Called with the number of bytes read since the last call.
Advance = Callable[[int], None]

_SHOWN = 80


class Part:
    """Some rows of a table as columns: what ``Field.read`` made of each field of its schema.

    Args:
        path: the table.
        rows: as read.
        first: number of the first of these rows in the table.
        fields: its schema.
    """

    def __init__(
        self, path: Path, rows: list[Row], *, first: int, fields: Mapping[str, Field]
    ) -> None:
        self.path, self.first = path, first
        self._rows = rows
        self._columns = {name: self._column(name, field) for name, field in fields.items()}

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, field: str) -> Any:
        return self._columns[field]

    def error(self, index: int, problem: str) -> NuScenesError:
        """What is wrong with one of these rows."""
        return bad_row(self.path, self.first + index, self._rows[index].get("token"), problem)

    def lookup(self, field: str, table: Mapping[str, Any], other: str) -> list[Any]:
        """What the tokens in one field stand for in ``table``, made from ``other``.json."""
        tokens = self[field]
        try:
            return [table[token] for token in tokens]
        except KeyError:
            bad = next(i for i, token in enumerate(tokens) if token not in table)
            raise self.error(
                bad, f"{field} is {shown(tokens[bad])}, which is not in {other}.json"
            ) from None

    def bytes_of(self, field: str) -> NDArray[np.bytes_]:
        """One text field of all rows, [rows], fixed-width UTF-8."""
        values = self[field]
        return np.array([value.encode() for value in values] or [b""], np.bytes_)[: len(values)]

    def poses(self) -> NDArray[np.float64]:
        """[rows, 7] translation and quaternion w x y z."""
        return np.concatenate([self["translation"], self["rotation"]], 1)

    def _column(self, name: str, field: Field) -> Any:
        try:
            values = [row[name] for row in self._rows]
            if field.default is not None and None in values:
                values = [field.default if value is None else value for value in values]
        except KeyError:
            if field.default is None:
                bad = next(i for i, row in enumerate(self._rows) if name not in row)
                raise self.error(
                    bad, f"has no field {name!r}; expected {field.expected}"
                ) from None
            rows = self._rows
            values = [row.get(name) for row in rows]
            values = [field.default if value is None else value for value in values]
        try:
            return field.read(values)
        except (ValueError, TypeError, OverflowError):
            for index, value in enumerate(values):
                try:
                    field.read([value])
                except (ValueError, TypeError, OverflowError):
                    raise self.error(
                        index, f"{name}: expected {field.expected}, got {shown(value)}"
                    ) from None
            raise


def bad_row(path: Path, number: int, token: object, problem: str) -> NuScenesError:
    """What is wrong with one row of a table."""
    name = f" ({shown(token)[1:-1]})" if isinstance(token, str) and token else ""
    return NuScenesError(f"{path}: row {number}{name}: {problem}")


def shown(value: object) -> str:
    """A value as an error shows it: on one line, and not all of a long one."""
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def parts(folder: Path, table: str, advance: Advance) -> Iterator[Part]:
    """A large table, part by part."""
    path, first = folder / f"{table}.json", 0
    for rows in read_table(path, advance):
        yield Part(path, rows, first=first, fields=SCHEMA[table])
        first += len(rows)


def whole(folder: Path, table: str, advance: Advance) -> Part:
    """A small table."""
    path = folder / f"{table}.json"
    rows = [row for rows in read_table(path, advance) for row in rows]
    return Part(path, rows, first=0, fields=SCHEMA[table])


def numbered(part: Part, known: dict[str, int] | None = None) -> dict[str, int]:
    """Token -> row, continuing ``known`` (which is changed) when a table comes in parts."""
    known = {} if known is None else known
    tokens = part["token"]
    fresh = dict(zip(tokens, range(len(known), len(known) + len(tokens)), strict=True))
    if len(fresh) != len(tokens) or not known.keys().isdisjoint(fresh):
        check_distinct(part, "token", known)
    known.update(fresh)
    return known


def check_distinct(part: Part, field: str, known: Mapping[str, int] | None = None) -> None:
    """Refuse two rows that have the same text in a field.

    Args:
        part: rows to look at.
        field: of texts.
        known: text -> row of earlier parts.
    """
    seen = dict(known or {})
    for index, text in enumerate(part[field]):
        if text in seen:
            raise part.error(
                index, f"has the same {field} as row {seen[text]}; every row needs its own"
            )
        seen[text] = part.first + index


def concatenate(arrays: list[NDArray[Any]], empty: tuple[int, ...]) -> NDArray[Any]:
    """Arrays end to end; zeros of shape ``empty`` when there are none."""
    return np.concatenate(arrays) if arrays else np.zeros(empty)
