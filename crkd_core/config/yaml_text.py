"""YAML of people and of damaged disks: read where it is plain data of a plain size."""

from __future__ import annotations

from typing import Any

import yaml

from crkd_core.config.checks import ConfigError

#: A file of parameters or of a calibration has some hundred values.
_LARGEST = 1 << 20
_VALUES = 100_000


def load_yaml(text: str | bytes, *, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """The data of one YAML document.

    Args:
        text: the document.
        loader: who says what plain words mean.

    Raises:
        ConfigError: it is no YAML, is nested without end, grows by aliases beyond any file that
            somebody would write, or says something twice; on one line.
    """
    if len(text) > _LARGEST:
        raise ConfigError(f"expected at most {_LARGEST} bytes of YAML, got {len(text)}")
    try:
        reader = loader(text)
        try:
            node = reader.get_single_node()
            if node is None:
                return None
            # Before anything is made of it: aliases of aliases are a few lines, and gigabytes.
            if _size(node, {}) > _VALUES:
                raise ConfigError(f"expected at most {_VALUES} values, with aliases written out")
            return reader.construct_document(node)
        finally:
            reader.dispose()
    except RecursionError:
        raise ConfigError("expected YAML, got brackets in brackets without end") from None
    except (yaml.YAMLError, ValueError, OverflowError, TypeError, AttributeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"expected YAML, got: {' '.join(str(error).split())}") from error


def _size(node: Any, known: dict[int, int]) -> int:
    """Values in a node with aliases written out; raises ConfigError where it holds itself."""
    if id(node) in known:
        if known[id(node)] == 0:
            raise ConfigError("expected YAML of a plain tree, got a value that holds itself")
        return known[id(node)]
    known[id(node)] = 0
    children: list[Any] = []
    if isinstance(node, yaml.SequenceNode):
        children = node.value
    elif isinstance(node, yaml.MappingNode):
        _check_keys(node)
        children = [part for pair in node.value for part in pair]
    known[id(node)] = 1 + sum(_size(child, known) for child in children)
    return known[id(node)]


def _check_keys(node: yaml.MappingNode) -> None:
    """Refuse a key that stands twice: YAML's readers take the last one without a word."""
    lines: dict[str, int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.value == "<<":
            continue
        line = key.start_mark.line + 1
        if key.value in lines:
            raise ConfigError(
                f"expected every key once, got {key.value!r} in lines {lines[key.value]} and "
                f"{line}"
            )
        lines[key.value] = line
