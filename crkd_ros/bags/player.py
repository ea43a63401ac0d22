"""Plays a rosbag2 to ROS 2 topics where `ros2 bag play` is not installed. Command `crkd play`.

Messages go out as the CDR bytes that the bag holds, at the pace of their record times, with the
QoS they were recorded with. Types that the installed ROS packages lack are left out and named.
Looping sets the time of the stamps back, as `ros2 bag play --loop` does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rosbags.interfaces import Qos, QosDurability, QosHistory, QosReliability

from crkd_ros.bags.container import Topic
from crkd_ros.bags.message_types import BagError
from crkd_ros.bags.reader import open_rosbag2, read_bag
from crkd_ros.convert.ros_packages import MessageError, message_class

#: Longest pause between two looks at the clock, so that /clock keeps its rate in gaps of a bag.
_CLOCK_PERIOD = 0.025
#: Shortest time between two ticks: a bag may have a message every two milliseconds, and whoever
#: hears each of their times has less of the processor for the messages.
_CLOCK_REST = 0.01
#: No new subscriber for this long means that discovery is done. On the other side too, which the
#: player cannot see: in 7 of 22 starts a subscriber that was found here found the player one to
#: two seconds later, and so long nothing of a bag reached it.
_SETTLED = 3.0


@dataclass(frozen=True, kw_only=True)
class PlayReport:
    """What was played.

    Attributes:
        messages: messages published per topic, in all passes.
        skipped: topic -> type that is not installed.
        seconds: wall time from the first to the last message.
        late: the furthest that publishing fell behind the bag's pace, seconds.
        passes: how often the bag was played to its end.
    """

    messages: dict[str, int]
    skipped: dict[str, str]
    seconds: float
    late: float
    passes: int


def play(
    path: Path,
    *,
    rate: float = 1.0,
    topics: Collection[str] | None = None,
    wait: float = 0.0,
    clock: bool = False,
    linger: float = 2.0,
    start_offset: float = 0.0,
    passes: int | None = 1,
) -> PlayReport:
    """Publish a bag's messages in its time order. Blocks until the end.

    Args:
        path: the bag.
        rate: speed, 2.0 is twice as fast as recorded.
        topics: only these; None = all.
        wait: before starting, wait up to this many seconds until subscribers have been found and
            no new one has come for three seconds; 0 = start at once.
        clock: publish /clock with the bag's time, 40 to 100 times a second.
        linger: at most this many seconds at the end for reliable subscribers to acknowledge.
        start_offset: leave out this many seconds at the bag's start, but for latched messages
            (/tf_static), which are published at once.
        passes: how often to play the bag; None = until interrupted.

    Raises:
        BagError: not a bag, a topic it does not have, no playable message, a rate that is not
            positive and finite, an offset that is not in the bag, a wait below 0, or nobody
            subscribed within ``wait``.
    """
    import rclpy
    from rclpy.duration import Duration

    if not 0 < rate < math.inf:
        raise BagError(f"rate: expected a finite number above 0, got {rate}")
    if not 0 <= start_offset < math.inf:
        raise BagError(f"start offset: expected finite seconds from 0, got {start_offset}")
    if not 0 <= wait < math.inf:
        raise BagError(f"wait: expected finite seconds from 0, got {wait}")
    with open_rosbag2(path) as bag:
        found = dict(bag.topics)
        # Whatever topics are played: two players of one bag begin at the same moment of it.
        begin_ns = bag.span_ns()[0] + round(start_offset * 1e9) if start_offset else 0
    unknown = set(topics or ()) - set(found)
    if unknown:
        raise BagError(
            f"{path} has no topic {', '.join(sorted(unknown))}; it has {', '.join(sorted(found))}"
        )
    chosen = [topic for name, topic in found.items() if topics is None or name in topics]
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    try:
        node = rclpy.create_node("crkd_player", context=context)
        publishers, skipped = _publishers(node, chosen)
        if not publishers:
            raise BagError(f"{path}: no topic of an installed message type; it has {skipped}")
        for name, kind in sorted(skipped.items()):
            node.get_logger().warning(f"{name} is not played: {kind} is not installed")
        ticker = _Clock(node) if clock else None
        if wait > 0:
            _wait_for_subscribers(publishers, wait, ticker)
        latched = {t.name for t in chosen if _is_latched(t.qos)}
        pace = _Pace(rate=rate, ticker=ticker)
        counts: dict[str, int] = dict.fromkeys(publishers, 0)
        played, started = 0, time.monotonic()
        try:
            while passes is None or played < passes:
                if not _publish(
                    path, publishers, counts, pace, begin_ns=begin_ns, latched=latched
                ):
                    after = f" after {start_offset:g} s" if start_offset else ""
                    raise BagError(f"{path}: no message on {', '.join(publishers)}{after}")
                played += 1
        except KeyboardInterrupt:
            if passes is not None:
                raise
        seconds = time.monotonic() - started
        for publisher in publishers.values():
            if publisher.get_subscription_count():
                publisher.wait_for_all_acked(Duration(seconds=linger / len(publishers)))
        node.destroy_node()
    finally:
        rclpy.shutdown(context=context)
    return PlayReport(
        messages=counts, skipped=skipped, seconds=seconds, late=pace.late, passes=played
    )


def _publishers(node: Any, topics: list[Topic]) -> tuple[dict[str, Any], dict[str, str]]:
    publishers, skipped = {}, {}
    for topic in topics:
        try:
            kind = message_class(topic.type_name)
        except MessageError:
            skipped[topic.name] = topic.type_name
            continue
        publishers[topic.name] = node.create_publisher(kind, topic.name, _profile(topic.qos))
    return publishers, skipped


def _profile(recorded: Qos | None) -> Any:
    """The recorded QoS; what is unknown becomes reliable, volatile, keep last 10."""
    from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

    best_effort = recorded and recorded.reliability == QosReliability.BEST_EFFORT
    keep_all = recorded and recorded.history == QosHistory.KEEP_ALL
    return QoSProfile(
        history=HistoryPolicy.KEEP_ALL if keep_all else HistoryPolicy.KEEP_LAST,
        depth=(recorded.depth if recorded else 0) or 10,
        reliability=ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL
        if _is_latched(recorded)
        else DurabilityPolicy.VOLATILE,
    )


def _is_latched(recorded: Qos | None) -> bool:
    return recorded is not None and recorded.durability == QosDurability.TRANSIENT_LOCAL


class _Clock:
    """Publishes /clock."""

    def __init__(self, node: Any) -> None:
        self._kind = message_class("rosgraph_msgs/msg/Clock")
        # Reliable: best-effort subscribers (use_sim_time) match as well as others.
        self._publisher = node.create_publisher(self._kind, "/clock", 1)

    def listeners(self) -> int:
        """How many have been found."""
        found: int = self._publisher.get_subscription_count()
        return found

    def publish(self, stamp_ns: int) -> None:
        message = self._kind()
        message.clock.sec, message.clock.nanosec = divmod(stamp_ns, 1_000_000_000)
        self._publisher.publish(message)


def _wait_for_subscribers(publishers: dict[str, Any], limit: float, ticker: _Clock | None) -> None:
    """Until there are some, and no new one comes; those of /clock would miss its first ticks."""
    started = changed = time.monotonic()
    before = (0, 0)
    while True:
        now = time.monotonic()
        count = sum(publisher.get_subscription_count() for publisher in publishers.values())
        found = count, ticker.listeners() if ticker else 0
        if found != before:
            before, changed = found, now
        if count and now - changed >= _SETTLED:
            return
        if now - started > limit:
            if count:
                return
            raise BagError(
                f"nobody subscribed to {', '.join(publishers)} within {limit:g} s; is the node up "
                "in the same ROS_DOMAIN_ID?"
            )
        time.sleep(0.05)


class _Pace:
    """Holds publishing to the bag's pace, and tells the time on the way."""

    def __init__(self, *, rate: float, ticker: _Clock | None) -> None:
        self._rate, self._ticker = rate, ticker
        self._first_ns, self._started = 0, 0.0
        self._ticked = -math.inf
        #: The furthest behind so far, seconds.
        self.late = 0.0

    def start(self, stamp_ns: int) -> None:
        """The moment ``stamp_ns`` is now."""
        self._first_ns, self._started = stamp_ns, time.monotonic()
        self._ticked = -math.inf

    def wait(self, stamp_ns: int) -> None:
        """Return when ``stamp_ns`` is due."""
        due = self._started + (stamp_ns - self._first_ns) * 1e-9 / self._rate
        while True:
            now = time.monotonic()
            ahead = due - now
            if self._ticker is not None and now - self._ticked >= _CLOCK_REST:
                self._ticker.publish(stamp_ns - int(max(ahead, 0.0) * self._rate * 1e9))
                self._ticked = now
            if ahead <= 0:
                self.late = max(self.late, -ahead)
                return
            time.sleep(min(ahead, _CLOCK_PERIOD))


def _publish(
    path: Path,
    publishers: dict[str, Any],
    counts: dict[str, int],
    pace: _Pace,
    *,
    begin_ns: int,
    latched: Collection[str],
) -> bool:
    """Publish the bag once from ``begin_ns`` on; ``counts`` grows. False: nothing was due."""
    started = False
    for record in read_bag(path, topics=publishers):
        if record.stamp_ns >= begin_ns:
            if not started:
                started = True
                pace.start(record.stamp_ns)
            pace.wait(record.stamp_ns)
        elif record.topic not in latched:
            continue
        publishers[record.topic].publish(record.data)
        counts[record.topic] += 1
    return started
