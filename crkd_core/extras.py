"""The optional parts of the installation, as setup.py names them, and what to install for them."""

from __future__ import annotations

import importlib.util
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


def folder_of(package: str) -> str | None:
    """Where a package is installed; None where it is not."""
    found = importlib.util.find_spec(package)
    return str(Path(found.origin).parent) if found is not None and found.origin else None


def remedy(extra: str) -> str:
    """What brings an extra, as an imperative, whichever folder it is done in.

    No registry has this package, so packages are named, but for those of ROS 2, of which there are
    many with fixed versions: pip takes them from the package that is installed already.
    """
    if extra == "ros":
        return "source ROS 2, or pip install 'crkd_ros[ros]'"
    return f"pip install {' '.join(MODULES[extra])}"


def cure(package: str) -> str:
    """What to do about an installed package that lacks a part of its own, as an imperative."""
    if package in MODULES["ros"]:
        # Wheels beside a sourced ROS 2 would make it worse.
        return "take the Python that this ROS 2 was built for"
    return f"install {package} anew"
