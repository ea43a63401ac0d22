"""How long scoring a submission takes, part by part: ``python tools/evaluator_speed.py``.

Makes the tables of a data set of the size of nuScenes' val (samples without sensor files) and a
submission of as many boxes a sample as asked for, most of them near an annotated object, and
scores it as ``crkd evaluate --submission`` does. Nothing is left out of the total but the index
of the tables, which is made once in the life of a data set and has a row of its own.
"""

from __future__ import annotations

import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import orjson
import typer

from crkd_core import geometry
from crkd_core.command import run_function
from crkd_core.data.nuscenes.classes import CATEGORY_CLASS, NUSCENES_ATTRIBUTES, NUSCENES_CLASSES
from crkd_core.data.nuscenes.scenes import NuScenes
from crkd_core.data.nuscenes.tables import predefined_splits
from crkd_core.evaluate.reading import read_submission
from crkd_core.evaluate.scoring import countable
from crkd_core.tables import Table, print_tables

VERSION, SPLIT = "v1.0-trainval", "val"
#: Annotated objects a sample: nuScenes has some 31.
OBJECTS = 31
KEY_US, START_US = 500_000, 1_530_000_000_000_000

Made = TypeVar("Made")


def report(
    samples: Annotated[int, typer.Option(min=150, help="nuScenes' val has 6019.")] = 6019,
    boxes: Annotated[int, typer.Option(min=1, max=500, help="A sample.")] = 200,
    seed: int = 0,
) -> None:
    """Time every part of scoring a submission."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        rng = np.random.default_rng(seed)
        centers = _write_tables(root, samples, rng)
        _write_submission(root / "results.json", centers, boxes, rng)
        size = (root / "results.json").stat().st_size
        seconds: dict[str, tuple[float, float]] = {}
        _timed(seconds, "index (once)", lambda: NuScenes(root, split=SPLIT))
        tables = _timed(seconds, "open", lambda: NuScenes(root, split=SPLIT))
        submission = _timed(seconds, "read", lambda: read_submission(root / "results.json"))
        counted = _timed(seconds, "truth and range", lambda: countable(tables, submission, SPLIT))
        result = _timed(seconds, "match and curves", counted.score)
    every = [value for name, value in seconds.items() if name != "index (once)"]
    totals = tuple(map(sum, zip(*every, strict=True)))
    rows = [
        [name, *(f"{value:.2f}" for value in values)]
        for name, values in {**seconds, "total": totals}.items()
    ]
    print_tables(
        Table(
            title=f"scoring {samples} samples x {boxes} boxes ({size / 1e6:.0f} MB)",
            columns=("part", "seconds", "of the processor"),
            rows=rows,
        )
    )
    summary = result.summary
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"mAP {summary['mean_ap']:.6f}, NDS {summary['nd_score']:.6f}; peak {peak:.1f} GB")
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {sys.version[:6]}"
    )


def _timed(seconds: dict[str, tuple[float, float]], name: str, work: Callable[[], Made]) -> Made:
    start = time.perf_counter(), time.process_time()
    made = work()
    seconds[name] = time.perf_counter() - start[0], time.process_time() - start[1]
    return made


def _write_tables(root: Path, samples: int, rng: np.random.Generator) -> dict[str, Any]:
    """Write the tables; what the submission needs of them."""
    names = predefined_splits(VERSION)[SPLIT]
    counts = np.full(len(names), samples // len(names))
    counts[: samples % len(names)] += 1
    categories = {kind: name for name, kind in reversed(CATEGORY_CLASS.items())}
    rows: dict[str, list[dict[str, Any]]] = {
        "category": [
            {"token": kind, "name": categories[kind], "description": ""}
            for kind in NUSCENES_CLASSES
        ],
        "attribute": [{"token": n, "name": n, "description": ""} for n in NUSCENES_ATTRIBUTES],
        "visibility": [{"token": "4", "level": "v80-100", "description": ""}],
        "sensor": [{"token": "lidar", "channel": "LIDAR_TOP", "modality": "lidar"}],
        "log": [
            {
                **{"token": "log", "logfile": "", "vehicle": "", "location": "here"},
                "date_captured": "2018-01-01",
            }
        ],
        "map": [
            {"token": "map", "log_tokens": ["log"], "category": "semantic_prior", "filename": ""}
        ],
        **{name: [] for name in ("instance", "calibrated_sensor", "ego_pose", "scene", "sample")},
        **{name: [] for name in ("sample_data", "sample_annotation")},
    }
    rows["calibrated_sensor"].append(
        {
            **{"token": "mount", "sensor_token": "lidar", "translation": [0.9, 0.0, 1.8]},
            **{"rotation": [1.0, 0.0, 0.0, 0.0], "camera_intrinsic": []},
        }
    )
    found: dict[str, Any] = {"token": [], "center": [], "label": [], "size": []}
    for scene, (name, count) in enumerate(zip(names, counts.tolist(), strict=True)):
        tokens = [f"{scene:08x}{key:024x}" for key in range(count)]
        rows["scene"].append(
            {
                **{"token": name, "log_token": "log", "nbr_samples": count, "name": name},
                **{"first_sample_token": tokens[0], "last_sample_token": tokens[-1]},
                "description": "",
            }
        )
        place = rng.uniform(300, 2000, 2)
        center = np.c_[place + rng.uniform(-45, 45, (OBJECTS, 2)), rng.normal(1, 0.3, OBJECTS)]
        speed = np.where(rng.random((OBJECTS, 1)) < 0.4, rng.normal(0, 4, (OBJECTS, 2)), 0.0)
        label = rng.integers(0, len(NUSCENES_CLASSES), OBJECTS)
        size = rng.uniform([0.5, 0.5, 1.0], [2.0, 5.0, 2.0], (OBJECTS, 3))
        turn = geometry.yaw_to_quat_wxyz(rng.uniform(-np.pi, np.pi, OBJECTS)).tolist()
        for item in range(OBJECTS):
            chain = [f"{token}-{item}" for token in tokens]
            rows["instance"].append(
                {
                    **{"token": f"{name}-{item}", "nbr_annotations": count},
                    "category_token": NUSCENES_CLASSES[label[item]],
                    **{"first_annotation_token": chain[0], "last_annotation_token": chain[-1]},
                }
            )
        for key, token in enumerate(tokens):
            stamp = START_US + scene * 10**8 + key * KEY_US
            near = {
                "prev": tokens[key - 1] if key else "",
                "next": tokens[key + 1] if key + 1 < count else "",
            }
            rows["sample"].append(
                {"token": token, "timestamp": stamp, "scene_token": name, **near}
            )
            rows["ego_pose"].append(
                {
                    **{"token": token, "timestamp": stamp, "rotation": [1.0, 0.0, 0.0, 0.0]},
                    "translation": [*place.tolist(), 0.0],
                }
            )
            rows["sample_data"].append(
                {
                    **{"token": token, "sample_token": token, "ego_pose_token": token, **near},
                    **{"calibrated_sensor_token": "mount", "timestamp": stamp},
                    **{"fileformat": "pcd", "is_key_frame": True, "height": 0, "width": 0},
                    "filename": f"samples/LIDAR_TOP/{token}.pcd.bin",
                }
            )
            here = center + np.c_[speed, np.zeros(OBJECTS)] * key * KEY_US * 1e-6
            for item in range(OBJECTS):
                rows["sample_annotation"].append(
                    {
                        **{"token": f"{token}-{item}", "sample_token": token},
                        **{"instance_token": f"{name}-{item}", "visibility_token": "4"},
                        **{"attribute_tokens": [], "translation": here[item].tolist()},
                        **{"size": size[item].tolist(), "rotation": turn[item]},
                        **{"num_lidar_pts": 9, "num_radar_pts": 1},
                        **{side: f"{near[side]}-{item}" if near[side] else "" for side in near},
                    }
                )
            found["token"].append(token)
            for column, value in (("center", here), ("label", label), ("size", size)):
                found[column].append(value)
    folder = root / VERSION
    folder.mkdir()
    for name, table in rows.items():
        (folder / f"{name}.json").write_bytes(orjson.dumps(table))
    return found


def _write_submission(
    path: Path, truth: dict[str, Any], boxes: int, rng: np.random.Generator
) -> None:
    """Write boxes around the objects: nearly right ones, doubled ones, of wrong classes."""
    with path.open("wb") as file:
        file.write(b'{"meta":{"use_camera":true},"results":{')
        for index, token in enumerate(truth["token"]):
            row = rng.integers(0, OBJECTS, boxes)
            center = truth["center"][index][row] + rng.normal(0, 1.0, (boxes, 3))
            wrong = rng.random(boxes) < 0.3
            label = np.where(wrong, rng.integers(0, 10, boxes), truth["label"][index][row])
            turn = geometry.yaw_to_quat_wxyz(rng.uniform(-np.pi, np.pi, boxes))
            size = truth["size"][index][row] * rng.uniform(0.8, 1.2, (boxes, 3))
            speed, score = rng.normal(0, 3, (boxes, 2)), rng.random(boxes) ** 3
            listed = [
                {
                    **{"sample_token": token, "translation": center[i].tolist()},
                    **{"size": size[i].tolist(), "rotation": turn[i].tolist()},
                    **{"velocity": speed[i].tolist(), "detection_score": float(score[i])},
                    **{"detection_name": NUSCENES_CLASSES[label[i]], "attribute_name": ""},
                }
                for i in range(boxes)
            ]
            file.write(b"," if index else b"")
            file.write(orjson.dumps(token) + b":" + orjson.dumps(listed))
        file.write(b"}}")


if __name__ == "__main__":
    run_function(report)
