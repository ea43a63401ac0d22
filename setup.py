"""All package metadata. pyproject.toml holds tool settings only (docs/decisions)."""

import re
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.develop import develop
from setuptools.command.install_scripts import install_scripts

NAME = "crkd_ros"
# `colcon build --symlink-install` runs a link to this file in its build folder.
HERE = Path(__file__).resolve().parent


def files(pattern):
    """Files of the source tree, as data_files wants them: relative, sorted."""
    return [path.as_posix() for path in sorted(Path().glob(pattern)) if path.is_file()]


class ActivePython:
    """Scripts that colcon installs start the Python that is active then, as those of scripts/ do.

    colcon's own Python, which setuptools would write into them, is the system's, without torch.
    """

    def write_script(self, script_name, contents, *arguments):
        """Write a script with another first line."""
        contents = re.sub(r"\A#!.*", "#!/usr/bin/env python3", contents)
        super().write_script(script_name, contents, *arguments)


class Develop(ActivePython, develop):
    """`colcon build --symlink-install`."""


class InstallScripts(ActivePython, install_scripts):
    """`colcon build`; pip writes its scripts itself."""


EXTRAS = {
    # The real rclpy and messages from PyPI. Never beside a sourced ROS 2.
    "ros": [
        "ros-rclpy[fastrtps]==7.1.6",
        "ros-std-msgs==5.3.6",
        "ros-sensor-msgs==5.3.6",
        "ros-geometry-msgs==5.3.6",
        "ros-nav-msgs==5.3.6",
        "ros-visualization-msgs==5.3.6",
        "ros-diagnostic-msgs==5.3.6",
    ],
    # protobuf: only for bags of Foxglove messages.
    "bags": ["rosbags>=0.11", "mcap>=1.2", "protobuf>=3.20"],
    "world": ["trimesh>=4.0", "embreex>=2.17"],
    # `--set tensorboard=true` of crkd train and crkd distill.
    "log": ["tensorboard>=2.15"],
    # `crkd export`, and what runs its files behind a Detector.
    "engines": ["onnx>=1.17", "onnxscript>=0.5", "onnxruntime>=1.20", "openvino>=2025.0"],
    # The devkit itself is installed with --no-deps (its pins are older than what it needs).
    "test": [
        "pytest>=8",
        "pytest-xdist",
        "hypothesis",
        "ruff",
        "mypy",
        "types-PyYAML",
        "colcon-common-extensions",
        "pyquaternion",
        "shapely",
        "cachetools",
        "descartes",
        "fire",
        "scikit-learn",
        "tqdm",
        "pillow",
        "pycocotools",
        "parameterized",
        "tensorboard>=2.15",
        "onnx>=1.17",
        "onnxscript>=0.5",
        "onnxruntime>=1.20",
        "openvino>=2025.0",
    ],
}

setup(
    name=NAME,
    version="0.1.0",
    description="Camera-radar 3D object detection, distilled from LiDAR-camera, live in ROS 2",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="crkd_ros developers",
    author_email="crkd-ros@users.noreply.github.com",
    maintainer="crkd_ros developers",
    maintainer_email="crkd-ros@users.noreply.github.com",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["crkd_core*", "crkd_ros*"]),
    package_data={"": ["*.json", "*.js", "py.typed"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        # What `ros2 run` finds, and nobody's PATH.
        (f"lib/{NAME}", files("scripts/*")),
        (f"share/{NAME}/launch", files("launch/*.launch.py")),
        (f"share/{NAME}/config", files("config/*")),
        (f"share/{NAME}/rviz", files("rviz/*.rviz")),
        (f"share/{NAME}/foxglove", files("foxglove/*.json")),
        (f"share/{NAME}/weights", files("weights/*.safetensors")),
    ],
    zip_safe=True,
    install_requires=[
        "torch>=2.6",
        "numpy>=1.26",
        # The names of its modules are keys of our weights files.
        "transformers>=5.17,<6",
        "opencv-python-headless>=4.8,<5",
        # Says when a JPEG is damaged, which OpenCV hides.
        "simplejpeg>=1.8",
        "safetensors>=0.4",
        "scipy>=1.11",
        "orjson>=3.9",
        # Six times as fast where the form of a file is known.
        "msgspec>=0.19",
        "PyYAML>=6",
        "typer>=0.12",
        "rich>=13",
        "matplotlib>=3.8",
        "typing_extensions>=4.6",
    ],
    extras_require=EXTRAS,
    cmdclass={"develop": Develop, "install_scripts": InstallScripts},
    entry_points={
        # The only name on anybody's PATH.
        "console_scripts": ["crkd = crkd_core.main:main"],
        # Verbs of `crkd`, with the extras that they cannot do without (crkd_core/verbs.py).
        "crkd.commands": [
            "bag = crkd_ros.commands.bag:app [bags]",
            "calibration = crkd_ros.commands.calibration:app [bags]",
            "demo = crkd_ros.commands.demo:demo [bags,ros,world]",
            "live = crkd_ros.commands.live:live [bags,ros]",
            "node = crkd_ros.commands.node:app [ros]",
            "overhead = crkd_ros.commands.overhead:overhead [bags,ros,world]",
            "play = crkd_ros.commands.play:play [bags,ros]",
            "replay = crkd_ros.commands.replay:replay [bags]",
            "soak = crkd_ros.commands.soak:soak [bags,ros,world]",
        ],
    },
)
