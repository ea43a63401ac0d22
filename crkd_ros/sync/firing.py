"""How the cameras of a rig fire: in turn, all at once, or each at its own rate. Pure.

Which images belong together follows from it (docs/decisions/0030). It is measured from the first
stamps of a drive, so the live node and replay measure the same.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from crkd_ros.parameters.framing import SyncConfig

Kind = Literal["in_turn", "at_once", "free"]

#: Stamps are measured for so long, ns; longer if the best camera was heard less than _LEAST times.
WINDOWS_NS = (1_000_000_000, 2_000_000_000, 4_000_000_000)
_LEAST = 4
#: What is lost makes ages and pauses longer, never shorter: this quantile of them is right while
#: less than three quarters of the images are lost.
_SURE = 0.2
#: Cameras on one trigger are closer together than this, ns, and than this share of the period.
_TOGETHER_NS, _TOGETHER = 10_000_000, 0.2
#: Images of one trigger are looked for this far around its stamp, ns, and share of the period.
_AROUND_NS, _AROUND = 20_000_000, 0.25
#: So much of the images must be where a rule has them, and of those of a single camera so much:
#: any may lose some.
_MOST, _HALF = 0.8, 0.5
#: A camera keeps its distance if so many of its images are within this share of the period of it.
_KEPT, _PHASE = 0.7, 0.2
#: Periods that differ by more than this factor are of different rates.
_RATES = 1.33
#: A camera of its own rate may have an image so many of its periods old, and at most this old, s.
_OLDEST, _OLDEST_S = 1.25, 0.5


@dataclass(frozen=True, kw_only=True)
class Firing:
    """The rule of a frame's images.

    Attributes:
        kind: how the cameras fire.
        before_ns: an image may be so much older than the reference; ``of``: of single cameras.
        after_ns: and so much newer.
        spread_ns: between the first and the last image of a turn, as measured.
        periods_ns: camera -> median time between its images.
        last: the camera that fires last in its turn.
    """

    kind: Kind
    before_ns: float
    after_ns: float = 0.0
    of: Mapping[str, float] = field(default_factory=dict)
    spread_ns: float = 0.0
    periods_ns: Mapping[str, float] = field(default_factory=dict)
    last: str = ""

    def oldest_ns(self, camera: str) -> float:
        """How much older than the reference an image of a camera may be."""
        return self.of.get(camera, self.before_ns)

    def text(self) -> str:
        """One sentence."""
        if not self.periods_ns:
            return "not measured: too few images"
        rates = {name: 1e9 / period for name, period in self.periods_ns.items() if period}
        if len(rates) == 1:
            return "one camera, " + ", ".join(f"{rate:.1f} Hz" for rate in rates.values())
        common = f"{statistics.median(rates.values()):.1f} Hz" if rates else ""
        if self.kind == "at_once":
            return f"at once, {common}, within {self.spread_ns / 1e6:.0f} ms"
        if self.kind == "in_turn":
            late = f", {self.last.lower()} last" if self.last else ""
            return f"in turn, {common}, over {self.spread_ns / 1e6:.0f} ms{late}"
        groups: list[tuple[float, list[str]]] = []
        for name, rate in sorted(rates.items(), key=lambda one: -one[1]):
            if not groups or rate < 0.93 * groups[-1][0]:
                groups.append((rate, []))
            groups[-1][1].append(name.lower())
        texts = (f"{rate:.0f} Hz: {', '.join(names)}" for rate, names in groups)
        return f"each for itself ({'; '.join(texts)})"


def unmeasured(config: SyncConfig) -> Firing:
    """The rule before anything is known: right in turn, and at once with little jitter."""
    kind: Kind = "in_turn" if config.firing == "auto" else config.firing
    before, after = config.camera_spread * 1e9, 0.0
    if config.firing == "auto":
        after = config.jitter * 1e9
    elif kind == "at_once":
        before = after = _TOGETHER_NS
    return Firing(kind=kind, before_ns=before, after_ns=after)


def measure(
    stamps: Mapping[str, Sequence[int]],
    triggers: Sequence[str],
    config: SyncConfig,
    *,
    complete: bool = True,
) -> Firing | None:
    """The rule that the first stamps of a drive tell.

    Lost images are no evidence: a camera whose images come at irregular times is not taken for
    one of another rate or of no fixed place.

    Args:
        stamps: camera -> its stamps, ns, rising.
        triggers: cameras, the best one to set the reference first.
        config: ``firing`` other than auto is the user's word; ``camera_spread``, ``jitter``.
        complete: no more stamps can be waited for; cameras of which there are few are left out.

    Returns:
        None: too few images, or of one camera among several.
    """
    heard = {name: np.array(own, np.int64) for name, own in stamps.items() if len(own) >= 2}
    if len(heard) < min(2, len(triggers)):
        return None  # One camera of several tells nothing about them.
    anchor = next((name for name in triggers if len(stamps.get(name, ())) >= _LEAST), None)
    if anchor is None or (not complete and any(len(own) < _LEAST for own in heard.values())):
        return None
    periods = {name: float(np.median(np.diff(own))) for name, own in heard.items()}
    period, anchors = periods[anchor], heard[anchor]
    others = {name: own for name, own in heard.items() if name != anchor}
    nearest = {name: _nearest(own, anchors) for name, own in others.items()}
    limit = min(_TOGETHER_NS, _TOGETHER * period)
    span = float(max(own[-1] for own in heard.values()) - min(own[0] for own in heard.values()))
    regular = {name: own for name, own in heard.items() if _regular(own, span)}
    # Without a regular anchor there is nothing to compare with.
    steady = {} if anchor not in regular else {n: own for n, own in regular.items() if n != anchor}
    differ = not all(
        _same_rate(own, anchors) and _steady(own, anchors, period) for own in steady.values()
    )
    spread = max((float(np.quantile(np.abs(one), 0.9)) for one in nearest.values()), default=0.0)
    around = max(min(_AROUND_NS, _AROUND * period), min(spread, _AROUND_NS) + config.jitter * 1e9)
    kind: Kind = "in_turn"
    if config.firing != "auto":
        kind = config.firing
    elif _shared(nearest, limit) and _all_there(others, anchors):
        kind = "at_once"
    elif differ:
        kind = "free"
    before = config.camera_spread * 1e9
    if kind == "at_once":
        return Firing(
            kind=kind, before_ns=around, after_ns=around, spread_ns=2 * spread, periods_ns=periods
        )
    if kind == "free":
        # A camera whose period fits into camera_spread always has an image that is new enough.
        oldest = {
            name: max(before, min(_OLDEST * periods[name], _OLDEST_S * 1e9))
            for name in regular
            if periods[name] > before
        }
        # Some may still be on one trigger.
        after = config.jitter * 1e9
        return Firing(kind=kind, before_ns=before, after_ns=after, of=oldest, periods_ns=periods)
    after, spread, last = _turn(anchor, others, anchors, period, before, config, steady)
    # Some of them may be on the anchor's trigger.
    near = (_share(apart, config.jitter * 1e9) >= _MOST for apart in nearest.values())
    if config.firing == "auto" and any(near):
        after = max(after, config.jitter * 1e9)
    return Firing(
        kind=kind,
        before_ns=before,
        after_ns=after,
        spread_ns=spread,
        last=last,
        periods_ns=periods,
    )


def _nearest(own: NDArray[np.int64], anchors: NDArray[np.int64]) -> NDArray[np.int64]:
    """How much later than each anchor's stamp the nearest of a camera's stamps is, ns."""
    after = np.clip(np.searchsorted(own, anchors), 1, len(own) - 1)
    choices = np.stack([own[after - 1] - anchors, own[after] - anchors])
    best = np.abs(choices).argmin(0)
    return np.asarray(np.take_along_axis(choices, best[None], 0)[0])


def _share(apart: NDArray[np.int64], limit: float) -> float:
    """How many of a camera's images are as near as this to the anchor's."""
    return float(np.mean(np.abs(apart) <= limit))


def _shared(nearest: Mapping[str, NDArray[np.int64]], limit: float) -> bool:
    """Whether all cameras are on one trigger, though some of their images are lost."""
    shares = [_share(apart, limit) for apart in nearest.values()]
    return bool(shares) and min(shares) >= _HALF and statistics.fmean(shares) >= _MOST


def _all_there(others: Mapping[str, NDArray[np.int64]], anchors: NDArray[np.int64]) -> bool:
    """Whether the other cameras have an image for many of the anchor's."""
    return all(len(own) >= _HALF * len(anchors) - 1 for own in others.values())


