"""What torchrun starts in test_distill_processes.py: distillations in the folders named."""

from __future__ import annotations

import sys
from pathlib import Path

from distill_tiny import FRAMES

from crkd_core.distill.training import distill
from crkd_core.train.distributed import Processes, joined
from crkd_core.train.run_folder import Run

if __name__ == "__main__":
    with joined(Processes.of_environment(), "cpu"):
        for path in sys.argv[1:]:
            distill(Run.open(Path(path)), FRAMES)
