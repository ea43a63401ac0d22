"""How many frames survive when messages are lost: simulated sensors, the real synchronisers.

``python tools/sync_yield.py`` prints the table of docs/benchmarks.md.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, NamedTuple

import typer

from crkd_core.command import run_function
from crkd_core.sensors import ANCHOR_CAMERA, CAMERAS, RADARS
from crkd_core.tables import Table, print_tables
from crkd_ros.convert.ros_packages import installed
from crkd_ros.parameters.framing import SyncConfig
from crkd_ros.sync.history import Arrival
from crkd_ros.sync.stock_policy import FilterSynchronizer, StockFilters
from crkd_ros.sync.synchroniser import FrameSet, Synchronizer

#: When each camera of a nuScenes rig fires after the first one, seconds.
FIRING = {
    "CAM_FRONT_LEFT": 0.0,
    "CAM_FRONT": 0.008,
    "CAM_FRONT_RIGHT": 0.015,
    "CAM_BACK_RIGHT": 0.024,
    "CAM_BACK": 0.033,
    "CAM_BACK_LEFT": 0.042,
}
#: Some moment: stamps must not be zero.
START_NS = 1_700_000_000_000_000_000
_RADAR_PERIOD = 0.077
_RADAR_STEP = 0.013


class Event(NamedTuple):
    """One message: when it was measured and when it came, seconds after START_NS."""

    arrival: float
    stamp_ns: int
    sensor: str
    #: Which turn of the cameras it belongs to; -1: a radar's.
    turn: int


class Drive(NamedTuple):
    """Messages in the order of their arrival, and how many turns they are of."""

    events: list[Event]
    turns: int


def simulate(
    seconds: float,
    *,
    seed: int = 0,
    loss: float = 0.0,
    lateness: float = 0.0,
    jitter: float = 0.0,
    dead: Sequence[str] = (),
    silent: Mapping[str, tuple[float, float]] | None = None,
    intervals: Sequence[float] = (1 / 12,),
    firing: Mapping[str, float] = FIRING,
) -> Drive:
    """Messages of six cameras and five radars (13 Hz, not in step with the cameras).

    Args:
        seconds: length.
        seed: of losses, delays and jitter.
        loss: share of all messages that never arrives.
        lateness: messages arrive up to this much after they were measured, s. A topic keeps its
            order, topics overtake each other.
        jitter: stamps are off by up to this much, s.
        dead: sensors without a message.
        silent: sensor -> from when to when it delivers nothing.
        intervals: between the cameras' turns, s, repeated.
        firing: camera -> when it fires in a turn, s.
    """
    rng = random.Random(seed)
    measured: list[tuple[float, str, int]] = []
    start, turns = 0.0, 0
    while start < seconds:
        measured += [(start + phase, camera, turns) for camera, phase in firing.items()]
        start += intervals[turns % len(intervals)]
        turns += 1
    for number, radar in enumerate(RADARS):
        for index in range(int(seconds / _RADAR_PERIOD)):
            measured.append((index * _RADAR_PERIOD + (number + 0.4) * _RADAR_STEP, radar, -1))
    events, newest = [], dict.fromkeys(CAMERAS + RADARS, 0.0)
    for time, sensor, turn in sorted(measured):
        time += rng.uniform(-jitter, jitter)
        gone, back = (silent or {}).get(sensor, (0.0, 0.0))
        if sensor in dead or gone < time < back or rng.random() < loss:
            continue
        newest[sensor] = max(newest[sensor], time + rng.uniform(0, lateness))
        events.append(Event(newest[sensor], START_NS + round(time * 1e9), sensor, turn))
    return Drive(sorted(events), turns)


def feed(sync: Synchronizer, event: Event) -> bool:
    """Give one message to a synchroniser; its item is the event."""
    return sync.add(event.sensor, Arrival(event.stamp_ns, event.arrival), event)


def stock_sets(events: Iterable[Event], config: SyncConfig) -> list[int]:
    """Turn of each set that the stock synchroniser forms over all sensors' topics.

    Raises:
        SyncError: message_filters is not installed.
    """
    filters = StockFilters(CAMERAS + RADARS, slop=config.slop, queue_size=config.queue_size)
    return [
        max(one.image.item.turn for one in found)
        for event in events
        for found in filters.add(event.sensor, Arrival(event.stamp_ns, event.arrival), event)
    ]


def run_live(sync: Synchronizer, events: Iterable[Event]) -> list[FrameSet]:
    """Frames as the node takes them: as soon as they are ready, or have waited their time."""
    frames = []
    for event in events:
        while (deadline := sync.deadline()) is not None and deadline <= event.arrival:
            frames += sync.take(deadline)
        feed(sync, event)
        frames += sync.take(event.arrival)
    return frames + sync.take(float("inf"))


def run_replay(sync: Synchronizer, events: Iterable[Event]) -> list[FrameSet]:
    """Frames as the replay takes them: messages in the order of their stamps."""
    frames = []
    for event in sorted(events, key=lambda event: event.stamp_ns):
        frames += sync.flush(before_ns=event.stamp_ns)
        feed(sync, event)
    return frames + sync.flush()


def turns_of(frames: Iterable[FrameSet]) -> list[int]:
    """Which turn each frame's reference is of; -1: of none, a radar asked for it."""
    return [
        frame.images[frame.trigger].item.turn if frame.trigger in frame.images else -1
        for frame in frames
    ]


