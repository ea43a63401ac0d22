"""The commands of docs/vod.md, from archives to scores, on the world's drives in that format."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import orjson

ROOT = Path(__file__).resolve().parents[2]
CODE = "from crkd_core.cli import main; main()"
#: Presets of the document -> small ones.
SMALL = {"vod_lc_r50": "vod_teacher", "vod_r50": "vod_student", "cuda": "cpu"}
#: A step of a small batch is enough to learn that a command works.
SHORT = ["--steps", "1", "--set", "batch_size=1", "--set", "workers=0"]
WORLD = "world --format vod --scenes 2 --seconds 1 --image-width 320 --jobs 1 --out data/vod"


def commands() -> list[list[str]]:
    """The words of every command in the document's first block of shell."""
    block = (ROOT / "docs" / "vod.md").read_text().split("```sh\n")[1].split("```")[0]
    lines = (line for line in block.splitlines() if line and not line.startswith("#"))
    return [shlex.split(line) for line in lines]


def crkd(words: list[str], folder: Path) -> str:
    ended = subprocess.run(
        [sys.executable, "-c", CODE, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, f"{' '.join(words)}\n{ended.stdout}{ended.stderr}"
    return ended.stdout


def test_every_command_of_the_path_works(tmp_path: Path) -> None:
    crkd(WORLD.split(), tmp_path)
    done = []
    for name, verb, *rest in commands():
        assert name == "crkd"
        short = SHORT if verb in ("train", "distill") else []
        # After one step no teacher is better than its student, which would be refused.
        short = [*short, *(["--allow-weak-teacher"] if verb == "distill" else [])]
        said = crkd([verb, *(SMALL.get(word, word) for word in rest), *short], tmp_path)
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
