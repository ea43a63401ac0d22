"""The index kept on disk, so that a second start on tables of gigabytes is immediate.

A cache is a folder of ``.npy`` files that are mapped, not read, and shared by worker processes.
Its name is a fingerprint of format, table sizes and modification times: changed tables mean
another name, never a stale answer. It appears under that name only when it is whole.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np

from crkd_core.data.nuscenes.index import Index, build_index
from crkd_core.data.nuscenes.tables import TABLES, NuScenesError, table_progress
from crkd_core.files import PARTIAL, replacing

logger = logging.getLogger(__name__)

# To be raised whenever the meaning of an array in Index changes.
_FORMAT = 3

# Below this, reading is quicker than mapping.
_MAP_BYTES = 1 << 16

_FIELDS = tuple(field.name for field in dataclasses.fields(Index))


def open_index(folder: Path) -> Index:
    """The index of one version folder: from its cache, else built and cached.

    The cache lies in ``<folder>/.crkd_index``, or in the user's cache folder where that is not
    writable; where neither is, the index is built on every start, with a warning. A damaged
    cache is rebuilt, with a warning.

    Raises:
        NuScenesError: the tables cannot be read; names the file.
    """
    key = fingerprint(folder)
    places = _places(folder)
    for place in places:
        if _is_folder(place / key):
            try:
                return _load(place / key)
            except (OSError, ValueError, KeyError, TypeError) as error:
                logger.warning("%s: damaged index (%s); building it again", place / key, error)
                shutil.rmtree(place / key, ignore_errors=True)
    with table_progress(folder) as advance:
        index = build_index(folder, advance)
    problems = []
    for place in places:
        try:
            _save(index, place, key)
            return _load(place / key)
        except OSError as error:
            problems.append(f"{place}: {error}")
    logger.warning("cannot keep the index, every start will build it: %s", "; ".join(problems))
    return index


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # It lies where this user may not look.
        return False


def _places(folder: Path) -> list[Path]:
    beside = folder / ".crkd_index"
    try:
        user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # A container's user need not have a home.
        return [beside]
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    return [beside, user / "crkd" / "index" / name]


def fingerprint(folder: Path) -> str:
    """A digest that changes when the tables of a version folder do.

    Raises:
        NuScenesError: a table is missing.
    """
    facts: list[object] = [_FORMAT, list(_FIELDS)]
    for name in TABLES:
        path = folder / f"{name}.json"
        try:
            stat = path.stat()
        except OSError as error:
            raise NuScenesError(f"{path}: cannot read table: {error.strerror}") from error
        facts.append([name, stat.st_size, stat.st_mtime_ns])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _load(folder: Path) -> Index:
    """Raises OSError or ValueError for a cache that is not whole."""
    sizes = json.loads((folder / "sizes.json").read_text("utf-8"))
    arrays = {}
    for name in _FIELDS:
        path = folder / f"{name}.npy"
        size = path.stat().st_size
        if size != sizes[name]:
            raise ValueError(f"{path.name} has {size} bytes, expected {sizes[name]}")
        array = np.load(path, mmap_mode="r" if size > _MAP_BYTES else None)
        # Plain views: indexing the memmap class itself is several times slower.
        arrays[name] = np.asarray(array)
    return Index(**arrays)


def _save(index: Index, place: Path, key: str) -> None:
    try:
        with replacing(place / key) as partial:
            partial.mkdir()
            sizes = {}
            for name in _FIELDS:
                path = partial / f"{name}.npy"
                np.save(path, getattr(index, name))
                sizes[name] = path.stat().st_size
            (partial / "sizes.json").write_text(json.dumps(sizes), "utf-8")
    except OSError:
        # Another process was first; its index is as good as this one.
        if not (place / key / "sizes.json").exists():
            raise
    for old in place.iterdir():
        if old.name != key and old.suffix != PARTIAL:
            shutil.rmtree(old, ignore_errors=True)
