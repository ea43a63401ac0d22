"""What a detector with memory remembers between Frames: an explicit value that its caller owns.

``Detector.step`` takes a Memory and gives the next one, with the fused map of every Frame of the
last seconds, so that a Frame costs one pass. It forgets where the past says nothing about the
present: at another drive, where time runs back or stands, where the pose is not known, and where
the vehicle would have had to jump.

Shapes: C channels, T earlier moments, X Y grid cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crkd_core import geometry
from crkd_core.config import DetectorConfig
from crkd_core.data.past import picked_moments
from crkd_core.frame import Frame
from crkd_core.model.temporal import moved_map
from crkd_core.reach import too_fast


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One Frame as it is remembered.

    Attributes:
        stamp_ns: its reference time.
        global_T_grid: [4, 4] float64.
        features: [1, C, X, Y], ModelOutput.instant.
    """

    stamp_ns: int
    global_T_grid: NDArray[np.float64]
    features: Tensor


@dataclass(frozen=True, kw_only=True)
class Memory:
    """The moments that can still be used, the oldest first.

    Attributes:
        moments: of one drive, with rising stamps.
        scene: which.
        forgot: why the last Frame did not see the moments before it; "" = it did.
    """

    moments: tuple[Moment, ...] = ()
    scene: str = ""
    forgot: str = ""

    def before(self, frame: Frame, config: DetectorConfig) -> Memory:
        """What of it says something about this Frame."""
        assert config.temporal is not None
        if not self.moments:
            return Memory(scene=frame.scene)
        newest = self.moments[-1]
        seconds = (frame.stamp_ns - newest.stamp_ns) * 1e-9
        why = ""
        if frame.scene != self.scene:
            why = "another drive"
        elif frame.global_T_ego is None:
            why = "the pose is not known"
        elif seconds <= 0:
            why = "time did not go on"
        else:
            moved = global_T_grid(frame, config)[:3, 3] - newest.global_T_grid[:3, 3]
            if too_fast(float(np.linalg.norm(moved)), seconds):
                why = "ego motion jumped"
        if why:
            return Memory(scene=frame.scene, forgot=why)
        oldest = frame.stamp_ns - round(config.temporal.horizon * 1e9)
        kept = tuple(moment for moment in self.moments if moment.stamp_ns >= oldest)
        return Memory(moments=kept, scene=self.scene)

    def maps(self, frame: Frame, config: DetectorConfig, like: Tensor) -> Tensor:
        """The moments that a Frame uses in its own grid, [1, T, C, X, Y]; zeros where none is.

        Args:
            frame: of the present.
            config: of a detector with memory.
            like: [1, C, X, Y] of what there is no moment for.
        """
        assert config.temporal is not None
        stamps = [moment.stamp_ns for moment in self.moments]
        found = []
        for picked in picked_moments(stamps, frame.stamp_ns, config.temporal):
            if picked is None:
                found.append(torch.zeros_like(like))
                continue
            moment = self.moments[picked]
            now_T_past = geometry.invert(global_T_grid(frame, config)) @ moment.global_T_grid
            pose = torch.from_numpy(now_T_past)[None]
            found.append(moved_map(moment.features, pose, config.grid).to(like))
        # Cell by cell in memory, as networks on a CPU read them.
        return torch.stack([one.permute(0, 2, 3, 1) for one in found], 3).permute(0, 3, 4, 1, 2)

    def after(self, frame: Frame, config: DetectorConfig, features: Tensor) -> Memory:
        """With this Frame; without a pose it cannot be remembered."""
        if frame.global_T_ego is None:
            return self
        moment = Moment(
            stamp_ns=frame.stamp_ns,
            global_T_grid=global_T_grid(frame, config),
            features=features.detach(),
        )
        return Memory(moments=(*self.moments, moment), scene=self.scene, forgot=self.forgot)


def global_T_grid(frame: Frame, config: DetectorConfig) -> NDArray[np.float64]:
    """Pose of the grid frame of a Frame that knows its pose."""
    assert frame.global_T_ego is not None
    return frame.global_T_ego @ np.array(config.ego_T_grid, np.float64)
