"""Launch files loaded with the real launch, or where that is not installed with a stand-in.

The stand-in only notes what was made with which arguments: enough to see what a launch file does
with its arguments, nothing of what launch would do with the result.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
REAL = importlib.util.find_spec("launch_ros") is not None
_MODULES = (
    *("launch", "launch.actions", "launch.event_handlers", "launch.events"),
    *("launch.launch_description_sources", "launch.substitutions"),
    *("launch_ros", "launch_ros.actions", "launch_ros.event_handlers"),
    *("launch_ros.events", "launch_ros.events.lifecycle"),
    *("launch_ros.parameter_descriptions", "launch_ros.substitutions"),
)


class Made:
    """Something of launch: its name and the arguments it was made with."""

    def __init__(self, kind: str, *args: Any, **kwargs: Any) -> None:
        self.kind, self.args, self.kwargs = kind, args, kwargs

    def perform(self, context: Any) -> str:
        """Of a LaunchConfiguration."""
        if "default" in self.kwargs:
            return context.launch_configurations.get(self.args[0], self.kwargs["default"])
        return context.launch_configurations[self.args[0]]


class _Module(types.ModuleType):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []  # Else it could not hold modules.

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return functools.partial(Made, name)


class Context:
    """What a launch file reads of a LaunchContext."""

    def __init__(self, values: dict[str, str]) -> None:
        self.launch_configurations = values


def load(name: str, monkeypatch: Any) -> types.ModuleType:
    """The module of a launch file, over the stand-in where launch is not installed."""
    if not REAL:
        for module in _MODULES:
            monkeypatch.setitem(sys.modules, module, _Module(module))
    spec = importlib.util.spec_from_file_location(name.replace(".", "_"), LAUNCH / name)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded
