"""The commands of docs/nuscenes.md, from archives to a scored bag, on a small set like it."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = "from crkd_core.cli import main; main()"
#: Splits, version, scene and presets of the document -> those of the small set.
SMALL = {
    **{"train": "mini_train", "val": "mini_val", "v1.0-trainval": "v1.0-mini"},
    **{"lc_r50": "demo_teacher", "crkd_r50": "demo_student", "cuda": "cpu"},
}
#: A step of a small batch is enough to learn that a command works.
SHORT = ["--steps", "1", "--set", "batch_size=1", "--set", "workers=0"]


def commands() -> list[list[str]]:
    """The words of every command in the document's first block of shell."""
    block = (ROOT / "docs" / "nuscenes.md").read_text().split("```sh\n")[1].split("```")[0]
    lines = (line for line in block.splitlines() if line and not line.startswith("#"))
    return [shlex.split(line) for line in lines]


def test_every_command_of_the_path_works(tiny_world: Path, tmp_path: Path) -> None:
    pytest.importorskip("rosbags")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "nuscenes").symlink_to(tiny_world)
    done = []
    for words in commands():
        name, verb, *rest = words
        rest = [SMALL.get(word, word) for word in rest]
        assert name == "crkd"
        short = SHORT if verb in ("train", "distill") else []
        # After one step no teacher is better than its student, which would be refused.
        short = [*short, *(["--allow-weak-teacher"] if verb == "distill" else [])]
        ended = subprocess.run(
            [sys.executable, "-c", CODE, verb, *rest, *short],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, f"{' '.join(words)}\n{ended.stdout}{ended.stderr}"
        done.append(verb)
    assert done == ["world-report", "train", "train", "distill", "evaluate", "bag", "replay"]
    for result in ("crkd/weights.safetensors", "crkd/protocol.json"):
        assert (tmp_path / "runs" / result).is_file()
    assert (tmp_path / "out" / "0103" / "metrics.json").is_file()
