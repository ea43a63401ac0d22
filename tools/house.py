"""The structure of the two packages, measured from their imports: rooms, floors, circles, depth.

``python tools/house.py`` prints the table of this checkout, ``--root DIR`` that of another one.
"""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

import typer

PACKAGES = ("crkd_core", "crkd_ros")

#: Imports run to the same or a lower floor of the own package; crkd_ros stands on all of the core.
#: Longest prefix wins.
FLOORS = {
    **dict.fromkeys(
        (
            *("crkd_core.sensors", "crkd_core.geometry", "crkd_core.reach"),
            *("crkd_core.boxes", "crkd_core.frame", "crkd_core.frame_checks"),
            "crkd_core.calibration",
            *("crkd_core.area", "crkd_core.segments"),
            *("crkd_core.files", "crkd_core.tables", "crkd_core.png", "crkd_core.progress"),
            *("crkd_core.colors", "crkd_core.extras", "crkd_core.config", "crkd_core.orphans"),
            *("crkd_ros.convert", "crkd_ros.motion", "crkd_ros.parameters", "crkd_ros.shipped"),
            "crkd_ros.signals",
        ),
        1,
    ),
    **dict.fromkeys(
        (
            *("crkd_core.data", "crkd_core.world", "crkd_core.presets"),
            *("crkd_ros.sync", "crkd_ros.sensors", "crkd_ros.frames", "crkd_ros.reporter"),
        ),
        2,
    ),
    **dict.fromkeys(
        (
            *("crkd_core.model", "crkd_core.losses", "crkd_core.official"),
            *("crkd_ros.bags", "crkd_ros.calibration_check"),
        ),
        3,
    ),
    **dict.fromkeys(
        (
            *("crkd_core.train", "crkd_core.distill", "crkd_core.evaluate", "crkd_core.infer"),
            *("crkd_core.census", "crkd_ros.node"),
        ),
        4,
    ),
    **dict.fromkeys(
        (
            *("crkd_core.experiments", "crkd_core.commands", "crkd_core.cli", "crkd_core.main"),
            *("crkd_core.command", "crkd_core.verbs", "crkd_core.report"),
            *("crkd_ros.streaming_eval", "crkd_ros.bench", "crkd_ros.commands"),
        ),
        5,
    ),
}

Graph = Mapping[str, frozenset[str]]


def modules(root: Path) -> dict[str, Path]:
    """Dotted name -> file of every module of the two packages under ``root``."""
    paths = sorted(path for package in PACKAGES for path in root.glob(f"{package}/**/*.py"))
    return {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for path in paths
    }


def imported(source: str) -> set[str]:
    """What a file imports, inside functions too; ``from a import b`` gives a and a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level or not node.module:
                raise ValueError(f"relative import of {node.module}: write it out")
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def graph(sources: Mapping[str, str]) -> Graph:
    """Module -> the modules among ``sources`` (name -> text) that it imports.

    ``from room import module`` is an import of the module, not of the room's own file.
    """
    edges: dict[str, frozenset[str]] = {}
    for name, source in sources.items():
        found: set[str] = set()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                inside = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= {one if one in sources else node.module for one in inside}
        edges[name] = frozenset(found & set(sources) - {name})
    return edges


def floor(module: str) -> int | None:
    """The floor of a module, by its longest known prefix; None = it has none."""
    while module:
        if module in FLOORS:
            return FLOORS[module]
        module = module.rpartition(".")[0]
    return None


def upward(edges: Graph) -> list[str]:
    """Imports to a higher floor of the same package, and of crkd_ros by the core."""
    found = []
    for module, targets in sorted(edges.items()):
        for target in sorted(targets):
            if module.startswith("crkd_core") and target.startswith("crkd_ros"):
                found.append(f"{module} imports {target}: the core knows no ROS")
            elif module.split(".")[0] == target.split(".")[0]:
                own, other = floor(module), floor(target)
                if own is not None and other is not None and other > own:
                    found.append(f"{module} (floor {own}) imports {target} (floor {other})")
    return found


def circles(edges: Graph) -> list[list[str]]:
    """Every group of files that import each other, directly or on a way around."""
    rest, found = dict(edges), []
    while True:
        try:
            graphlib.TopologicalSorter(rest).prepare()
        except graphlib.CycleError as error:
            circle = sorted(set(error.args[1]))
            found.append(circle)
            # Cut where the circle closes and look for the next.
            first, second = error.args[1][1], error.args[1][0]
            rest[first] = rest[first] - {second}
            continue
        return found


def deepest(edges: Graph) -> int:
    """Files on the longest chain of imports, circles cut open."""
    depth: dict[str, int] = {}

    def of(module: str, above: frozenset[str]) -> int:
        if module not in depth:
            below = [of(t, above | {module}) for t in edges[module] if t not in above]
            depth[module] = 1 + max(below, default=0)
        return depth[module]

    return max(of(module, frozenset()) for module in edges)


def rooms(files: Mapping[str, Path]) -> dict[str, tuple[int, int]]:
    """Room (package and its first folder) -> files and lines."""
    found: dict[str, tuple[int, int]] = {}
    for name, path in files.items():
        parts = name.split(".")
        inside = len(parts) > 2 or path.name == "__init__.py"
        room = "/".join(parts[:2]) if inside and len(parts) > 1 else f"{parts[0]} (flat)"
        count, lines = found.get(room, (0, 0))
        found[room] = count + 1, lines + len(path.read_text(encoding="utf-8").splitlines())
    return found


def commands(root: Path) -> list[str]:
    """Names that `pip install` puts on the PATH."""
    text = (root / "setup.py").read_text(encoding="utf-8")
    (scripts,) = re.findall(r'"console_scripts": \[(.*?)\]', text, flags=re.DOTALL)
    return re.findall(r'"([\w-]+) = [\w.]+:\w+"', scripts)


def show(
    root: Annotated[Path, typer.Option(help="Checkout to look at.")] = Path(
        __file__
    ).parent.parent,
) -> None:
    """Print rooms, circles, upward imports, depth and commands of a checkout."""
    files = modules(root)
    edges = graph({name: path.read_text(encoding="utf-8") for name, path in files.items()})
    print("| room | files | lines |\n| --- | ---: | ---: |")
    for room, (count, lines) in sorted(rooms(files).items()):
        print(f"| {room} | {count} | {lines} |")
    for package in PACKAGES:
        part = _part(edges, package)
        print(
            f"\n{package}: {len(part)} files, {sum(map(len, part.values()))} imports between "
            f"them, longest chain {deepest(part)} files"
        )
    found = circles(edges)
    print(f"\ncircles: {len(found)}", *("  " + " - ".join(circle) for circle in found), sep="\n")
    up = upward(edges)
    print(f"\nimports upward: {len(up)}", *("  " + line for line in up), sep="\n")
    names = commands(root)
    print(f"\ncommands on the PATH: {len(names)} ({', '.join(names)})")


def _part(edges: Graph, package: str) -> Graph:
    own = {name for name in edges if name.split(".")[0] == package}
    return {name: edges[name] & own for name in own}


def unplaced(names: Iterable[str]) -> list[str]:
    """Modules without a floor; the packages' own files gather names and need none."""
    return [name for name in names if floor(name) is None and name not in PACKAGES]


if __name__ == "__main__":
    typer.run(show)
