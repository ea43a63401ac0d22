"""What the first stamps of a drive's cameras say of each other: rates, distances, losses. Pure.

Lost images are no evidence: a camera whose images come at irregular times is not taken for one of
another rate or of no fixed place (docs/decisions/0030).
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Stamps = NDArray[np.int64]

#: Stamps are measured for so long, ns; longer if the best camera was heard less than _LEAST times.
WINDOWS_NS = (1_000_000_000, 2_000_000_000, 4_000_000_000)
_LEAST = 4
#: What is lost makes ages and pauses longer, never shorter: this quantile of them is right while
#: less than three quarters of the images are lost.
_SURE = 0.2
#: So much of the images must be where a rule has them, and of those of a single camera so much:
#: any may lose some.
_MOST, _HALF = 0.8, 0.5
#: A camera keeps its distance if so many of its images are within this share of the period of it.
_KEPT, _PHASE = 0.7, 0.2
#: Periods that differ by more than this factor are of different rates.
_RATES = 1.33


@dataclass(frozen=True, kw_only=True)
class FirstStamps:
    """The stamps that cameras were heard with, and what all rules are made of. Times in ns.

    Attributes:
        anchor: the camera that the others are compared with: the best one that is heard enough.
        anchors: its stamps [n], rising.
        others: every other camera of two stamps at least -> its stamps.
        periods: camera, the anchor too -> median time between its images.
        nearest: other camera -> how much later than each anchor's stamp its nearest one is [n].
        regular: cameras whose images come at regular times all the while: few or none are lost.
    """

    anchor: str
    anchors: Stamps
    others: Mapping[str, Stamps]
    periods: Mapping[str, float]
    nearest: Mapping[str, Stamps]
    regular: tuple[str, ...]

    @classmethod
    def of(
        cls, stamps: Mapping[str, Sequence[int]], triggers: Sequence[str], *, complete: bool
    ) -> FirstStamps | None:
        """See ``firing.measure``; None: too few images, or of one camera among several."""
        heard = {name: np.array(own, np.int64) for name, own in stamps.items() if len(own) >= 2}
        if len(heard) < min(2, len(triggers)):
            return None  # One camera of several tells nothing about them.
        anchor = next((name for name in triggers if len(stamps.get(name, ())) >= _LEAST), None)
        if anchor is None or (not complete and any(len(own) < _LEAST for own in heard.values())):
            return None
        span = float(
            max(own[-1] for own in heard.values()) - min(own[0] for own in heard.values())
        )
        others = {name: own for name, own in heard.items() if name != anchor}
        return cls(
            anchor=anchor,
            anchors=heard[anchor],
            others=others,
            periods={name: float(np.median(np.diff(own))) for name, own in heard.items()},
            nearest={name: _nearest(own, heard[anchor]) for name, own in others.items()},
            regular=tuple(name for name, own in heard.items() if _regular(own, span)),
        )

    @property
    def period(self) -> float:
        """The anchor's."""
        return self.periods[self.anchor]

    @property
    def comparable(self) -> Mapping[str, Stamps]:
        """The others that are regular; none if the anchor is not: nothing can be compared then."""
        if self.anchor not in self.regular:
            return {}
        return {name: self.others[name] for name in self.regular if name != self.anchor}

    @property
    def spread(self) -> float:
        """So near to the anchor's are nine of ten images of each camera, of the same trigger.

        What is nearest to an image whose partner was lost is of another one.
        """
        apart = [np.abs(one[np.abs(one) <= self.period / 2]) for one in self.nearest.values()]
        return max((float(np.quantile(one, 0.9)) for one in apart if len(one)), default=0.0)

    def one_trigger(self, within: float) -> bool:
        """Whether all cameras are as near to the anchor as this, though some images are lost."""
        shares = [_share(apart, within) for apart in self.nearest.values()]
        if not shares or min(shares) < _HALF or statistics.fmean(shares) < _MOST:
            return False
        # Of each there is an image for many of the anchor's.
        return all(len(own) >= _HALF * len(self.anchors) - 1 for own in self.others.values())

    def any_on_trigger(self, within: float) -> bool:
        """Whether a camera is as near to the anchor as this."""
        return any(_share(apart, within) >= _MOST for apart in self.nearest.values())

    @property
    def slow(self) -> Mapping[str, float]:
        """Others of a lower rate than the anchor -> time between their images, whatever is lost.

        A slow camera has few images to measure, and is not regular if it loses one of them. But
        what is lost makes pauses longer: its short ones are longer than the anchor's long ones.
        """
        if self.anchor not in self.regular:
            return {}
        longest = _RATES * float(np.quantile(np.diff(self.anchors), 1 - _SURE))
        heard = {name: own for name, own in self.others.items() if len(own) >= _LEAST}
        pauses = {name: _sure(np.diff(own)) for name, own in heard.items()}
        return {name: pause for name, pause in pauses.items() if pause > longest}

    def in_step(self) -> bool:
        """Whether no camera is of another rate than the anchor, or of no fixed place."""
        return not self.slow and all(
            _same_rate(own, self.anchors) and _steady(own, self.anchors, self.period)
            for own in self.comparable.values()
        )

    def ages(self) -> dict[str, float]:
        """Camera -> how old its latest image is at the anchor's stamps; only where it has one."""
        found = {self.anchor: 0.0}
        for name, own in self.others.items():
            place = np.searchsorted(own, self.anchors, side="right")
            there = place > 0
            if there.any():
                found[name] = _sure(self.anchors[there] - own[place[there] - 1])
        return found

    def leads(self) -> dict[str, float]:
        """Camera -> how much later than the anchor's stamps its next image is, likewise."""
        found = {self.anchor: 0.0}
        for name, own in self.others.items():
            place = np.searchsorted(own, self.anchors, side="right")
            there = place < len(own)
            if there.any():
                found[name] = _sure(own[place[there]] - self.anchors[there])
        return found


