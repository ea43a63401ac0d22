"""Number formats of a network."""

from __future__ import annotations

import torch

from crkd_core.config import Precision

#: In training of the forward pass alone: weights, losses and the update are float32.
DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
