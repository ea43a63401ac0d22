"""Build this tree with colcon and look whether ros2 run and ros2 launch would find it.

Run by `make colcon`. Needs colcon from PyPI, no ROS 2. Builds plain and with --symlink-install
into a temporary folder, so the tree stays clean. Exit code 1 and one line for each thing missing.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "crkd_ros"
#: As README.md says it: by the Python that has torch, whatever the PATH has.
COLCON = (sys.executable, "-m", "colcon")
#: What `ros2 run` finds, and nothing else: the files of scripts/, and the entry point.
EXECUTABLES = {"crkd", *(path.name for path in (ROOT / "scripts").iterdir())}


class ColconError(RuntimeError):
    """colcon failed, or something is not where ROS 2 looks."""


def run(command: list[str], *, cwd: Path, env: dict[str, str] | None = None) -> str:
    """The standard output of a command; its whole output in the error if it fails."""
    done = subprocess.run(command, cwd=cwd, env=env, text=True, capture_output=True, check=False)
    if done.returncode:
        raise ColconError(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def expected_shares() -> list[str]:
    """Files that must land below share/, from what the tree holds."""
    found = [
        f"{PACKAGE}/{path.relative_to(ROOT).as_posix()}"
        for pattern in (
            *("launch/*.launch.py", "config/*", "rviz/*.rviz", "foxglove/*.json"),
            "weights/*.safetensors",
        )
        for path in sorted(ROOT.glob(pattern))
        if path.is_file()
    ]
    marker = f"ament_index/resource_index/packages/{PACKAGE}"
    return [marker, f"{PACKAGE}/package.xml", *found]


def check(install: Path, work: Path) -> int:
    """How many things were found; raises with all that were not."""
    prefix = install / PACKAGE
    executables = prefix / "lib" / PACKAGE
    wanted = [executables / name for name in sorted(EXECUTABLES)]
    wanted += [prefix / "share" / name for name in expected_shares()]
    missing = [str(path.relative_to(install)) for path in wanted if not path.is_file()]
    if missing:
        raise ColconError("not installed where ROS 2 looks: " + ", ".join(missing))
    found = {path.name for path in executables.iterdir() if path.suffix != ".pyc"}
    if found != EXECUTABLES or (prefix / "bin").exists():
        raise ColconError(f"expected the executables {sorted(EXECUTABLES)} and no bin/: {found}")
    # A sourced workspace must import its own copy, not the checkout that pip installed editable.
    setup = f". {install}/setup.sh && "
    clean = {k: v for k, v in os.environ.items() if k not in ("AMENT_PREFIX_PATH", "PYTHONPATH")}
    code = (
        "import crkd_core; from importlib import resources; "
        "assert resources.files('crkd_core.data.nuscenes').joinpath('splits.json').is_file(); "
        "print(crkd_core.__file__)"
    )
    where = run(["sh", "-c", f'{setup}"{sys.executable}" -c "{code}"'], cwd=work, env=clean)
    if not Path(where.strip()).is_relative_to(install.parent):
        raise ColconError(f"the sourced workspace imports crkd_core from {where.strip()}")
    prefixes = run(["sh", "-c", setup + "echo $AMENT_PREFIX_PATH"], cwd=work, env=clean)
    if str(prefix) not in prefixes:
        raise ColconError(f"AMENT_PREFIX_PATH is {prefixes.strip()!r}, without {prefix}")
    for name in sorted(EXECUTABLES):
        check_starts(executables / name, setup=setup, work=work, env=clean)
    listed = run(["sh", "-c", f"{setup}{executables}/crkd --help"], cwd=work, env=clean)
    if not all(f" {verb} " in listed for verb in ("train", "bag", "replay", "node")):
        raise ColconError(f"crkd of the workspace has not all its verbs:\n{listed}")
    return len(wanted)


def check_starts(executable: Path, *, setup: str, work: Path, env: dict[str, str]) -> None:
    """It can be executed, and by the Python that is active then; colcon's may be another one.

    The active one is known by what it prints first.
    """
    active = work / "active"
    active.mkdir(exist_ok=True)
    python = active / "python3"
    python.write_text(f'#!/bin/sh\necho the active Python\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    env = {**env, "PATH": f"{active}{os.pathsep}{env['PATH']}"}
    shown = run(["sh", "-c", f"{setup}{executable} --help"], cwd=work, env=env)
    if not shown.startswith("the active Python") or "Usage:" not in shown:
        raise ColconError(f"{executable} --help printed:\n{shown}")


def tests_run(work: Path, name: str) -> int:
    """How many tests `colcon test` runs: zero means that it fell back to unittest."""
    paths = ["--build-base", f"{name}/build", "--install-base", f"{name}/install"]
    arguments = ["--pytest-args", "test/package/test_layout.py", "-p", "no:cacheprovider"]
    command = [*COLCON, "--log-base", f"{name}/log", "test", "--paths", str(ROOT), *paths]
    run([*command, "--event-handlers", "console_direct-", *arguments], cwd=work)
    result = run(
        [*COLCON, "--log-base", f"{name}/log", "test-result", "--test-result-base", name],
        cwd=work,
    )
    count = re.search(r"(\d+) tests?, 0 errors?, 0 failures?", result)
    if count is None or int(count[1]) == 0:
        raise ColconError(f"colcon test ran no test, or one failed: {result}")
    return int(count[1])


def main() -> None:
    """Both kinds of build, one line each."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory(prefix="crkd_colcon_") as folder:
        work = Path(folder).resolve()
        for name, options in (("plain", []), ("symlink", ["--symlink-install"])):
            paths = ["--build-base", f"{name}/build", "--install-base", f"{name}/install"]
            command = [*COLCON, "--log-base", f"{name}/log", "build", "--paths", str(ROOT)]
            run([*command, *paths, *options], cwd=work)
            count = check(work / name / "install", work)
            tests = tests_run(work, name)
            print(f"colcon build ({name}): {count} files in place, {tests} tests found and passed")


if __name__ == "__main__":
    try:
        main()
    except ColconError as error:
        sys.exit(f"colcon check failed: {error}")
