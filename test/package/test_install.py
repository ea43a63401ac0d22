"""What pip puts where: one command on the PATH, the executables of ROS 2 in lib/crkd_ros."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import tree

ROOT = tree.ROOT
EXECUTABLES = {path.name for path in (ROOT / "scripts").iterdir()}


def run(*words: object) -> None:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def prefix(tmp_path_factory) -> Path:
    """A virtual environment with a wheel of the tree, without what it needs.

    Never ``pip install --prefix``: pip then uninstalls the project from the environment of the
    tests themselves.
    """
    pytest.importorskip("setuptools")
    pytest.importorskip("pip")
    place = tmp_path_factory.mktemp("install")
    # Building leaves folders behind, so not in the tree itself.
    parts = ["crkd_core", "crkd_ros", "scripts", "launch", "config", "resource", "rviz"]
    for name in [*parts, "foxglove"]:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, place / "tree" / name, ignore=ignored)
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "package.xml", "README.md"):
        shutil.copy(ROOT / name, place / "tree" / name)
    pip = (sys.executable, "-m", "pip", "-q", "--disable-pip-version-check")
    options = ("--no-deps", "--no-index", "--no-build-isolation")
    run(*pip, "wheel", *options, "-w", place / "wheels", place / "tree")
    (wheel,) = (place / "wheels").iterdir()
    run(sys.executable, "-m", "venv", "--without-pip", place / "venv")
    python = place / "venv" / "bin" / "python"
    run(*pip, "--python", python, "install", "--no-deps", "--no-index", wheel)
    return place / "venv"


def test_only_crkd_is_on_the_path(prefix):
    names = {path.name for path in (prefix / "bin").iterdir()}
    assert {n for n in names if not n.lower().startswith(("python", "activate"))} == {"crkd"}


def test_executables_of_ros_lie_where_ros_looks(prefix):
    folder = prefix / "lib" / "crkd_ros"
    assert {path.name for path in folder.iterdir()} == EXECUTABLES
    assert {"detector_node", "evaluator", "nuscenes2bag", "replay"} <= EXECUTABLES
    for path in folder.iterdir():
        assert path.stat().st_mode & stat.S_IXUSR, path
        # In an active environment its Python runs them; pip writes none into these files.
        assert path.read_text().startswith("#!/usr/bin/env python3\n")
    packages = next((prefix / "lib").glob("python*/site-packages"))
    environment = {
        **os.environ,
        "PYTHONPATH": str(packages),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    for name in sorted(EXECUTABLES):
        done = subprocess.run(
            [folder / name, "--help"], env=environment, cwd=prefix, capture_output=True, text=True
        )
        assert done.returncode == 0 and f"Usage: {name}" in done.stdout, done.stderr


def test_where_no_environment_is_active_every_executable_says_so(prefix):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment["PATH"] = f"{prefix / 'bin'}{os.pathsep}{environment['PATH']}"
    folder = prefix / "lib" / "crkd_ros"
    for path in (prefix / "bin" / "crkd", *(folder / name for name in sorted(EXECUTABLES))):
        done = subprocess.run([path, "--help"], env=environment, capture_output=True, text=True)
        text = f" in {prefix / 'bin' / 'python'}"
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("error: ModuleNotFoundError: No module named '")
        assert text in done.stderr and done.stderr.count("\n") == 1
        assert done.stderr.endswith("; activate the environment that has it\n")


def test_scripts_of_the_tree_can_be_executed():
    """`colcon build --symlink-install` links to them, so their own mode counts."""
    for name in EXECUTABLES:
        path = ROOT / "scripts" / name
        assert path.stat().st_mode & stat.S_IXUSR, path
