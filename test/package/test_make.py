"""The Makefile's promises, read off `make --dry-run` in a copy of the tree's top."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TARGETS = ("demo", "test", "lint", "bench", "colcon")

if shutil.which("make") is None:
    pytest.skip("make is not installed", allow_module_level=True)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("Makefile", "setup.py", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def dry_run(tree: Path, *arguments: str, ros: str | None = None) -> str:
    environment = {k: v for k, v in os.environ.items() if k not in ("ROS_DISTRO", "MAKEFLAGS")}
    if ros:
        environment["ROS_DISTRO"] = ros
    done = subprocess.run(
        ["make", "--dry-run", *arguments],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_installs_first_and_only_once(tree: Path, target: str) -> None:
    first = dry_run(tree, target)
    assert "-m venv" in first
    torch, project = first.index("constraints.txt torch"), first.index("-e '.[")
    assert torch < project < first.index("--no-deps nuscenes-devkit==1.2.0")
    (tree / ".venv").mkdir()
    (tree / ".venv" / ".installed-wheels").touch()
    again = dry_run(tree, target)
    assert "pip" not in again and "venv " not in again and again.strip()


def test_the_demo_runs_other_weights_by_name_or_by_file(tree: Path) -> None:
    (tree / "weights").mkdir()
    for name in ("weights/demo_student.safetensors", "weights/other.safetensors", "mine.st"):
        (tree / name).touch()
    told = "crkd demo --weights "
    assert told + "weights/demo_student.safetensors\n" in dry_run(tree, "demo")
    engine = dry_run(tree, "demo", "ENGINE=openvino", "PRECISION=bf16")
    assert "--engine openvino --precision bf16 --weights weights/demo_student" in engine
    assert told + "weights/other.safetensors\n" in dry_run(tree, "demo", "WEIGHTS=other")
    assert told + "mine.st\n" in dry_run(tree, "demo", "WEIGHTS=mine.st")
    # What is not there is the command's to refuse, with its name.
    assert told + "absent\n" in dry_run(tree, "demo", "WEIGHTS=absent")


def test_clean_leaves_what_the_user_made(tree: Path) -> None:
    made = (".venv", "build", "install", "log", "crkd_ros.egg-info", "out/demo")
    users = ("out/crkd", "runs/crkd", "worlds/val", "bags/drive")
    for name in (*made, *users):
        (tree / name).mkdir(parents=True)
        (tree / name / "file").touch()
    subprocess.run(["make", "clean"], cwd=tree, capture_output=True, check=True)
    assert [name for name in (*made, *users) if (tree / name / "file").exists()] == [*users]


def test_changed_requirements_install_again(tree: Path) -> None:
    (tree / ".venv").mkdir()
    (tree / ".venv" / ".installed-wheels").touch()
    later = time.time() + 10
    os.utime(tree / "constraints.txt", (later, later))
    assert "-e '.[ros,bags,world,engines,test]'" in dry_run(tree, "lint")


def test_beside_a_sourced_ros_the_wheels_stay_out(tree: Path) -> None:
    (tree / ".venv").mkdir()
    (tree / ".venv" / ".installed-wheels").touch()
    plan = dry_run(tree, "test", ros="jazzy")
    assert "-m venv --system-site-packages" in plan
    assert "-e '.[bags,world,engines,test]' 'numpy<2'" in plan


def test_another_interpreter_can_be_chosen_and_old_ones_are_refused(tree: Path) -> None:
    assert "python3.12 -m venv" in dry_run(tree, "test", "PYTHON=python3.12")
    fake = tree / "python3.9"
    # The real check, run by a Python that says it is older.
    code = "import sys; sys.version_info = (3, 9, 0); $2"
    fake.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}"\n')
    fake.chmod(0o755)
    done = subprocess.run(
        ["make", "install", f"PYTHON={fake}"],
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0 and "Python 3.9; this project needs 3.10 to 3.12" in done.stderr
    assert not (tree / ".venv").exists()