def _regular(own: NDArray[np.int64], span: float) -> bool:
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


def _same_rate(one: NDArray[np.int64], other: NDArray[np.int64]) -> bool:
    """By the median or the mean: losses change the one, turns of uneven length the other."""

    def alike(a: float, b: float) -> bool:
        return 1 / _RATES < a / b < _RATES

    periods = [np.diff(own) for own in (one, other)]
    medians, means = [np.median(own) for own in periods], [np.mean(own) for own in periods]
    return alike(*map(float, medians)) or alike(*map(float, means))


def _steady(own: NDArray[np.int64], anchors: NDArray[np.int64], period: float) -> bool:
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


def _turn(
    anchor: str,
    others: Mapping[str, NDArray[np.int64]],
    anchors: NDArray[np.int64],
    period: float,
    before: float,
    config: SyncConfig,
    steady: Collection[str],
) -> tuple[float, float, str]:
    """(how much later images may be, how long a turn takes, ns; who fires last).

    A camera whose latest image would be too old at the anchor's stamp, though its images come
    regularly, fires after it: then frames wait for it.
    """
    ages, leads = {anchor: 0.0}, {anchor: 0.0}
    for name, own in others.items():
        place = np.searchsorted(own, anchors, side="right")
        inside = place > 0
        if inside.any():
            ages[name] = float(np.quantile(anchors[inside] - own[place[inside] - 1], _SURE))
        follows = place < len(own)
        if follows.any():
            leads[name] = float(np.quantile(own[place[follows]] - anchors[follows], _SURE))
    late = {
        name: leads[name]
        for name, age in ages.items()
        if age > before and name in leads and name in steady
    }
    if not late:
        return 0.0, max(ages.values()), anchor
    last = max(late, key=lambda name: late[name])
    first = max((ages[name] for name in ages if name not in late), default=0.0)
    silence = max(0.0, period - late[last] - first)
    return late[last] + max(config.jitter * 1e9, silence / 4), late[last] + first, last
