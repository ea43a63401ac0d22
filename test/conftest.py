"""Settings and data that several test files share."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import missing
import pytest

# Every pytest-xdist worker is its own ROS network, and so are two runs at the same time: nodes of
# one test must not hear those of another. 0 to 101 are the domains that Linux's ports allow: any
# socket may have those of higher ones, and a participant whose port is taken is heard by nobody.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_RUN = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
os.environ["ROS_DOMAIN_ID"] = str(1 + (2 * _RUN + _WORKER) % 100)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, None]:
    """Files that need what is not installed are skipped."""
    report = (yield).get_result()
    if (call := getattr(report, "call", None)) is not None:
        missing.forgive(report, call, str(collector.path))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, Any, None]:
    """So are tests and their fixtures."""
    missing.forgive((yield).get_result(), call, str(item.path))


@pytest.fixture(scope="session")
def tiny_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of a synthetic v1.0-mini: scene-0061 and scene-0103, 2 s each, key frames only.

    All ten classes are there, and the sky is clear.
    """
    from crkd_core.world import write_world

    out = tmp_path_factory.mktemp("world") / "tiny_world"
    return write_world(
        out,
        scenes=2,
        seconds=2.0,
        seed=23,
        image_width=160,
        key_frames_only=True,
        mix="balanced",
        weather={"clear": 1.0},
    )


@pytest.fixture(scope="session")
def tiny_drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of a v1.0-mini of one drive, scene-0103, 1.5 s, with all sweeps of all sensors."""
    from crkd_core.world import write_world

    out = tmp_path_factory.mktemp("drive") / "tiny_drive"
    return write_world(
        out,
        scenes=1,
        seconds=1.5,
        seed=12,
        image_width=160,
        mix="balanced",
        weather={"clear": 1.0},
    )


@pytest.fixture(scope="session")
def shared_real() -> Path:
    """Folder of small real recordings, which are in no repository; skips where it is not there."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "real"
    if not folder.is_dir():
        pytest.skip(f"no real recordings in {folder}")
    return folder
