"""Means over seeds, and differences between runs of the same seed with their interval."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

#: Of the intervals.
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean with its confidence interval; ``half`` is NaN of a single value.

    Attributes:
        mean: of ``count`` values.
        half: half the width of Student's t-interval.
        count: how many.
    """

    mean: float
    half: float
    count: int

    def excludes_zero(self) -> bool:
        """Whether the sign of the mean is known at this confidence."""
        return abs(self.mean) > self.half  # False of NaN

    def text(self, digits: int = 3, *, of: int | None = None) -> str:
        """Signed, for a table; with a star where zero is outside.

        Args:
            digits: behind the point.
            of: how many values others of its line have; another ``count`` is said. None = as many.
        """
        if math.isnan(self.half):
            return f"{self.mean:+.{digits}f} (1)"
        star = " *" if self.excludes_zero() else ""
        count = "" if of in (None, self.count) else f" ({self.count})"
        return f"{self.mean:+.{digits}f} ± {self.half:.{digits}f}{star}{count}"


def interval(values: Sequence[float]) -> Interval | None:
    """Mean and t-interval; None of nothing. NaN among the values is nothing."""
    values = [value for value in values if not math.isnan(value)]
    if not values:
        return None
    mean, count = statistics.fmean(values), len(values)
    if count == 1:
        return Interval(mean=mean, half=math.nan, count=1)
    quantile = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2))
    half = quantile * statistics.stdev(values) / math.sqrt(count)
    return Interval(mean=mean, half=half, count=count)


def paired(values: Mapping[int, float], reference: Mapping[int, float]) -> Interval | None:
    """The difference to a reference over the seeds that both have; seed -> value."""
    return interval([values[seed] - reference[seed] for seed in values if seed in reference])
