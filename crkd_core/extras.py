"""The optional parts of the installation, as setup.py names them, and what to install for them."""

from __future__ import annotations

import importlib.util
import platform
import sys
from pathlib import Path

#: Extra -> the modules that it brings. Modules and not distributions are looked for: where ROS 2
#: is sourced, rclpy is there without the wheels of the extra.
MODULES = {
    "ros": ("rclpy",),
    "bags": ("rosbags", "mcap"),
    "world": ("trimesh", "embreex"),
    "log": ("tensorboard",),
    "engines": ("onnx", "onnxscript", "onnxruntime", "openvino"),
}


def lacking(extra: str) -> tuple[str, ...]:
    """The modules of an extra that are not installed; none of an extra that is not ours."""
    return tuple(m for m in MODULES.get(extra, ()) if importlib.util.find_spec(m) is None)


def extra_of(module: str) -> str | None:
    """The extra that brings a module, which may be named with its sub-modules."""
    top = module.partition(".")[0]
    return next((extra for extra, modules in MODULES.items() if top in modules), None)


def remedy(extra: str) -> str:
    """What brings an extra, as an imperative, whichever folder it is done in.

    No registry has this package, so packages are named, but for those of ROS 2, of which there are
    many with fixed versions: pip takes them from the package that is installed already.
    """
    if extra == "ros":
        return "source ROS 2, or pip install 'crkd_ros[ros]'"
    return f"pip install {' '.join(MODULES[extra])}"


def absent(error: ModuleNotFoundError) -> str:
    """What is missing, and what to do about it, on one line."""
    name = error.name or ""
    top = name.partition(".")[0]
    found = importlib.util.find_spec(top) if top != name else None
    if found is not None and found.origin:
        # Wheels beside a sourced ROS 2 would make it worse.
        ros = top in MODULES["ros"]
        cure = "take the Python that this ROS 2 was built for" if ros else f"install {top} anew"
        return (
            f"{Path(found.origin).parent} has no {name} for Python {platform.python_version()} of "
            f"{sys.executable}: {cure}"
        )
    if extra := extra_of(top):
        return f"{top} is not installed: {remedy(extra)}"
    text = " ".join(str(error).split())
    return f"ModuleNotFoundError: {text} in {sys.executable}; activate the environment that has it"
