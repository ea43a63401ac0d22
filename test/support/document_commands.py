"""The commands that a document shows, run one after the other."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
CODE = "from crkd_core.cli import main; main()"
#: A step of a small batch is enough to learn that a command works.
STEP = ["--steps", "1", "--set", "batch_size=1", "--set", "workers=0"]
#: Verb -> what makes it short. After one step no teacher is better than its student, which would
#: be refused.
SHORT = {"train": STEP, "distill": [*STEP, "--allow-weak-teacher"]}


def commands(name: str) -> list[list[str]]:
    """The words of every command in a document's first block of shell, without ``crkd``."""
    block = (DOCS / name).read_text().split("```sh\n")[1].split("```")[0]
    lines = [shlex.split(one) for one in block.splitlines() if one and not one.startswith("#")]
    assert all(words[0] == "crkd" for words in lines)
    return [words[1:] for words in lines]


def crkd(words: list[str], folder: Path) -> str:
    """Run a command in a folder; what it prints."""
    short = SHORT.get(words[0], [])
    ended = subprocess.run(
        [sys.executable, "-c", CODE, *words, *short],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, f"{' '.join(words)}\n{ended.stdout}{ended.stderr}"
    return ended.stdout
