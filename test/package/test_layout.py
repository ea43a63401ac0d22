"""Rules of the house: import floors, no ROS in the core, metadata that colcon needs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import house
import pytest

ROOT = Path(__file__).resolve().parents[2]

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


SOURCES = {name: path.read_text("utf-8") for name, path in house.modules(ROOT).items()}


def test_imports_run_downwards_only() -> None:
    found = house.upward(house.graph(SOURCES))
    assert not found, "\n".join(found)


def test_no_circle_of_files() -> None:
    found = house.circles(house.graph(SOURCES))
    assert not found, "\n".join(" - ".join(circle) for circle in found)


def test_the_rules_notice_what_they_forbid() -> None:
    up = house.graph(
        {
            "crkd_core.data.radar": "from crkd_core.model import lift",
            "crkd_core.model.lift": "",
            "crkd_core.frame": "def f():\n    import crkd_core.data.radar",
            "crkd_ros.sync.history": "from crkd_ros.node.worker import Worker",
            "crkd_ros.node.worker": "import crkd_core.model.lift",
        }
    )
    assert [line.split(" ")[0] for line in house.upward(up)] == [
        "crkd_core.data.radar",
        "crkd_core.frame",
        "crkd_ros.sync.history",
    ]
    assert house.upward(
        {"crkd_core.frame": frozenset({"crkd_ros.frames"}), "crkd_ros.frames": frozenset()}
    )
    ring = {
        "crkd_core.a": "import crkd_core.b",
        "crkd_core.b": "from crkd_core import c",
        "crkd_core.c": "def f():\n    from crkd_core.a import x",
        "crkd_core.d": "import crkd_core.a",
    }
    assert house.circles(house.graph(ring)) == [["crkd_core.a", "crkd_core.b", "crkd_core.c"]]
    assert house.deepest(house.graph({**ring, "crkd_core.c": ""})) == 4


def test_every_module_has_a_floor() -> None:
    lost = house.unplaced(SOURCES)
    assert not lost, f"give these a floor in FLOORS of tools/house.py: {lost}"


def test_the_core_imports_no_ros() -> None:
    found = [
        f"{module} imports {name}"
        for module, source in SOURCES.items()
        for name in house.imported(source)
        if module.startswith("crkd_core") and name.split(".")[0] in FORBIDDEN_IN_CORE
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("package", house.PACKAGES)
def test_every_room_says_what_it_is_for(package: str) -> None:
    for path in sorted((ROOT / package).glob("**/__init__.py")):
        first = (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").split("\n")[0]
        assert first.endswith("."), f"{path.relative_to(ROOT)}: say its purpose in one line"


def test_no_catch_all_names_and_no_registries() -> None:
    names = [name.rpartition(".")[2] for name in SOURCES]
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


#: `detector_node` answers signals as the system does until it is a node.
@pytest.mark.parametrize("name", ["crkd", "evaluator", "nuscenes2bag", "replay"])
def test_a_command_can_answer_an_interrupt_before_it_imports_anything(name: str) -> None:
    code = (
        "import sys; from crkd_core import main\n"
        "def start(*where):\n"
        "    print([m for m in ('numpy', 'typer', 'crkd_ros') if m in sys.modules])\n"
        "main.start = start\n"
    )
    begin = f"import runpy; runpy.run_path({str(ROOT / 'scripts' / name)!r})"
    begin = "main.main()" if name == "crkd" else begin
    done = subprocess.run(
        [sys.executable, "-c", code + begin], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.stdout.strip() == "[]", done.stderr


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
        for module, source in SOURCES.items()
        if "typer" in house.imported(source)
        and not re.match(r"crkd_\w+\.(commands|cli|command|verbs)\b", module)
    ]
    assert not found, f"options belong in commands/: {found}"
