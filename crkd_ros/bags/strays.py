"""Messages of a bag whose stamps are wrong, told by all the others'. Pure.

A bag holds messages in about the order in which they were measured. A stamp that contradicts this
order is wrong where it contradicts more of its neighbours than they contradict one another; one at
either end, which contradicts nobody, is wrong where it stands alone, far from all others.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.int64]

#: A message may be this much older or newer than its place in the file says. Key frames of the
#: foxglove family stand up to half a second from their places.
REORDER_NS = 1_000_000_000
#: A stamp is compared with those of so many messages before and after it.
_NEIGHBOURS = 64
#: A pause is longer than REORDER_NS and than so many usual times between two messages.
_PAUSE = 5
#: What stands alone between pauses is one message, or this share of the longest stretch.
_ALONE = 0.05


@dataclass(frozen=True, kw_only=True)
class Strays:
    """What was found.

    Attributes:
        places: topic -> numbers of its messages, as they were given.
        apart: topic -> how far the furthest of them is ahead of its neighbours, s (behind: < 0);
            -inf: it has no stamp at all.
        back: record time, ns, of the first message from which on all stamps lie in the past of
            those before, and by how many seconds; None: time does not go back.
    """

    places: Mapping[str, frozenset[int]] = field(default_factory=dict)
    apart: Mapping[str, float] = field(default_factory=dict)
    back: tuple[int, float] | None = None

    def count(self) -> int:
        """How many messages."""
        return sum(map(len, self.places.values()))

    def time_back(self) -> str:
        """What to say where time goes back; "": it does not."""
        if self.back is None:
            return ""
        at_ns, seconds = self.back
        return (
            f"at record time {at_ns} ns all stamps go back by {seconds:.1f} s; was a bag recorded "
            "that was played in a loop, or a clock set? cut the bag there"
        )

    def sentence(self, topic: str, total: int) -> str:
        """What to say of a topic's strays, of ``total`` messages."""
        number, apart = len(self.places[topic]), self.apart[topic]
        if np.isinf(apart):
            how = "without a stamp"
        else:
            where = "ahead of" if apart > 0 else "behind"
            how = f"up to {abs(apart):.1f} s {where} their neighbours"
        return f"{topic}: {number} of {total} messages are set aside, {how}"


def find_strays(
    topics: Sequence[str], numbers: Sequence[int], stamps: Times, records: Times
) -> Strays:
    """The messages whose stamps are wrong.

    Args:
        topics: of every message that can be read, in the order of the file.
        numbers: which message of its topic each is, counted from 0.
        stamps: [N] when each was measured, ns; 0 or less: it does not say.
        records: [N] when each was recorded, ns; they may mean nothing.
    """
    stray = stamps <= 0
    kept = np.flatnonzero(~stray)
    stray[kept[_out_of_order(stamps[kept])]] = True
    kept = np.flatnonzero(~stray)
    stray[kept[_alone(stamps[kept], records[kept])]] = True
    places: dict[str, set[int]] = {}
    apart: dict[str, float] = {}
    kept = np.flatnonzero(~stray)
    for index in np.flatnonzero(stray).tolist():
        topic = topics[index]
        places.setdefault(topic, set()).add(numbers[index])
        one = _apart(index, stamps, kept)
        if abs(one) >= abs(apart.get(topic, 0.0)):
            apart[topic] = one
    return Strays(
        places={topic: frozenset(found) for topic, found in places.items()},
        apart=apart,
        back=_back(stamps[kept], records[kept]),
    )


def _out_of_order(stamps: Times) -> NDArray[np.bool_]:
    """Those that contradict their neighbours; where time goes back, those of the same pass."""
    stray = _contradicting(stamps)
    if not (seams := _seams(stamps, stray)):
        return stray
    return np.concatenate([_contradicting(part) for part in np.split(stamps, seams)])


