"""What is not installed is a reason to skip a test, not to fail it: `colcon test` has no extras.

A test file, a fixture or a test that needs a package which is named here and is not there is
skipped, and told what brings it. Anything else that cannot be imported fails as ever.
"""

from __future__ import annotations

import importlib.util
from typing import Any

#: Module -> what brings it, for all that setup.py names.
NEEDED = dict.fromkeys(
    (
        *("torch", "numpy", "transformers", "cv2", "simplejpeg", "safetensors", "scipy", "orjson"),
        *("yaml", "typer", "rich", "matplotlib", "typing_extensions"),
    ),
    "pip install . (or activate the environment that has it)",
)
NEEDED |= {
    **dict.fromkeys(("rosbags", "mcap", "google"), "pip install '.[bags]'"),
    **dict.fromkeys(("trimesh", "embreex"), "pip install '.[world]'"),
    **dict.fromkeys(
        (
            *("hypothesis", "pyquaternion", "shapely", "cachetools", "sklearn", "tqdm", "PIL"),
            *("pycocotools", "parameterized", "tensorboard", "setuptools"),
        ),
        "pip install '.[test]'",
    ),
    "rclpy": "source ROS 2, or pip install '.[ros]'",
    "nuscenes": "pip install --no-deps nuscenes-devkit==1.2.0",
}


def reason(error: BaseException | None) -> str | None:
    """Why a test cannot run, if it is for a package that is not installed; else None."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, ModuleNotFoundError) and error.name:
            module = error.name.partition(".")[0]
            if module in NEEDED and importlib.util.find_spec(module) is None:
                return f"{module} is not installed: {NEEDED[module]}"
        error = error.__cause__ or error.__context__
    return None


def forgive(report: Any, call: Any, path: str) -> None:
    """Make a failed report of pytest a skipped one, if a package is missing."""
    if report.failed and call.excinfo is not None:
        text = reason(call.excinfo.value)
        if text is not None:
            report.outcome, report.longrepr = "skipped", (path, 0, f"Skipped: {text}")
