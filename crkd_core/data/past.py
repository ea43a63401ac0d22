"""Which earlier moments a network with memory uses: one rule for reader, evaluation and node."""

from __future__ import annotations

from collections.abc import Sequence

from crkd_core.config import TemporalConfig


def picked_moments(
    stamps_ns: Sequence[int], now_ns: int, config: TemporalConfig
) -> list[int | None]:
    """For each wanted age, the index of the moment that is nearest to it.

    Args:
        stamps_ns: of the moments that are known.
        now_ns: of the present.
        config: ages are ``interval``, twice that, ...; a moment that is off by more than
            ``tolerance`` of the interval is none.

    Returns:
        ``config.frames`` indices, the newest first; None where there is none.
    """
    picked: list[int | None] = []
    for count in range(1, config.frames + 1):
        off = [
            abs((now_ns - stamp) * 1e-9 - count * config.interval) if stamp < now_ns else 1e9
            for stamp in stamps_ns
        ]
        best = min(range(len(off)), key=off.__getitem__, default=None)
        fits = best is not None and off[best] <= config.tolerance * config.interval
        picked.append(best if fits else None)
    return picked
