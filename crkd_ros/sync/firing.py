"""How the cameras of a rig fire: in turn, all at once, or each at its own rate. Pure.

Which images belong together follows from it (docs/decisions/0030). It is measured from the first
stamps of a drive, so the live node and replay measure the same.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from crkd_ros.parameters.framing import SyncConfig
from crkd_ros.sync.first_stamps import FirstStamps

Kind = Literal["in_turn", "at_once", "free"]

#: Cameras on one trigger are closer together than this, ns, and than this share of the period.
_TOGETHER_NS, _TOGETHER = 10_000_000, 0.2
#: Images of one trigger are looked for this far around its stamp, ns, and share of the period.
_AROUND_NS, _AROUND = 20_000_000, 0.25
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
            return "one camera, " + ", ".join(map(_often, rates.values()))
        common = _often(statistics.median(rates.values())) if rates else ""
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


def _often(rate: float) -> str:
    """A median rate in words: as Hz it would read as the mean, which in nuScenes is another."""
    return f"every {1e3 / rate:.0f} ms (median)"


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

    Args:
        stamps: camera -> its stamps, ns, rising.
        triggers: cameras, the best one to set the reference first.
        config: ``firing`` other than auto is the user's word; ``camera_spread``, ``jitter``.
        complete: no more stamps can be waited for; cameras of which there are few are left out.

    Returns:
        None: too few images, or of one camera among several.
    """
    heard = FirstStamps.of(stamps, triggers, complete=complete)
    if heard is None:
        return None
    kind = _kind(heard) if config.firing == "auto" else config.firing
    if kind == "at_once":
        return _at_once(heard, config)
    return _free(heard, config) if kind == "free" else _in_turn(heard, config)


def _kind(heard: FirstStamps) -> Kind:
    """The first column of the table in docs/decisions/0030."""
    if heard.one_trigger(min(_TOGETHER_NS, _TOGETHER * heard.period)):
        return "at_once"
    return "in_turn" if heard.in_step() else "free"


def _at_once(heard: FirstStamps, config: SyncConfig) -> Firing:
    """Images around the reference; older ones are of another trigger."""
    least = min(heard.spread, _AROUND_NS) + config.jitter * 1e9
    around = max(min(_AROUND_NS, _AROUND * heard.period), least)
    return Firing(
        kind="at_once",
        before_ns=around,
        after_ns=around,
        spread_ns=2 * heard.spread,
        periods_ns=heard.periods,
    )


def _free(heard: FirstStamps, config: SyncConfig) -> Firing:
    """The latest images, of slow cameras up to a little more than their own period old."""
    before = config.camera_spread * 1e9
    # A camera whose period fits into camera_spread always has an image that is new enough.
    periods = {**heard.slow, **{name: heard.periods[name] for name in heard.regular}}
    oldest = {
        name: max(before, min(_OLDEST * period, _OLDEST_S * 1e9))
        for name, period in periods.items()
        if period > before
    }
    return Firing(
        kind="free",
        before_ns=before,
        after_ns=config.jitter * 1e9,  # Some may still be on one trigger.
        of=oldest,
        periods_ns=heard.periods,
    )


def _in_turn(heard: FirstStamps, config: SyncConfig) -> Firing:
    """The latest images; frames wait for cameras that fire after the anchor.

    These are the ones whose latest image would be too old at the anchor's stamp, though their
    images come regularly.
    """
    before, jitter = config.camera_spread * 1e9, config.jitter * 1e9
    ages, leads = heard.ages(), heard.leads()
    late = {
        name: leads[name]
        for name in heard.comparable
        if name in leads and ages.get(name, 0.0) > before
    }
    after, turn, last = 0.0, max(ages.values()), heard.anchor
    if late:
        last = max(late, key=lambda name: late[name])
        first = max(age for name, age in ages.items() if name not in late)
        silence = max(0.0, heard.period - late[last] - first)
        after, turn = late[last] + max(jitter, silence / 4), late[last] + first
    # Some may be on the anchor's trigger.
    if config.firing == "auto" and heard.any_on_trigger(jitter):
        after = max(after, jitter)
    return Firing(
        kind="in_turn",
        before_ns=before,
        after_ns=after,
        spread_ns=turn,
        last=last,
        periods_ns=heard.periods,
    )
