"""A Frame as one file: its arrays as safetensors, and what surrounds them as JSON.

It is mapped, not read: the arrays of a file are in memory once, however many processes use them.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from crkd_core.area import Area
from crkd_core.boxes import Truth
from crkd_core.config import ImageConfig
from crkd_core.files import write_bytes
from crkd_core.frame import Frame, PastFrame

#: What a Frame consists of beside arrays, tuples, texts and numbers.
_KINDS = {kind.__name__: kind for kind in (Frame, PastFrame, Truth, Area, ImageConfig)}
#: safetensors' names of the types that occur.
_TYPES = {"BOOL": "?", "U8": "u1", "I64": "<i8", "F32": "<f4", "F64": "<f8"}
#: The key of the metadata that holds the JSON.
_TREE = "tree"


def write_frame(frame: Frame, path: Path) -> None:
    """Write a Frame; it appears under its name when it is whole.

    Raises:
        OSError: it cannot be written.
    """
    arrays: dict[str, NDArray[Any]] = {}
    tree = _tree(frame, arrays)
    write_bytes(save(arrays, metadata={_TREE: json.dumps(tree)}), path)


def map_frame(path: str | os.PathLike[str]) -> Frame | None:
    """The Frame of a file, its arrays not to be written to; None unless it is there and whole.

    Raises:
        OSError: it is there and cannot be read.
    """
    try:
        data = np.memmap(path, np.uint8, "r")
        size = int.from_bytes(data[:8].tobytes(), "little")
        header = json.loads(data[8 : 8 + size].tobytes())
        tree = json.loads(header.pop("__metadata__")[_TREE])
        body = np.asarray(data)[8 + size :]
        arrays = {name: _array(body, **part) for name, part in header.items()}
        frame = _value(tree, arrays)
    except (FileNotFoundError, KeyError, TypeError, ValueError):
        return None
    return frame if isinstance(frame, Frame) else None


def _array(
    body: NDArray[np.uint8], *, dtype: str, shape: list[int], data_offsets: tuple[int, int]
) -> NDArray[Any]:
    return body[slice(*data_offsets)].view(_TYPES[dtype]).reshape(shape)


def _tree(value: Any, arrays: dict[str, NDArray[Any]]) -> Any:
    """``value`` as JSON; its arrays go into ``arrays``, and their names stand in their place."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, np.ndarray):
        name = str(len(arrays))
        arrays[name] = np.ascontiguousarray(value)
        return {"array": name}
    if isinstance(value, tuple):
        return [_tree(part, arrays) for part in value]
    kind = type(value)
    if _KINDS.get(kind.__name__) is not kind:
        raise TypeError(f"a Frame with a {kind.__name__} cannot be kept as a file")
    parts = {f.name: _tree(getattr(value, f.name), arrays) for f in dataclasses.fields(value)}
    return {"kind": kind.__name__, "parts": parts}


def _value(tree: Any, arrays: dict[str, NDArray[Any]]) -> Any:
    """The inverse of ``_tree``."""
    if isinstance(tree, list):
        return tuple(_value(part, arrays) for part in tree)
    if not isinstance(tree, dict):
        return tree
    if "array" in tree:
        return arrays[tree["array"]]
    parts = {name: _value(part, arrays) for name, part in tree["parts"].items()}
    return _KINDS[tree["kind"]](**parts)
