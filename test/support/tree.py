"""The tree's own metadata, so that tests see its entry points, whatever pip installed before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def write_metadata(folder: Path) -> Path:
    """An egg-info of the tree in a folder, which then belongs on ``sys.path``; nowhere else."""
    folder.mkdir(parents=True)
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def site_packages() -> list[str]:
    """The folders of installed packages."""
    return [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
