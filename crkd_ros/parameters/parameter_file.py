"""ROS parameter files without ROS: replay follows the node's, and the shipped one is made here."""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from crkd_core.config import ConfigError
from crkd_core.config.yaml_text import load_yaml
from crkd_core.files import read_file
from crkd_ros.parameters.configuration import build, foreign
from crkd_ros.parameters.knobs import YAML_BOOLEANS, ParameterError, class_of, parameters

Config = TypeVar("Config")

#: What stands for names in the path of a node: any number of them, or one.
_WILD = {"**": "(/[^/]+)*", "*": "/[^/]+"}


def load(path: Path, kind: type[Config], *, node: str) -> Config:
    """The parameters that a file gives to a node, as a configuration dataclass.

    Sections are read as rcl reads them: those of the node's own path, nested or not, and of wild
    cards (``/**``, ``/*``), a later one wins.

    Args:
        path: the YAML file.
        kind: the dataclass.
        node: the node's name.

    Raises:
        ParameterError: no parameter file, or an unknown or wrong parameter; names the file.
    """
    return load_all([path], kind, node=node)


def load_all(
    paths: Sequence[Path],
    kind: type[Config],
    *,
    node: str,
    above: Mapping[str, str] | None = None,
) -> Config:
    """The parameters of several files, of which a later one wins, and of a command line.

    Args:
        paths: the YAML files.
        kind: the dataclass.
        node: the node's name.
        above: what ``-p NAME:=VALUE`` would say, name -> text of the value in YAML.

    Raises:
        ParameterError: see ``load``; names the file or the parameter.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for path in paths:
        found = given(path, node=node)
        if not found:
            raise ParameterError(
                f"{path}: no parameters for {node}; expected a section /** or {node} with "
                "ros__parameters, as in config/detector.yaml"
            )
        values |= found
        sources |= dict.fromkeys(found, str(path))
    for name, text in (above or {}).items():
        try:
            values[name] = load_yaml(text, loader=_Loader)
        except ConfigError as error:
            raise ParameterError(f"parameter {name}={text}: {error}") from error
        sources[name] = f"parameter {name}={text}"
    values = {name: value for name, value in values.items() if not foreign(name)}
    classes = [one for name in values if (one := class_of(kind, name)) is not None]
    for parameter in parameters(kind, classes=classes, given=values):
        if parameter.name in values and not _fits(values[parameter.name], parameter.kind):
            raise ParameterError(
                f"{sources[parameter.name]}: {parameter.name}: {values[parameter.name]!r} is of "
                f"another type than the default {parameter.default!r}"
            )
    try:
        return build(kind, values)
    except ParameterError as error:
        where = ", ".join(dict.fromkeys(sources.values()))
        raise ParameterError(f"{where}: {error}") from error


def given(path: Path, *, node: str, namespace: str = "") -> dict[str, Any]:
    """What a file says to a node, dotted name -> value as YAML has it; nothing is checked.

    Args:
        path: the YAML file.
        node: the node's name.
        namespace: of the node; its sections are read too.

    Raises:
        ParameterError: no parameter file; names the file.
    """
    try:
        content = load_yaml(read_file(path), loader=_Loader)
    except OSError as error:
        raise ParameterError(f"{path}: cannot read parameters: {error.strerror}") from error
    except ConfigError as error:
        raise ParameterError(f"{path}: cannot read parameters: {error}") from error
    values: dict[str, Any] = {}
    full = "/" + f"{namespace.strip('/')}/{node}".strip("/")
    for name, section in _sections(content if isinstance(content, dict) else {}):
        words = name.strip("/").split("/")
        if re.fullmatch("".join(_WILD.get(one) or f"/{re.escape(one)}" for one in words), full):
            found = section.get("ros__parameters") if isinstance(section, dict) else None
            if not isinstance(found, dict):
                raise ParameterError(f"{path}: {name}: expected ros__parameters with a mapping")
            values |= dict(_leaves(found))
    return values


def as_yaml(kind: type) -> str:
    """The parameter file with every parameter, its description and its default.

    What each class of the weights has is shown as a comment.
    """
    lines = ["/**:", "  ros__parameters:"]
    opened: list[str] = []
    for parameter in parameters(kind, classes=["<class>"]):
        *groups, leaf = parameter.name.split(".")
        # A group without a value would be no group for YAML.
        hidden = "# " if parameter.of_class else ""
        for depth, group in enumerate(groups):
            if opened[: depth + 1] != groups[: depth + 1]:
                lines.append(f"{'  ' * (depth + 2)}{hidden}{group}:")
        opened = groups
        indent = "  " * (len(groups) + 2)
        default = parameter.default
        limits = "" if parameter.low is None else f" [{parameter.low}, {parameter.high}]"
        change = "; may change while running" if parameter.dynamic else ""
        lines.append(f"{indent}# {parameter.description}{limits}{change}")
        lines.append(f"{indent}{hidden}{leaf}: {_written(default)}")
    return "\n".join(lines) + "\n"


def _written(value: Any) -> str:
    """A value in one line. Texts are quoted: rcl takes more of them for other things than YAML."""
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, tuple):
        return f"[{', '.join(map(_written, value))}]"
    return str(yaml.safe_dump(value)).splitlines()[0]


class _Loader(yaml.SafeLoader):
    """YAML as rcl reads it: y and n without quotes are booleans, too."""

    bool_values: typing.ClassVar = {
        word.lower(): is_true for word, is_true in YAML_BOOLEANS.items()
    }


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^[yYnN]$"), list("yYnN"))


def _sections(content: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """The path of every node of a file, whose namespaces may be nested, and what is said to it."""
    for name, section in content.items():
        inner = f"{path}/{str(name).strip('/')}"
        deeper = isinstance(section, dict) and "ros__parameters" not in section
        if deeper and any(isinstance(one, dict) for one in section.values()):
            yield from _sections(section, inner)
        else:
            yield inner, section


def _leaves(section: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in section.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _fits(value: Any, kind: Any) -> bool:
    """Whether a YAML value is of a parameter's type, by the rules of rcl: 1 is no double."""
    if typing.get_origin(kind) is tuple:
        return isinstance(value, list) and all(
            _fits(item, typing.get_args(kind)[0]) for item in value
        )
    plain = str if typing.get_origin(kind) is typing.Literal else kind
    return type(value) is plain