def _sure(times: Stamps) -> float:
    return float(np.quantile(times, _SURE))


def _nearest(own: Stamps, anchors: Stamps) -> Stamps:
    """How much later than each anchor's stamp the nearest of a camera's stamps is, ns."""
    after = np.clip(np.searchsorted(own, anchors), 1, len(own) - 1)
    choices = np.stack([own[after - 1] - anchors, own[after] - anchors])
    best = np.abs(choices).argmin(0)
    return np.asarray(np.take_along_axis(choices, best[None], 0)[0])


def _share(apart: Stamps, limit: float) -> float:
    """How many of a camera's images are as near as this to the anchor's."""
    return float(np.mean(np.abs(apart) <= limit))


def _regular(own: Stamps, span: float) -> bool:
    """Whether a camera's images come at regular times all the while, so that few or none are lost.

    Args:
        own: its stamps, ns.
        span: between the first and the last stamp of all cameras, ns.
    """
    if len(own) < _LEAST:
        return False
    pauses = np.diff(own)
    short, long = np.quantile(pauses, (_SURE, 1 - _SURE))
    return bool(long < _RATES * short and own[-1] - own[0] + long > _MOST * span)


def _same_rate(one: Stamps, other: Stamps) -> bool:
    """By the median or the mean: losses change the one, turns of uneven length the other."""

    def alike(a: float, b: float) -> bool:
        return 1 / _RATES < a / b < _RATES

    periods = [np.diff(own) for own in (one, other)]
    medians, means = [np.median(own) for own in periods], [np.mean(own) for own in periods]
    return alike(*map(float, medians)) or alike(*map(float, means))


def _steady(own: Stamps, anchors: Stamps, period: float) -> bool:
    """Whether a camera keeps its distance from the anchor: both are fired by one clock.

    Where the anchor's image is lost, the distance is by a period greater: that is no other one.
    """
    place = np.searchsorted(anchors, own, side="right")
    before, after = place > 0, place < len(anchors)
    since = own[before] - anchors[place[before] - 1]
    until = anchors[place[after]] - own[after]
    # Where turns do not follow at regular times, one of both is steady.
    return any(_kept(one / period) for one in (since, until))


def _kept(phases: NDArray[np.float64]) -> bool:
    """Whether most phases are one, but for whole numbers."""
    if not len(phases):
        return False
    apart = np.abs((phases[:, None] - phases[None] + 0.5) % 1.0 - 0.5)
    return float((apart <= _PHASE).mean(1).max()) >= _KEPT
