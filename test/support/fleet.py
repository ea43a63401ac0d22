"""Two drives of a data set, as if two vehicles had recorded them at the same time."""

from __future__ import annotations

import json
from pathlib import Path

from crkd_core.data.nuscenes.scenes import NuScenes


def at_once(root: Path, scene: str, other: str) -> NuScenes:
    """Let ``other`` begin 3 microseconds after ``scene`` in the v1.0-mini below ``root``."""
    tables = NuScenes(root)
    begins = [tables.stamp_ns(tables.samples_of_scene(name)[0]) // 1000 for name in (scene, other)]
    moved = {*tables.samples_of_scene(other)}
    for table, key in (("sample", "token"), ("sample_data", "sample_token")):
        path = root / "v1.0-mini" / f"{table}.json"
        rows = json.loads(path.read_text())
        for row in rows:
            if row[key] in moved:
                row["timestamp"] += begins[0] - begins[1] + 3
        path.write_text(json.dumps(rows))
    return NuScenes(root)