#: Name, and what happens to the messages.
_CASES: tuple[tuple[str, dict[str, object]], ...] = (
    ("nothing lost", {}),
    ("10 % lost", {"loss": 0.1}),
    ("30 % lost", {"loss": 0.3}),
    ("10 % lost, up to 40 ms late", {"loss": 0.1, "lateness": 0.04}),
    ("30 % lost, up to 40 ms late", {"loss": 0.3, "lateness": 0.04}),
    (f"{ANCHOR_CAMERA} dead", {"dead": (ANCHOR_CAMERA,)}),
    ("CAM_FRONT dead", {"dead": ("CAM_FRONT",)}),
    ("CAM_FRONT dead, 10 % lost", {"dead": ("CAM_FRONT",), "loss": 0.1}),
    ("three cameras dead", {"dead": ("CAM_FRONT", "CAM_BACK", ANCHOR_CAMERA)}),
    ("all radars dead", {"dead": RADARS}),
)


def yield_table(seconds: float, seed: int = 0) -> Table:
    """Share of the cameras' turns that gave a frame, by policy and by what was lost."""
    policies: list[Callable[[Drive], list[int]] | None] = [
        lambda drive: turns_of(run_live(Synchronizer(), drive.events)),
        lambda drive: turns_of(run_live(FilterSynchronizer(), drive.events)),
        lambda drive: stock_sets(drive.events, SyncConfig()),
    ]
    if not installed("message_filters"):
        policies[1:] = [None, None]
    rows = []
    for name, what in _CASES:
        drive = simulate(seconds, seed=seed, **what)  # type: ignore[arg-type]
        cells = []
        for policy in policies:
            found = set(policy(drive)) - {-1} if policy else set()
            cells.append(f"{100 * len(found) / drive.turns:.1f} %" if policy else "-")
        rows.append([name, *cells])
    return Table(
        title=f"frames per turn of the cameras, {seconds:g} s, seed {seed}",
        columns=("messages", "anchor", "message_filters, 6 images", "the same, 11 topics"),
        rows=rows,
    )


def command(
    seconds: Annotated[float, typer.Option(min=1.0, help="Length of each drive.")] = 60.0,
    seed: Annotated[int, typer.Option(help="Of losses and delays.")] = 0,
) -> None:
    """Frames that survive lost messages, on simulated sensors; "-": message_filters not here."""
    print_tables(yield_table(seconds, seed))


def main() -> None:
    """Entry point of ``python tools/sync_yield.py``."""
    run_function(command)


if __name__ == "__main__":
    main()
