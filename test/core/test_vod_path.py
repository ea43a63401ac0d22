"""The commands of docs/vod.md, from archives to scores, on the world's drives in that format."""

from __future__ import annotations

import re
from pathlib import Path

import orjson
from document_commands import commands, crkd

#: Presets of the document -> small ones.
SMALL = {"vod_lc_r50": "vod_teacher", "vod_r50": "vod_student", "cuda": "cpu"}
WORLD = "world --format vod --scenes 2 --seconds 1 --image-width 320 --jobs 1 --out data/vod"


def test_every_command_of_the_path_works(tmp_path: Path) -> None:
    crkd(WORLD.split(), tmp_path)
    done = []
    for verb, *rest in commands("vod.md"):
        said = crkd([verb, *(SMALL.get(word, word) for word in rest)], tmp_path)
        done.append(verb)
    assert done == [
        *("train", "train", "distill", "evaluate", "evaluate", "compare", "report", "evaluate"),
    ]
    assert "driving corridor" in said
    page = (tmp_path / "out/report.html").read_text()
    assert re.findall(r"<h2>(.*?)</h2>", page) == [
        *("Scores", "Training", "Frames", "What the losses see", "A drive from above"),
    ]
    for text in ("driving corridor: AP (%)", "distilled: what its losses see", "up to partly hid"):
        assert text in page
    first, second = (
        orjson.loads((tmp_path / "out" / name / "metrics.json").read_bytes())
        for name in ("crkd", "again")
    )
    assert first["entire_area"] == second["entire_area"]
    assert (tmp_path / "out/crkd/slices.json").exists()
    assert not (tmp_path / "out/again/slices.json").exists(), "not asked for"
    config = orjson.loads((tmp_path / "runs/crkd/config.json").read_bytes())["config"]
    assert "velocity" not in config["crkd"]["respd_channels"]
