"""How much camera and radar maps weigh where they are fused (docs/method.md 1.10).

That fusion is guided by intensity, in the deployed network, is IMKD's (its third stage); the form
is ours. With intensities I, one convolution gives a map m per modality, and F' = F 2 sigmoid(m).
The convolution starts at 0, so training starts from plain fusion. The fuser multiplies: one that
normalises its maps cell by cell must do so afterwards (attention_fuse.py).

Shapes: B batch, C_i channels of branch i, X Y grid cells.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crkd_core.config import GridConfig, GuideConfig
from crkd_core.data.batch import Batch
from crkd_core.model.intensity import activation, radar_returns, unit_range


class IntensityGuide(nn.Module):
    """A factor in (0, 2) for every cell of both maps."""

    def __init__(self, config: GuideConfig, grid: GridConfig) -> None:
        super().__init__()
        self.intensity, self.grid = config.intensity, grid
        # Intensities of camera and radar, and where there is a radar return at all.
        self.factors = nn.Conv2d(3, 2, 3, padding=1)
        nn.init.zeros_(self.factors.weight)
        nn.init.zeros_(self.factors.bias)  # type: ignore[arg-type]

    def forward(self, camera: Tensor, radar: Tensor, batch: Batch) -> list[Tensor]:
        """Maps [B, C_i, X, Y] of camera and radar -> the factors of both, [B, 1, X, Y] each."""
        returns = None if self.intensity == "uniform" else radar_returns(batch, self.grid)
        return self.told(camera, radar, returns)

    def told(self, camera: Tensor, radar: Tensor, returns: Tensor | None) -> list[Tensor]:
        """The same with ``radar_returns`` [B, 2, X, Y], which "uniform" does not read."""
        signals = torch.stack(self._signals(camera, radar, returns), 1)
        factors = 2 * self.factors(signals.to(self.factors.weight.dtype)).sigmoid()
        return [factors[:, :1], factors[:, 1:]]

    def _signals(
        self, camera: Tensor, radar: Tensor, returns: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Three maps [B, X, Y] in 0..1."""
        if self.intensity == "uniform":
            flat = torch.ones_like(camera[:, 0], dtype=torch.float32)
            return flat, flat, flat
        assert returns is not None
        own = {
            "activation": lambda: activation(radar),
            "reflectance": lambda: returns[:, 0],
            "density": lambda: unit_range(returns[:, 1]),
        }[self.intensity]()
        return activation(camera), own, (returns[:, 1] > 0).float()
