"""A made-up rig's stamps, through the synchroniser as replay and as the live node use it."""

from __future__ import annotations

from ros_rig import PHASES

from crkd_core.sensors import RADARS
from crkd_ros.sync.history import Arrival
from crkd_ros.sync.synchroniser import FrameSet, Synchronizer

MS = 1_000_000
START = 1_700_000_000_000 * MS


def drive(seconds=3.0, *, start=START, dead=(), camera_ms=1000 / 12):
    """(sensor, stamp) in time order, of a nuScenes-like rig."""
    events = []
    for camera, phase in PHASES.items():
        count = int((seconds * 1000 - phase * 1000) / camera_ms) + 1
        stamps = [start + round((phase * 1000 + i * camera_ms) * MS) for i in range(count)]
        events += [(camera, stamp) for stamp in stamps]
    for number, radar in enumerate(RADARS):
        first = start + (5 + 13 * number) * MS
        events += [(radar, first + i * 77 * MS) for i in range(int(seconds * 13))]
    return sorted(
        ((sensor, stamp) for sensor, stamp in events if sensor not in dead), key=lambda e: e[1]
    )


def add(sync, sensor, stamp, now=0.0):
    return sync.add(sensor, Arrival(stamp, now), (sensor, stamp))


def replay(events, config=None) -> list[FrameSet]:
    sync, out = Synchronizer(config), []
    for sensor, stamp in events:
        out += sync.flush(before_ns=stamp)
        add(sync, sensor, stamp)
    return out + sync.flush()


def live(events, arrival, config=None) -> list[FrameSet]:
    """Messages added when they arrive (seconds), frames taken as soon as they are ready."""
    sync, out = Synchronizer(config), []
    for now, (sensor, stamp) in sorted(zip(arrival, events, strict=True)):
        deadline = sync.deadline()
        if deadline is not None and deadline <= now:
            out += sync.take(deadline)
        add(sync, sensor, stamp, now)
        out += sync.take(now)
    return out + sync.take(1e18)


def simple(sets):
    return [
        (
            s.stamp_ns,
            {name: image.stamp_ns for name, image in s.images.items()},
            {name: [one.stamp_ns for one in sweeps] for name, sweeps in s.sweeps.items()},
        )
        for s in sets
    ]
