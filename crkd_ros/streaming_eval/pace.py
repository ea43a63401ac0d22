"""How fast a bag may be played so that this machine answers each of its frames. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

#: Images of a camera a second, in nuScenes and in the synthetic world.
CAMERA_HZ = 12.0
#: Share of its time that the node may be busy: the player and DDS use the same cores.
_BUSY = 0.6
#: Slower than this nobody waits for; what is not answered then stays unanswered.
SLOWEST = 0.02


def frames_per_second(seconds: Sequence[float]) -> float:
    """What a detector holds that took so long for each of some frames, the first left out.

    Args:
        seconds: from the files or messages of a frame to its boxes; at least one.
    """
    # The first frame fills caches and touches pages for the first time.
    return 1 / max(statistics.median(seconds[1:] or seconds), 1e-6)


def rate_for(held: float) -> float:
    """The rate of playing at which a node that holds so many frames a second answers all of them.

    At most 1: faster than real time nothing is shown.
    """
    rate = min(1.0, max(SLOWEST, _BUSY * held / CAMERA_HZ))
    return round(rate, 2)


def slower(rate: float) -> float | None:
    """The rate of the next try after a frame stayed unanswered; None: enough was tried."""
    return None if rate <= SLOWEST else max(SLOWEST, round(rate / 2, 3))
