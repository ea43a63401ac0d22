"""What an error tells to do can be done: every option that a text names is one of some command."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import typer

ROOT = Path(__file__).resolve().parents[2]
#: Those of other programs: git, torchrun, ros2, rcl.
OTHERS = {
    *("--abbrev", "--always", "--dirty", "--nproc-per-node", "--delay", "--help"),
    *("--disable-keyboard-controls", "--ros-args", "--params-file", "--remap"),
}
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]+(?<!-)")
_SETTING = re.compile(r"--set (\w+)=")


def options_of(command) -> set[str]:
    """The options of a typer command, of all its verbs."""
    found = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    for verb in getattr(command, "commands", {}).values():
        found |= options_of(verb)
    return found


def known_options() -> set[str]:
    from crkd_core.cli import app

    found = options_of(typer.main.get_command(app))
    for path in sorted((ROOT / "crkd_ros" / "commands").glob("*.py")):
        module = importlib.import_module(f"crkd_ros.commands.{path.stem}")
        for command in (getattr(module, "app", None), getattr(module, path.stem, None)):
            if isinstance(command, typer.Typer):
                found |= options_of(typer.main.get_command(command))
            elif callable(command):
                single = typer.Typer(add_completion=False)
                single.command()(command)
                found |= options_of(typer.main.get_command(single))
    return found


def texts():
    """Every text in the packages, with its place."""
    for package in ("crkd_core", "crkd_ros"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node.value


def test_options_that_are_named_exist():
    known = known_options() | OTHERS
    assert "--overwrite" in known and "--image-format" in known
    wrong = [
        f"{place}: {option}"
        for place, text in texts()
        for option in _OPTION.findall(text)
        if option not in known
    ]
    assert not wrong


def test_settings_that_are_named_exist():
    from crkd_core.presets import preset

    config = preset("demo_student")
    wrong = [
        f"{place}: {name}"
        for place, text in texts()
        for name in _SETTING.findall(text)
        if not hasattr(config, name)
    ]
    assert not wrong
