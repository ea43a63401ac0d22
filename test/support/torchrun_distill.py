"""What torchrun starts in test_distill_processes.py: one distillation in the folder named."""

from __future__ import annotations

import sys
from pathlib import Path

from distill_tiny import FRAMES

from crkd_core.distill.training import distill
from crkd_core.train.run_folder import Run

if __name__ == "__main__":
    distill(Run.open(Path(sys.argv[1])), FRAMES)
