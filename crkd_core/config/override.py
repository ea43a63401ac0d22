"""Single numbers of a configuration, changed: ``--set KEY.KEY=YAML``."""

from __future__ import annotations

from typing import Any

from crkd_core.config.checks import ConfigError
from crkd_core.config.plain import from_dict, to_dict
from crkd_core.config.training import TrainConfig
from crkd_core.config.yaml_text import load_yaml


def override(config: TrainConfig, changes: list[str]) -> TrainConfig:
    """``config`` with KEY.KEY=YAML changes, one after the other.

    A group that may be absent is taken away by null and made of defaults by {}:
    ``detector.radar=null``, ``detector.lidar={}``.

    Raises:
        ConfigError: a change without "=", an unknown key, or a value of the wrong type.
    """
    data = to_dict(config)
    for change in changes:
        path, equals, text = change.partition("=")
        if not equals or not path:
            raise ConfigError(f"--set {change!r}: expected KEY.KEY=VALUE")
        *parents, key = path.split(".")
        inner: Any = data
        for depth, parent in enumerate(parents, 1):
            if inner.get(parent, {}) is None:
                raise ConfigError(
                    f"--set {change!r}: there is no {parent} to change, it is null; "
                    f"{'.'.join(parents[:depth])}={{}} before it makes one of defaults"
                )
            if not isinstance(inner.get(parent), dict):
                raise ConfigError(f"--set {change!r}: {parent!r} is not a group of settings")
            inner = inner[parent]
        try:
            inner[key] = load_yaml(text)
        except ConfigError as error:
            raise ConfigError(
                f"--set {change!r}: {text!r} is not a YAML value: {error}"
            ) from error
    return from_dict(TrainConfig, data)
