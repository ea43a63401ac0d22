"""nuScenes tables on disk: which versions and splits exist, JSON tables read piece by piece."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import orjson
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn

from crkd_core.data.vod.layout import is_vod
from crkd_core.files import open_file, read_file
from crkd_core.progress import Bar

#: Predefined splits and the ending of the versions that hold them (docs/nuscenes.md, "Files
#: and tables").
SPLIT_SUFFIX = {
    "train": "trainval",
    "val": "trainval",
    "test": "test",
    "mini_train": "mini",
    "mini_val": "mini",
}

#: Tables that the reader uses, in the order in which it reads them.
TABLES = (
    "category",
    "attribute",
    "instance",
    "sensor",
    "calibrated_sensor",
    "log",
    "scene",
    "sample",
    "ego_pose",
    "sample_data",
    "sample_annotation",
)

_CHUNK_BYTES = 1 << 25
# Longer than any row of any table.
_LONGEST_ROW = 1 << 28
_PROGRESS_BYTES = 50_000_000

# Texts, whatever is in them, and brackets.
_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*"|[][{}"]', re.DOTALL)

Row = dict[str, Any]


class NuScenesError(ValueError):
    """A data set that cannot be read, or that lacks a version, split, scene or sample."""


def find_version(root: Path, version: str | None, split: str | None) -> tuple[Path, str]:
    """The root folder and the name of the version folder to use.

    Args:
        root: folder that holds version folders, or one of these, which is chosen so.
        version: its name; None = choose.
        split: only for choosing: a predefined split selects the version with its ending.

    Raises:
        NuScenesError: no such folder, no such version, or no single choice; lists what exists.
    """
    if not root.is_dir():
        raise NuScenesError(f"{root}: no such folder; expected the root of a nuScenes data set")
    if (root / "sample.json").is_file():
        named = root if root.name else root.absolute()
        root, version = named.parent, version or named.name
    found = sorted(path.parent.name for path in root.glob("*/sample.json"))
    if not found and is_vod(root):
        raise NuScenesError(
            f"{root} is View-of-Delft, and this command reads nuScenes alone; docs/vod.md lists "
            "those that read both"
        )
    if not found:
        raise NuScenesError(
            f"{root}: no version folder (v1.0-mini, v1.0-trainval, ...: what holds sample.json); "
            "expected the root of a nuScenes data set"
        )
    listing = f"versions here: {', '.join(found)}"
    if version is not None:
        if version not in found:
            raise NuScenesError(f"{root}: no version {version!r}; {listing}")
        return root, version
    if len(found) == 1:
        return root, found[0]
    choice = found
    if split is not None:
        choice = [name for name in found if split in custom_splits(root / name)]
        if not choice and split in SPLIT_SUFFIX:
            choice = [name for name in found if name.endswith(SPLIT_SUFFIX[split])]
    if len(choice) != 1:
        reason = "expected one version" if split is None else f"no single version for {split!r}"
        raise NuScenesError(
            f"{root}: {reason}; {listing}; choose one with --version, or by its folder, "
            f"{root / found[-1]}"
        )
    return root, choice[0]


def custom_splits(folder: Path) -> dict[str, list[str]]:
    """Split name -> scene names from ``splits.json`` of a version folder; {} without that file.

    Raises:
        NuScenesError: the file is not a mapping from names to lists of scene names.
    """
    path = folder / "splits.json"
    if not path.exists():
        return {}
    try:
        splits = _parse(path, read_file(path), 0)
    except OSError as error:
        raise NuScenesError(f"{path}: cannot read the splits: {error.strerror}") from error
    if not isinstance(splits, dict) or not all(
        isinstance(names, list) and all(isinstance(name, str) for name in names)
        for names in splits.values()
    ):
        raise NuScenesError(f"{path}: expected a mapping from split names to lists of scene names")
    for split, names in splits.items():
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        if twice:
            raise NuScenesError(f"{path}: split {split!r} names {', '.join(twice[:5])} twice")
    return splits


def predefined_splits(version: str) -> dict[str, list[str]]:
    """Official split name -> scene names, of those that belong to versions named like this one."""
    data = resources.files("crkd_core.data.nuscenes").joinpath("splits.json").read_text("utf-8")
    return {
        split: [f"scene-{number:04d}" for number in numbers]
        for split, numbers in json.loads(data).items()
        if version.endswith(SPLIT_SUFFIX[split])
    }


def read_table(path: Path, advance: Callable[[int], None] = lambda _: None) -> Iterator[list[Row]]:
    """Rows of one table, in lists of some ten thousand so that memory stays bounded.

    Args:
        path: the JSON file, a list of objects.
        advance: called with the number of bytes read since the last call.

    Raises:
        NuScenesError: missing, malformed, or not a list of objects; names the file and the byte.
    """
    try:
        with open_file(path) as file:
            rest, start = b"", 0
            while piece := file.read(_CHUNK_BYTES):
                advance(len(piece))
                rest += piece
                # A table that fits in one piece is parsed whole.
                cut = _first_rows(path, rest, start) if len(piece) == _CHUNK_BYTES else None
                if cut is None and len(rest) > _LONGEST_ROW:
                    raise NuScenesError(
                        f"{path}: no end of a row in {len(rest)} bytes; expected a JSON list of "
                        "objects"
                    )
                if cut is not None:
                    rows, begin = cut
                    yield rows
                    start += begin - 1
                    rest = b"[" + rest[begin:]
            yield _rows(path, rest, start)
    except OSError as error:
        raise NuScenesError(f"{path}: cannot read table: {error.strerror}") from error


@contextlib.contextmanager
def table_progress(folder: Path) -> Iterator[Callable[[int], None]]:
    """A bar on stderr over the bytes of all TABLES of a version; none for small versions."""
    total = sum((folder / f"{name}.json").stat().st_size for name in TABLES)
    if total < _PROGRESS_BYTES:
        yield lambda _: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Bar(*columns, TimeRemainingColumn(), unit="byte") as progress:
        task = progress.add_task(f"indexing {folder.name} (once)", total=total)
        yield lambda count: progress.advance(task, count)


def _first_rows(path: Path, data: bytes, start: int) -> tuple[list[Row], int] | None:
    """The whole rows of a piece, and where the next begins; None where none ends in it."""
    cut = _last_boundary(data)
    if cut is not None:
        try:
            return _rows(path, data[: cut[0]] + b"]", start), cut[1]
        except NuScenesError:
            # Perhaps between two objects within a row, or in a text: found by counting, which
            # takes many times as long.
            cut = _outer_boundary(data)
    return None if cut is None else (_rows(path, data[: cut[0]] + b"]", start), cut[1])


def _outer_boundary(data: bytes) -> tuple[int, int] | None:
    """The same as ``_last_boundary``, of two rows of the list that ``data`` is the start of."""
    depth, end, found = 0, None, None
    for match in _BRACKETS.finditer(data):
        sign = match[0]
        if sign == b'"':  # a text without an end
            break
        if sign in (b"[", b"{"):
            if depth == 1 and end is not None:
                found = end, match.start()
            depth += 1
        elif sign in (b"]", b"}"):
            depth -= 1
            end = match.end() if depth == 1 else end
    return found


def _last_boundary(data: bytes) -> tuple[int, int] | None:
    """Where the last ``} , {`` of a text ends its first object and begins its second."""
    begin = data.rfind(b"{")
    while begin > 0:
        before = data[max(0, begin - 256) : begin].rstrip()
        if before.endswith(b",") and before[:-1].rstrip().endswith(b"}"):
            return data.rindex(b"}", 0, begin) + 1, begin
        begin = data.rfind(b"{", 0, begin)
    return None


def _rows(path: Path, data: bytes, start: int) -> list[Row]:
    # Arrays of texts would lose it at the end of one, and so make two texts equal.
    if b"\\u0000" in data:
        place = start + data.index(b"\\u0000")
        raise NuScenesError(f"{path}: a text with the character NUL near byte {place}")
    rows = _parse(path, data, start)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise NuScenesError(f"{path}: expected a JSON list of objects, got something else")
    return rows


def _parse(path: Path, data: bytes, start: int) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        found = error
    if (b"NaN" in data or b"Infinity" in data) and b"\\ud" not in data.lower():
        # No JSON, but the devkit reads it, and it may be in a field that nobody looks at.
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(data)
    raise NuScenesError(
        f"{path}: malformed JSON near byte {start + found.pos}: {found.msg}; "
        "the file is damaged or incomplete, copy it again"
    ) from found
