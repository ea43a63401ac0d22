"""One hand-made View-of-Delft frame: a tilted camera, a turned radar, and what they see."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

WIDTH, HEIGHT = 96, 60
#: Camera axes in those of the LiDAR, tilted up by TILT; its place before and below the LiDAR.
TILT = np.deg2rad(7.0)
CAMERA_AT = np.array([0.9, 0.1, -0.5])
FOCAL, CENTRE = 80.0, (48.0, 30.0)
RADAR_AT, RADAR_YAW = np.array([2.5, 0.0, -1.2]), 0.1


def lidar_T_camera() -> np.ndarray:
    """Optical axes: x right, y down, z forward and up by TILT."""
    pose = np.eye(4)
    c, s = np.cos(TILT), np.sin(TILT)
    pose[:3, :3] = np.array([[0, s, c], [-1, 0, 0], [0, -c, s]])
    pose[:3, 3] = CAMERA_AT
    return pose


def lidar_T_radar() -> np.ndarray:
    pose = np.eye(4)
    c, s = np.cos(RADAR_YAW), np.sin(RADAR_YAW)
    pose[:2, :2] = [[c, -s], [s, c]]
    pose[:3, 3] = RADAR_AT
    return pose


def label(name: str, center, size, yaw: float, *, box=(10, 10, 40, 55), hidden=0) -> str:
    """A line for a box in the LiDAR's axes (centre; length, width, height; yaw), by hand."""
    bottom = np.append(np.array(center) - [0, 0, size[2] / 2], 1)
    x, y, z, _ = np.linalg.inv(lidar_T_camera()) @ bottom
    turn = -yaw - np.pi / 2
    numbers = [0.0, *box, size[2], size[1], size[0], x, y, z, turn]
    return f"{name} 7 {hidden} {' '.join(map(str, numbers))} 1"


def write(root: Path, *, name: str = "00012", labels: tuple[str, ...] = ()) -> Path:
    """A data set of one frame, in the list ``train``; ``test`` holds another without labels."""
    rng = np.random.default_rng(3)
    image = rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    camera_T = {
        "lidar": np.linalg.inv(lidar_T_camera()),
        "radar": np.linalg.inv(lidar_T_camera()) @ lidar_T_radar(),
    }
    radar = np.array(
        [
            # x, y, z, RCS, v_r, v_r_compensated, time; a return ahead coming nearer, one aside.
            [10, 0, 0.5, 12.0, -9.0, -2.0, 0],
            [0, 20, 1.0, -5.0, 1.0, 3.0, -2],
            [5, 5, -0.3, 0.0, 0.5, 0.0, -4],
        ],
        np.float32,
    )
    lidar = np.array([[10, 1, -1, 0.5], [20, -3, 0, 1.0]], np.float32)
    poses = {"odomToCamera": np.eye(4), "mapToCamera": lidar_T_camera(), "UTMToCamera": np.eye(4)}
    poses["mapToCamera"][:3, 3] += [100, 200, 1]
    for folder in ("lidar", "radar", "radar_3frames", "radar_5_scans"):
        for part, frame in (("training", name), ("testing", "00099")):
            for kind in ("calib", "velodyne", "image_2", "label_2", "pose"):
                (root / folder / part / kind).mkdir(parents=True)
            here = root / folder / part
            numbers = " ".join(map(str, camera_T[folder[:5]][:3].ravel()))
            camera = f"{FOCAL} 0 {CENTRE[0]} 0 0 {FOCAL} {CENTRE[1]} 0 0 0 1 0"
            lines = [*(f"P{i}: {camera}" for i in range(4)), "R0_rect: 1 0 0 0 1 0 0 0 1"]
            (here / "calib" / f"{frame}.txt").write_text(
                "\n".join([*lines, f"Tr_velo_to_cam: {numbers}", "Tr_imu_to_velo:", ""])
            )
            scans = {"radar": 1, "radar_3frames": 3, "radar_5_scans": 5}.get(folder)
            points = lidar if scans is None else radar[radar[:, 6] > -scans]
            (here / "velodyne" / f"{frame}.bin").write_bytes(points.tobytes())
            if folder == "lidar":
                cv2.imwrite(str(here / "image_2" / f"{frame}.jpg"), image)
                (here / "pose" / f"{frame}.json").write_text(
                    "\n".join(json.dumps({k: v.ravel().tolist()}) for k, v in poses.items())
                )
                if part == "training":
                    (here / "label_2" / f"{frame}.txt").write_text("\n".join(labels))
    lists = root / "lidar" / "ImageSets"
    lists.mkdir()
    (lists / "train.txt").write_text(f"{name}\n")
    (lists / "test.txt").write_text("00099\n")
    (lists / "empty.txt").write_text("")
    return root
