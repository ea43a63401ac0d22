"""The verbs of `crkd`: the core's, and those that other packages add.

A package adds a verb by an entry point of the group ``crkd.commands``, its name the verb, its
object a ``typer.Typer`` or a function whose parameters are the options, its extras (those of
extras.py) what the verb cannot do without. It is imported when its verb is called or all are
listed; its module must be quick to import. One that cannot be imported hinders no other.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import metadata
from typing import Any, ClassVar

import typer
from rich.markup import escape
from typer.core import TyperGroup

from crkd_core import extras
from crkd_core.command import explained

GROUP = "crkd.commands"


class VerbError(RuntimeError):
    """A verb of another package that cannot be used; the text says why."""


def registered() -> tuple[dict[str, metadata.EntryPoint], list[str]]:
    """The entry points by verb, and in words what is wrong with those that are left out.

    Of two installations of one distribution the first on ``sys.path`` counts, as for imports.
    """
    found: dict[str, metadata.EntryPoint] = {}
    owners: dict[str, str] = {}
    wrong: list[str] = []
    seen = set[str]()
    for distribution in metadata.distributions():
        # Not metadata.entry_points(): there one unreadable file of anybody's hides all.
        if f"[{GROUP}]" not in (distribution.read_text("entry_points.txt") or ""):
            continue
        owner = distribution.metadata["Name"] or "a package without a name"
        if owner in seen:
            continue
        seen.add(owner)
        try:
            entries = [entry for entry in distribution.entry_points if entry.group == GROUP]
            # Both are read from the text, which may be anything.
            entries = [entry for entry in entries if entry.module and entry.extras is not None]
        except Exception as error:
            wrong.append(f"the commands of {owner} cannot be read: {explained(error)}")
            continue
        for entry in entries:
            if entry.name in owners:
                wrong.append(f"{entry.name} of {owner} is left out: {owners[entry.name]} has one")
                continue
            owners[entry.name] = owner
            found[entry.name] = entry
    return found, wrong


class VerbGroup(TyperGroup):
    """Commands of its own, then those of ``GROUP``; the help ends with what is not installed.

    Attributes:
        needs: of its own commands, name -> extras that it cannot do without.
    """

    needs: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._others: dict[str, metadata.EntryPoint] | None = None
        self._wrong: list[str] = []
        self._loaded: dict[str, Any] = {}

    @property
    def others(self) -> dict[str, metadata.EntryPoint]:
        """The verbs of other packages. They are searched for once, when one is asked for."""
        if self._others is None:
            found, self._wrong = registered()
            for name in sorted(found.keys() & self.commands.keys()):
                self._wrong.append(f"{found.pop(name).value} is left out: crkd has its own {name}")
            self._others = dict(sorted(found.items()))
        return self._others

    def list_commands(self, ctx: Any) -> list[str]:
        """Its own in their order, then those of installed packages in that of the alphabet."""
        others = [name for name, entry in self.others.items() if _is_installed(entry)]
        return [*super().list_commands(ctx), *others]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command; for a verb that cannot be loaded one that says so when it is called."""
        own = super().get_command(ctx, cmd_name)
        if own is not None or cmd_name not in self.others:
            return own
        if cmd_name not in self._loaded:
            self._loaded[cmd_name] = _load(cmd_name, self.others[cmd_name])
        return self._loaded[cmd_name]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As typer's, which knows only its own commands when it suggests one."""
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            near = get_close_matches(name, self.list_commands(ctx))
            meant = f", did you mean {' or '.join(near)}?" if near else ""
            ctx.fail(f"there is no command {name!r}{meant}")
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The commands, then a line for each thing that is missing or wrong."""
        super().format_help(ctx, formatter)
        for note in self.notes():
            formatter.write(f"{note}\n")

    def notes(self) -> list[str]:
        """What is not installed, with the verbs that lack it, and what was left out."""
        needs = dict(self.needs)
        absent: dict[str, list[str]] = {}
        for name, entry in self.others.items():
            if _is_installed(entry):
                needs[name] = tuple(entry.extras)
            else:
                absent.setdefault(_package(entry), []).append(name)
        lines = []
        for extra in extras.MODULES:
            verbs = [name for name, wanted in needs.items() if extra in wanted]
            modules = extras.lacking(extra)
            if verbs and modules:
                lines.append(
                    f"{', '.join(modules)} not installed, for {', '.join(verbs)}: "
                    f"{extras.remedy(extra)}"
                )
        lines += [f"{p} not installed, for {', '.join(names)}" for p, names in absent.items()]
        return lines + self._wrong


def _package(entry: metadata.EntryPoint) -> str:
    return entry.module.partition(".")[0]


def _is_installed(entry: metadata.EntryPoint) -> bool:
    return importlib.util.find_spec(_package(entry)) is not None


def _load(name: str, entry: metadata.EntryPoint) -> Any:
    """The command of an entry point."""
    try:
        found = entry.load()
        if not isinstance(found, typer.Typer):
            if not callable(found):
                raise TypeError(f"expected a typer.Typer or a function, got {found!r}")
            single = typer.Typer(add_completion=False)
            single.command()(found)
            found = single
        command = typer.main.get_command(found)
    # What a stranger's module does when it is imported is anything.
    except (Exception, SystemExit) as error:
        command = _unusable(name, f"{entry.value} cannot be loaded: {explained(error)}")
    command.name = name
    if not getattr(command, "rich_help_panel", None):
        command.rich_help_panel = f"Commands of {_package(entry)}"  # type: ignore[attr-defined]
    return command


def _unusable(name: str, reason: str) -> Any:
    """A command that has its reason for a help and, whatever its arguments, for an error."""
    reason = " ".join(reason.split())
    single = typer.Typer(add_completion=False)

    @single.command(
        help=escape(reason),
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
    def refuse() -> None:
        raise VerbError(f"{name}: {reason}")

    return typer.main.get_command(single)
