"""What launch files do with their arguments, all of which are text. Pure: no launch."""

from __future__ import annotations

import math

_TRUTHS = {"true": True, "1": True, "false": False, "0": False, "": False}


def truth(name: str, text: str) -> bool:
    """What an argument that is true or false says, as launch's own conditions read it.

    Raises:
        RuntimeError: neither; launch stops at it and prints the text.
    """
    if text.strip().lower() not in _TRUTHS:
        raise RuntimeError(f"argument {name}: expected true or false, got {text!r}")
    return _TRUTHS[text.strip().lower()]


def number(name: str, text: str) -> float:
    """What an argument that is a number says.

    Raises:
        RuntimeError: no finite number; launch stops at it and prints the text.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise RuntimeError(f"argument {name}: expected a finite number, got {text!r}")
    return value
