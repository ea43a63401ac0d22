"""Configuration to plain data (JSON, YAML) and back, with errors that name the key."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import json
import types
import typing
from typing import Any, Literal, TypeVar

from crkd_core.config.checks import ConfigError, shown

T = TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as plain JSON-able data."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_dict(cls: type[T], data: dict[str, Any], *, where: str = "") -> T:
    """The dataclass ``cls`` from plain data; absent keys take their defaults.

    Raises:
        ConfigError: an unknown key (with the nearest known one), a missing key, or a value whose
            type does not fit, each with its dotted path.
    """
    if not isinstance(data, dict):
        name = where.rstrip(".") or cls.__name__
        raise ConfigError(f"{name}: expected a mapping, got {shown(data)}")
    hints = typing.get_type_hints(cls)
    known = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for key in data:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
            raise ConfigError(f"unknown key {where + str(key)!r}; {hint}")
    values = {key: _convert(hints[key], value, where + key) for key, value in data.items()}
    try:
        return cls(**values)
    except TypeError as error:
        raise ConfigError(f"{where.rstrip('.') or cls.__name__}: {error}") from error


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else from_dict(hint, value, where=where + ".")  # type: ignore
    if origin is Literal:
        if value not in args:
            raise ConfigError(
                f"{where}: expected one of {', '.join(map(repr, args))}, got {shown(value)}"
            )
        return value
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in args:
            return None
        return _convert(next(a for a in args if a is not type(None)), value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where}: expected a list, got {shown(value)}")
        inner = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
        if len(inner) != len(value):
            raise ConfigError(f"{where}: expected {len(inner)} values, got {len(value)}")
        return tuple(
            _convert(h, v, f"{where}[{i}]")
            for i, (h, v) in enumerate(zip(inner, value, strict=True))
        )
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: expected a mapping, got {shown(value)}")
        return {str(key): _convert(args[1], v, f"{where}.{key}") for key, v in value.items()}
    if hint is float and isinstance(value, str):
        # YAML reads 1e-3 as a text: it wants 1.0e-3.
        with contextlib.suppress(ValueError):
            return float(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise ConfigError(
                f"{where}: expected a number, got one of hundreds of digits"
            ) from None
    if isinstance(hint, type) and (
        not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool)
    ):
        raise ConfigError(f"{where}: expected {hint.__name__}, got {shown(value)}")
    return value
