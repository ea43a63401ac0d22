"""Blocks that are freed stay with the process, where it has said so."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import resource, sys
import numpy as np
from crkd_core.infer.allocator import keep_freed_memory

if sys.argv[1] == "keep" and not keep_freed_memory():
    sys.exit("not glibc")
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(25_000_000, np.float32)  # 100 MB, and freed.
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults)
"""


def faults(word: str) -> int:
    """Pages that the third block of 100 MB is given by the system."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, word], capture_output=True, text=True, check=False
    )
    if "not glibc" in done.stderr:
        pytest.skip("another C library")
    return int(done.stdout)


def test_freed_blocks_are_used_again():
    with_, without = faults("keep"), faults("give back")
    assert with_ * 10 < without
