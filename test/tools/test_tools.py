"""Every script of tools/ is a command with a help, and the figures' document names it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = sorted((ROOT / "tools").glob("*.py"))


def test_there_are_tools() -> None:
    assert len(TOOLS) >= 3


@pytest.mark.parametrize("tool", TOOLS, ids=lambda path: path.name)
def test_a_tool_explains_itself_and_is_documented(tool: Path) -> None:
    done = subprocess.run(
        [sys.executable, f"tools/{tool.name}", "--help"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert f"Usage: {tool.name}" in done.stdout and "--help" in done.stdout
    assert f"`{tool.name}`" in (ROOT / "docs" / "benchmarks.md").read_text()