def _seams(stamps: Times, stray: NDArray[np.bool_]) -> list[int]:
    """Where all stamps from then on lie in the past of those before; strays hide the place."""
    seams: list[int] = []
    before, newest = 0, 0
    for index in np.flatnonzero(~stray).tolist():
        now = int(stamps[index])
        if newest - now > REORDER_NS:
            # Between the two are messages of both passes that contradict the other one's.
            old = stamps[before + 1 : index] > (newest + now) // 2
            wrong = np.append(0, np.cumsum(~old)) + old.sum() - np.append(0, np.cumsum(old))
            seams.append(before + 1 + int(wrong.argmin()))
            newest = now
        before, newest = index, max(newest, now)
    return seams


def _contradicting(stamps: Times) -> NDArray[np.bool_]:
    """Those that contradict most of their neighbours, taken out one by one until none does."""
    total = len(stamps)
    stray = np.zeros(total, bool)
    counts = np.zeros(total, np.int64)
    for lag in range(1, min(_NEIGHBOURS, total - 1) + 1):
        wrong = stamps[:-lag] - stamps[lag:] > REORDER_NS
        counts[:-lag] += wrong
        counts[lag:] += wrong
    # Of equals the one further from the middle of its neighbours.
    heap = [(-counts[i], -_from_middle(stamps, i), i) for i in np.flatnonzero(counts).tolist()]
    heapq.heapify(heap)
    while heap:
        count, middle, index = heapq.heappop(heap)
        if -count != counts[index]:
            # Counts only become less: what is on the heap stands before its true place.
            if counts[index]:
                heapq.heappush(heap, (-counts[index], middle, index))
            continue
        stray[index] = True
        low, high = max(0, index - _NEIGHBOURS), min(total, index + _NEIGHBOURS + 1)
        near = np.arange(low, high)
        later = np.where(near < index, stamps[low:high], stamps[index])
        earlier = np.where(near < index, stamps[index], stamps[low:high])
        counts[low:high] -= (later - earlier > REORDER_NS) & ~stray[low:high]
    return stray


def _from_middle(stamps: Times, index: int) -> float:
    near = stamps[max(0, index - _NEIGHBOURS) : index + _NEIGHBOURS + 1]
    return abs(float(stamps[index]) - float(np.median(near)))


def _alone(stamps: Times, records: Times) -> NDArray[np.bool_]:
    """Few messages beyond a pause that their record times know nothing of."""
    stray = np.zeros(len(stamps), bool)
    if len(stamps) < 2:
        return stray
    order = np.argsort(stamps, kind="stable")
    steps = np.diff(stamps[order])
    usual = float(np.quantile(steps, 0.9))
    ends = np.flatnonzero(steps > max(REORDER_NS, _PAUSE * usual)) + 1
    stretches = np.split(order, ends)
    longest = max(stretches, key=len)
    # What is recorded later than it is measured, for the longest stretch.
    usual_delay = float(np.median(records[longest] - stamps[longest]))
    for stretch in stretches:
        delay = float(np.median(records[stretch] - stamps[stretch]))
        few = len(stretch) <= max(1, _ALONE * len(longest)) and len(stretch) < len(longest)
        if few and abs(delay - usual_delay) > REORDER_NS:
            stray[stretch] = True
    return stray


def _apart(index: int, stamps: Times, kept: NDArray[Any]) -> float:
    """How far a stray is ahead of the next messages around it that are none, s."""
    if stamps[index] <= 0 or not len(kept):
        return -np.inf
    place = int(np.searchsorted(kept, index))
    near = stamps[kept[max(0, place - 1) : place + 1]]
    return float(stamps[index] - near.mean()) / 1e9


def _back(stamps: Times, records: Times) -> tuple[int, float] | None:
    if not len(stamps):
        return None
    behind = np.maximum.accumulate(stamps) - stamps
    late = np.flatnonzero(behind > REORDER_NS)
    if not len(late):
        return None
    return int(records[late[0]]), float(behind[late].max()) / 1e9
