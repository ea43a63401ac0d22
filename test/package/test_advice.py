"""What an error tells to do can be done: every option that a text names is one of some command."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import typer
from rich.text import Text

ROOT = Path(__file__).resolve().parents[2]
#: Those of other programs: git, torchrun, ros2, rcl.
OTHERS = {
    *("--abbrev", "--always", "--dirty", "--nproc-per-node", "--delay", "--help"),
    *("--disable-keyboard-controls", "--ros-args", "--params-file", "--remap"),
}
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]+(?<!-)")
_SETTING = re.compile(r"--set (\w+)=")


def verbs_of(command):
    """The verbs of a typer command, or itself."""
    verbs = getattr(command, "commands", {}).values()
    return [one for verb in verbs for one in verbs_of(verb)] if verbs else [command]


def every_verb():
    from crkd_core.cli import app

    found = verbs_of(typer.main.get_command(app))
    for path in sorted((ROOT / "crkd_ros" / "commands").glob("*.py")):
        module = importlib.import_module(f"crkd_ros.commands.{path.stem}")
        for command in (getattr(module, "app", None), getattr(module, path.stem, None)):
            if isinstance(command, typer.Typer):
                found += verbs_of(typer.main.get_command(command))
            elif callable(command):
                single = typer.Typer(add_completion=False)
                single.command()(command)
                found += verbs_of(typer.main.get_command(single))
    return found


def known_options() -> set[str]:
    params = [one for verb in every_verb() for one in verb.params]
    return {name for one in params for name in (*one.opts, *one.secondary_opts)}


def test_help_shows_all_that_is_written():
    """Words in brackets are markup, which disappears."""
    written = [(verb.name, verb.help or "") for verb in every_verb()]
    written += [
        (f"{verb.name} {one.opts[0]}", getattr(one, "help", None) or "")
        for verb in every_verb()
        for one in verb.params
    ]
    assert len(written) > 150
    wrong = [place for place, text in written if Text.from_markup(text).plain != text]
    assert not wrong, "\n".join(wrong)


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
