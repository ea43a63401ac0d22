"""Rules of the house: import floors, no ROS in the core, metadata that colcon needs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

#: Imports run downwards only (docs: floors). Longest prefix wins.
FLOORS = {
    "crkd_core.files": 1,
    "crkd_core.geometry": 1,
    "crkd_core.png": 1,
    "crkd_core.progress": 1,
    "crkd_core.tables": 1,
    "crkd_core.sensors": 1,
    "crkd_core.boxes": 1,
    "crkd_core.colors": 1,
    "crkd_core.frame": 1,
    "crkd_core.config": 1,
    "crkd_core.extras": 1,
    "crkd_core.presets": 2,
    "crkd_core.data": 2,
    "crkd_core.world": 2,
    "crkd_core.model": 3,
    "crkd_core.losses": 3,
    "crkd_core.official": 3,
    "crkd_core.infer": 4,
    "crkd_core.train": 4,
    "crkd_core.evaluate": 4,
    "crkd_core.distill": 4,
    "crkd_core.census": 4,
    "crkd_core.cli": 5,
    "crkd_core.command": 5,
    "crkd_core.commands": 5,
    "crkd_core.verbs": 5,
    "crkd_ros": 5,
}
#: What the core never imports, whichever floor.
ROS_AND_DEVKIT = (
    "rclpy",
    "rosbags",
    "nuscenes",
    "crkd_ros",
    "sensor_msgs",
    "geometry_msgs",
    "nav_msgs",
    "std_msgs",
    "visualization_msgs",
    "vision_msgs",
    "tf2_ros",
    "cv_bridge",
    "message_filters",
)
#: transformers imports these where they are installed, so only our own imports are looked at.
FORBIDDEN_IN_CORE = (*ROS_AND_DEVKIT, "torchvision", "timm", "mmcv")


def modules() -> list[tuple[str, Path]]:
    paths = sorted([*ROOT.glob("crkd_core/**/*.py"), *ROOT.glob("crkd_ros/**/*.py")])
    return [
        (".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path)
        for path in paths
    ]


def floor(module: str) -> int | None:
    while module:
        if module in FLOORS:
            return FLOORS[module]
        module = module.rpartition(".")[0]
    return None


def imports(source: str) -> set[str]:
    """What a file imports, inside functions too; ``from a import b`` gives a and a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import of {node.module}: write it out"
            assert node.module
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def violations(module: str, source: str) -> list[str]:
    own = floor(module)
    if own is None:  # the packages' own __init__ gather names
        return []
    found = [name for name in sorted(imports(source)) if (floor(name) or 0) > own]
    if module.startswith("crkd_core"):
        found += [
            name for name in sorted(imports(source)) if name.split(".")[0] in FORBIDDEN_IN_CORE
        ]
    return [f"{module} (floor {own}) imports {name}" for name in found]


def test_imports_run_downwards_only() -> None:
    found = [v for module, path in modules() for v in violations(module, path.read_text())]
    assert not found, "\n".join(found)


def test_the_import_rule_notices_what_it_forbids() -> None:
    assert violations("crkd_core.data.radar", "from crkd_core.model import lift")
    assert violations("crkd_core.frame", "def f():\n    import crkd_core.data.radar")
    assert violations("crkd_core.infer.detector", "import rclpy.node")
    assert not violations("crkd_core.infer.detector", "from crkd_core.model import build")


def test_every_module_has_a_floor() -> None:
    gathering = {"crkd_core"}
    lost = [m for m, _ in modules() if floor(m) is None and m not in gathering]
    assert not lost, f"give these a floor in FLOORS: {lost}"


def test_no_catch_all_names_and_no_registries() -> None:
    names = [path.stem for _, path in modules()]
    assert not {"utils", "util", "misc", "helpers", "common"} & set(names)


def test_importing_the_core_imports_no_ros_and_not_the_devkit() -> None:
    code = (
        "import sys, pkgutil, importlib, crkd_core\n"
        "for m in pkgutil.walk_packages(crkd_core.__path__, 'crkd_core.'):\n"
        "    importlib.import_module(m.name) if '__main__' not in m.name else None\n"
        f"bad = [m for m in {ROS_AND_DEVKIT!r} if m in sys.modules]\n"
        "print(','.join(bad))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def test_frame_and_geometry_start_without_torch() -> None:
    code = "import crkd_core, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "False", done.stderr


def test_metadata_is_where_colcon_reads_it() -> None:
    root = ElementTree.parse(ROOT / "package.xml").getroot()
    assert root.get("format") == "3"
    assert root.findtext("name") == "crkd_ros"
    assert re.fullmatch(r"\d+\.\d+\.\d+", root.findtext("version") or "")
    maintainer = root.find("maintainer")
    # A one-letter top-level domain makes colcon treat the package as plain Python.
    assert maintainer is not None
    assert re.fullmatch(r"[\w.+-]+@[\w.-]+\.\w{2,}", maintainer.get("email") or "")
    assert root.findtext("license") == "Apache-2.0"
    assert root.findtext("export/build_type") == "ament_python"
    assert "[project]" not in (ROOT / "pyproject.toml").read_text()
    assert "$base/lib/crkd_ros" in (ROOT / "setup.cfg").read_text()


def test_one_version_everywhere() -> None:
    import crkd_core

    setup = (ROOT / "setup.py").read_text()
    version = ElementTree.parse(ROOT / "package.xml").getroot().findtext("version")
    assert f'version="{version}"' in setup
    assert crkd_core.__version__ == version


@pytest.mark.parametrize("path", ["Makefile", "constraints.txt", "setup.py"])
def test_one_torch(path: str) -> None:
    text = (ROOT / path).read_text()
    if path == "constraints.txt":
        assert "torch==2.13.0" in text.splitlines()
    assert "torchvision" not in text


def test_only_commands_know_the_command_line() -> None:
    found = [
        module
        for module, path in modules()
        if "typer" in imports(path.read_text())
        and not re.match(r"crkd_\w+\.(commands|cli|command|verbs)\b", module)
    ]
    assert not found, f"options belong in commands/: {found}"
