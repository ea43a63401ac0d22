"""The commands of docs/nuscenes.md, from archives to a scored bag, on a small set like it."""

from __future__ import annotations

from pathlib import Path

import pytest
from document_commands import commands, crkd

#: Splits, version, scene and presets of the document -> those of the small set.
SMALL = {
    **{"train": "mini_train", "val": "mini_val", "v1.0-trainval": "v1.0-mini"},
    **{"lc_r50": "demo_teacher", "crkd_r50": "demo_student", "cuda": "cpu"},
}


def test_every_command_of_the_path_works(tiny_world: Path, tmp_path: Path) -> None:
    pytest.importorskip("rosbags")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "nuscenes").symlink_to(tiny_world)
    done = []
    for verb, *rest in commands("nuscenes.md"):
        crkd([verb, *(SMALL.get(word, word) for word in rest)], tmp_path)
        done.append(verb)
    assert done == ["world-report", "train", "train", "distill", "evaluate", "bag", "replay"]
    for result in ("crkd/weights.safetensors", "crkd/protocol.json"):
        assert (tmp_path / "runs" / result).is_file()
    assert (tmp_path / "out" / "0103" / "metrics.json").is_file()
