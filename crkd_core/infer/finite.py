"""NaN and infinity, refused where they come in: behind a fused ReLU they would be zeros.

Of NaN oneDNN, OpenVINO and int8 make 0, so a network would answer plausible boxes, or none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from crkd_core.infer.errors import EngineError, InferError


def check_weights(model: nn.Module) -> None:
    """Raises InferError: a weight is not finite; names it."""
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise InferError(
                f"the network's {name} is not finite: its training has diverged; take weights of "
                "before"
            )


def check_inputs(inputs: Mapping[str, Tensor]) -> None:
    """Raises EngineError: an input of the network is not finite; names it."""
    for name, value in inputs.items():
        # A sum is not finite where a value is not, and takes a tenth of the time.
        if value.is_floating_point() and not math.isfinite(value.sum().item()):
            raise EngineError(
                f"the network's input {name} is not finite: the Frame holds NaN or infinity; "
                "look at what its sensors send"
            )
