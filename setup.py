"""All package metadata. pyproject.toml holds tool settings only (docs/decisions)."""

from pathlib import Path

from setuptools import find_packages, setup

NAME = "crkd_ros"
# `colcon build --symlink-install` runs a link to this file in its build folder.
HERE = Path(__file__).resolve().parent


def files(pattern):
    """Files of the source tree, as data_files wants them: relative, sorted."""
    return [path.as_posix() for path in sorted(Path().glob(pattern)) if path.is_file()]


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
    package_data={"": ["*.json", "py.typed"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
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
        "safetensors>=0.4",
        "scipy>=1.11",
        "orjson>=3.9",
        "PyYAML>=6",
        "typer>=0.12",
        "rich>=13",
        "matplotlib>=3.8",
        "typing_extensions>=4.6",
    ],
    extras_require=EXTRAS,
    entry_points={
        "console_scripts": [
            # On a plain machine.
            "crkd = crkd_core.cli:main",
            "crkd-bag = crkd_ros.commands.bag:main",
            "crkd-replay = crkd_ros.bags.replay:main",
            "crkd-play = crkd_ros.bags.player:main",
            "crkd-live = crkd_ros.commands.live:main",
            "crkd-node = crkd_ros.node.detector_node:main",
            "crkd-soak = crkd_ros.bench.soak:main",
            "crkd-overhead = crkd_ros.bench.overhead:main",
            "crkd-calibration = crkd_ros.commands.calibration:main",
            # What `ros2 run crkd_ros ...` finds.
            "nuscenes2bag = crkd_ros.bags.nuscenes:main",
            "replay = crkd_ros.bags.replay:main",
            "calibration = crkd_ros.commands.calibration:main",
            "evaluator = crkd_ros.streaming_eval.evaluator:main",
            "detector_node = crkd_ros.node.detector_node:main",
            "soak = crkd_ros.bench.soak:main",
            "overhead = crkd_ros.bench.overhead:main",
            "lifecycle_detector_node = crkd_ros.node.detector_node:lifecycle_main",
        ]
    },
)
