"""A small hand-made nuScenes version for tests of the reader: all tables, real timing.

Nothing here calls the reader's own code for what is compared with the devkit.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np

CAMERA_PHASE_MS = {
    "CAM_FRONT_LEFT": 7,
    "CAM_FRONT": 15,
    "CAM_FRONT_RIGHT": 22,
    "CAM_BACK_RIGHT": 31,
    "CAM_BACK": 40,
    "CAM_BACK_LEFT": 49,
}
RADAR_PHASE_MS = {
    "RADAR_FRONT": 0,
    "RADAR_FRONT_LEFT": 13,
    "RADAR_FRONT_RIGHT": 29,
    "RADAR_BACK_LEFT": 44,
    "RADAR_BACK_RIGHT": 61,
}
CATEGORIES = {
    "vehicle.car": "vehicle.moving",
    "vehicle.bus.bendy": "vehicle.parked",
    "human.pedestrian.police_officer": "pedestrian.standing",
    "vehicle.bicycle": "cycle.without_rider",
    "movable_object.trafficcone": "",
    "animal": "",
    "static_object.bicycle_rack": "",
}
START_US = 1_532_402_927_612_460
IMAGE_SIZE = (96, 54)
SAMPLE_US = 500_000


def token(*parts: object) -> str:
    return hashlib.md5(repr(parts).encode()).hexdigest()


def quaternion(yaw: float, pitch: float = 0.0, roll: float = 0.0) -> list[float]:
    cy, sy, cp, sp = np.cos(yaw / 2), np.sin(yaw / 2), np.cos(pitch / 2), np.sin(pitch / 2)
    cr, sr = np.cos(roll / 2), np.sin(roll / 2)
    return [
        float(cr * cp * cy + sr * sp * sy),
        float(sr * cp * cy - cr * sp * sy),
        float(cr * sp * cy + sr * cp * sy),
        float(cr * cp * sy - sr * sp * cy),
    ]


def pose_at(t_us: int) -> dict:
    """A drive at 10 m/s on a curve, with a little pitch and roll so that all axes are tested."""
    t = (t_us - START_US) * 1e-6
    yaw = 0.3 + 0.25 * t
    position = [400.0 + 40 * np.sin(yaw), 1100.0 - 40 * np.cos(yaw), 0.0]
    return {
        "translation": [float(v) for v in position],
        "rotation": quaternion(yaw, 0.02 * np.sin(t), 0.01 * np.cos(t)),
    }


def write_radar(path: Path, rng: np.random.Generator, count: int = 12) -> None:
    record = np.dtype(
        [
            *((n, "<f4") for n in ("x", "y", "z")),
            *(("dyn_prop", "i1"), ("id", "<i2")),
            *((n, "<f4") for n in ("rcs", "vx", "vy", "vx_comp", "vy_comp")),
            *((n, "i1") for n in ("is_quality_valid", "ambig_state", "x_rms", "y_rms")),
            *((n, "i1") for n in ("invalid_state", "pdh0", "vx_rms", "vy_rms")),
        ]
    )
    points = np.zeros(count, record)
    for name in record.names or ():
        if record[name].kind == "f":
            points[name] = rng.normal(0, 20, count)
        else:
            points[name] = rng.integers(0, 5, count)
    points["z"] = 0
    header = "# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\n"
    header += f"FIELDS {' '.join(record.names or ())}\n"
    header += "SIZE 4 4 4 1 2 4 4 4 4 4 1 1 1 1 1 1 1 1\n"
    header += "TYPE F F F I I F F F F F I I I I I I I I\nCOUNT" + " 1" * 18
    header += f"\nWIDTH {count}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {count}\nDATA binary\n"
    path.write_bytes(header.encode() + points.tobytes() + b"\n")


def write_version(
    root: Path,
    *,
    version: str = "v1.0-mini",
    scenes: tuple[str, ...] = ("scene-0061", "scene-0103"),
    samples: int = 4,
    seed: int = 0,
    files: bool = True,
    splits: dict[str, list[str]] | None = None,
) -> Path:
    """Write a version under ``root``; returns ``root``."""
    rng = np.random.default_rng(seed)
    tables: dict[str, list[dict]] = {
        name: []
        for name in (
            *("category", "attribute", "visibility", "instance", "sensor", "calibrated_sensor"),
            *("ego_pose", "log", "scene", "sample", "sample_data", "sample_annotation", "map"),
        )
    }
    for name in CATEGORIES:
        tables["category"].append({"token": token("cat", name), "name": name, "description": ""})
    for name in sorted({a for a in CATEGORIES.values() if a}):
        tables["attribute"].append({"token": token("attr", name), "name": name})
    tables["visibility"].append({"token": "4", "level": "v80-100", "description": ""})
    tables["log"].append(
        {
            "token": token("log"),
            "logfile": "n",
            "vehicle": "n",
            "date_captured": "2018-07-24",
            "location": "singapore-onenorth",
        }
    )
    tables["map"].append(
        {
            "token": token("map"),
            "log_tokens": [token("log")],
            "category": "semantic_prior",
            "filename": "maps/empty.png",
        }
    )
    (root / "maps").mkdir(parents=True, exist_ok=True)
    (root / "maps" / "empty.png").touch()
    channels = [*CAMERA_PHASE_MS, *RADAR_PHASE_MS, "LIDAR_TOP"]
    for number, channel in enumerate(channels):
        modality = {"C": "camera", "R": "radar", "L": "lidar"}[channel[0]]
        tables["sensor"].append(
            {"token": token("sensor", channel), "channel": channel, "modality": modality}
        )
        intrinsic = [[80.5, 0.0, 47.2], [0.0, 80.5, 26.9], [0.0, 0.0, 1.0]]
        tables["calibrated_sensor"].append(
            {
                "token": token("calib", channel),
                "sensor_token": token("sensor", channel),
                "translation": [1.0 + 0.1 * number, 0.5 - 0.05 * number, 1.5],
                "rotation": quaternion(0.5 * number, 0.03, -0.02),
                "camera_intrinsic": intrinsic if modality == "camera" else [],
            }
        )
        for kind in ("samples", "sweeps"):
            (root / kind / channel).mkdir(parents=True, exist_ok=True)
    for number, scene in enumerate(scenes):
        _write_scene(root, tables, scene, samples, START_US + number * 60_000_000, rng, files)
    folder = root / version
    folder.mkdir(parents=True)
    # The order of real tables is arbitrary: nothing may rely on it.
    for name, rows in tables.items():
        if name not in ("scene", "map", "category"):
            rng.shuffle(rows)  # type: ignore[arg-type]
        (folder / f"{name}.json").write_text(json.dumps(rows, indent=0))
    if splits is not None:
        (folder / "splits.json").write_text(json.dumps(splits))
    return root


def _write_scene(root, tables, scene, samples, start, rng, files):
    names = [token(scene, "sample", i) for i in range(samples)]
    # The time of a sample is that of its LiDAR sweep, as in nuScenes.
    times = [start + i * SAMPLE_US + 50_000 for i in range(samples)]
    tables["scene"].append(
        {
            "token": token(scene),
            "name": scene,
            "description": f"{scene}, rain",
            "log_token": token("log"),
            "nbr_samples": samples,
            "first_sample_token": names[0],
            "last_sample_token": names[-1],
        }
    )
    for i, name in enumerate(names):
        tables["sample"].append(
            {
                "token": name,
                "timestamp": times[i],
                "scene_token": token(scene),
                "prev": names[i - 1] if i else "",
                "next": names[i + 1] if i + 1 < samples else "",
            }
        )
    end = start + samples * SAMPLE_US - 350_000
    plan = [(c, start + p * 1000, 12, ".jpg") for c, p in CAMERA_PHASE_MS.items()]
    plan += [(c, start - 250_000 + p * 1000, 13, ".pcd") for c, p in RADAR_PHASE_MS.items()]
    plan += [("LIDAR_TOP", start - 250_000 + 50_000, 20, ".pcd.bin")]
    for channel, first, rate, ending in plan:
        stamps = np.arange(first, end, round(1e6 / rate)).tolist()
        # A key frame is the file nearest to the time at which this sensor sees a sample.
        # One radar's key frames are too early, so that a later sweep precedes the reference.
        late = -100 if channel == "RADAR_BACK_RIGHT" else CAMERA_PHASE_MS.get(channel, 50) - 50
        aim = [t + late * 1000 for t in times]
        key = {int(np.argmin(np.abs(np.array(stamps) - t))): i for i, t in enumerate(aim)}
        records = [token(scene, channel, stamp) for stamp in stamps]
        for j, stamp in enumerate(stamps):
            after = next((i for i, t in enumerate(times) if t >= stamp), samples - 1)
            is_key = j in key
            kind = "samples" if is_key else "sweeps"
            filename = f"{kind}/{channel}/{scene}__{channel}__{stamp}{ending}"
            camera = ending == ".jpg"
            tables["ego_pose"].append(
                {"token": token(records[j]), "timestamp": stamp, **pose_at(stamp)}
            )
            tables["sample_data"].append(
                {
                    "token": records[j],
                    "sample_token": names[key[j]] if is_key else names[after],
                    "ego_pose_token": token(records[j]),
                    "calibrated_sensor_token": token("calib", channel),
                    "timestamp": stamp,
                    "fileformat": "jpg" if camera else "pcd",
                    "is_key_frame": is_key,
                    "height": IMAGE_SIZE[1] if camera else 0,
                    "width": IMAGE_SIZE[0] if camera else 0,
                    "filename": filename,
                    "prev": records[j - 1] if j else "",
                    "next": records[j + 1] if j + 1 < len(stamps) else "",
                }
            )
            path = root / filename
            if not files:
                continue
            if camera:
                image = np.full((IMAGE_SIZE[1], IMAGE_SIZE[0], 3), 40 + 30 * (j % 6), np.uint8)
                image[:, :, 2] = np.linspace(0, 255, IMAGE_SIZE[0])
                path.write_bytes(cv2.imencode(".jpg", image)[1].tobytes())
            elif ending == ".pcd":
                write_radar(path, rng)
            else:
                points = rng.normal(0, 3, (40, 5)).astype("<f4")
                points[:, 3:] = rng.integers(0, 32, (40, 2))
                path.write_bytes(points.tobytes())
    for number, (category, attribute) in enumerate(list(CATEGORIES.items()) * 2):
        instance = token(scene, "instance", number)
        # Gaps: some objects are annotated at every sample, some rarely, some once.
        step = (1, 1, 2, 1, 4, 1)[number % 6]
        seen = list(range(number % 2, samples, step))
        annotations = [token(instance, i) for i in seen]
        tables["instance"].append(
            {
                "token": instance,
                "category_token": token("cat", category),
                "nbr_annotations": len(seen),
                "first_annotation_token": annotations[0],
                "last_annotation_token": annotations[-1],
            }
        )
        velocity = rng.normal(0, 5, 2)
        offset = np.array([*rng.uniform(-30, 30, 2), 0.8])
        base = offset + pose_at(start)["translation"]
        for j, i in enumerate(seen):
            moved = base + np.append(velocity * i * SAMPLE_US * 1e-6, 0.0)
            tables["sample_annotation"].append(
                {
                    "token": annotations[j],
                    "sample_token": names[i],
                    "instance_token": instance,
                    "attribute_tokens": [token("attr", attribute)] if attribute else [],
                    "visibility_token": "4",
                    "translation": moved.tolist(),
                    "size": [2.0, 4.5, 1.6],
                    "rotation": quaternion(float(rng.uniform(-3, 3))),
                    "num_lidar_pts": int(rng.integers(0, 30)),
                    "num_radar_pts": int(rng.integers(0, 3)),
                    "prev": annotations[j - 1] if j else "",
                    "next": annotations[j + 1] if j + 1 < len(seen) else "",
                }
            )
