"""What the node costs beside its network. Command `crkd overhead`.

Plays a drive over DDS to the real node in its own process, slowly enough that every frame is
answered, and tells where a frame's time goes, what the process spends on it by thread, and what
each message costs. The network is timed too, and kept apart.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from crkd_core.infer.engines.files import detector_config
from crkd_core.tables import Table
from crkd_ros.bench.drive_loop import DriveLoop
from crkd_ros.bench.message_costs import Cost, message_costs
from crkd_ros.bench.node_peer import Told, connect, peer
from crkd_ros.bench.process_stats import MAIN, POOL, cpu_by_thread, spent_between
from crkd_ros.bench.short_drive import ShortDrive
from crkd_ros.convert import arrays
from crkd_ros.node.latency import STAGES
from crkd_ros.node.launching import detector_command, own_network, process
from crkd_ros.parameters.framing import FramingConfig

#: Frames that are not counted: caches fill, pages are touched for the first time.
_WARM_UP = 5
#: Frames may take so many times as long as they should, and the first one so many seconds.
_PATIENCE, _START = 10.0, 60.0
#: Wait for the answer to the last frame, seconds.
_LAST_FRAME = 1.5
#: The stages that are work of the node; "wait" is the sensors' time and the network's.
_WORK = (*(stage for stage in STAGES if stage not in ("wait", "network")), "other")
#: What the detecting thread computes and does not wait for.
_COMPUTED = ("prepare", "network", "decode", "publish")


class OverheadError(RuntimeError):
    """Settings that cannot be measured, or too few frames."""


@dataclass(frozen=True, kw_only=True)
class Overhead:
    """What was measured; milliseconds.

    Attributes:
        frames: how many were counted.
        stages: stage -> (mean, 95 % quantile) of wall time on the frame's way.
        threads: kind of thread -> processor time a frame.
        messages: what each message costs, and how many of it come with a frame.
        cores: that the node was given.
        parameters: of the node, as text.
    """

    frames: int
    stages: dict[str, tuple[float, float]]
    threads: dict[str, float]
    messages: list[tuple[Cost, float]]
    cores: int
    parameters: dict[str, str]

    @property
    def on_the_way(self) -> float:
        """Mean wall time a frame, everything but network and waiting."""
        return sum(self.stages[stage][0] for stage in _WORK if stage in self.stages)

    @property
    def processor(self) -> float:
        """Processor time a frame, everything but the network."""
        return sum(spent for name, spent in self.threads.items() if name != "network")


def last_cores(count: int) -> list[int]:
    """So many of the processor cores that we may use, the last ones.

    Raises:
        OverheadError: there are fewer.
    """
    available = sorted(os.sched_getaffinity(0))
    if count > len(available):
        raise OverheadError(f"--cores: asked for {count}, there are {len(available)}")
    return available[-count:]


def overhead(
    drive: ShortDrive,
    folder: Path,
    *,
    weights: Path,
    frames: int,
    rate_hz: float,
    cores: int,
    framing: FramingConfig | None = None,
    parameters: Mapping[str, object] | None = None,
) -> Overhead:
    """Measure it.

    Args:
        drive: what is played.
        folder: for node.log.
        weights: of the detector.
        frames: to count; playing ends when so many were answered.
        rate_hz: of the cameras; slow enough for the network.
        cores: processor cores that the node gets.
        framing: what the node makes of ``parameters`` with these weights: what it does not
            subscribe to is not played.
        parameters: more parameters of the node.

    Raises:
        OverheadError: fewer cores than asked for, or frames are answered far too slowly.
        PeerError, ProcessError: the node did not come up.
        BagError, LoopError: the bag cannot be played.
    """
    own_network()
    taken = last_cores(cores)
    loop, told = DriveLoop(drive.bag, rate_hz=rate_hz, framing=framing), Told()
    given: dict[str, object] = {"weights": weights, "calibration_file": drive.calibration}
    given |= loop.parameters | dict(parameters or {})
    with (
        process(detector_command(given, cores=taken), log=folder / "node.log") as node,
        peer(loop.types, told) as publishers,
    ):
        connect(node, publishers)
        begin = _Window(node.pid, loop, told, frames)
        limit = _START + _PATIENCE * (_WARM_UP + frames) / rate_hz
        loop.run(publishers, seconds=limit, stop=begin)
        time.sleep(_LAST_FRAME)
        after, counted = cpu_by_thread(node.pid), told.boxes - begin.frames
        node.check()
    if told.boxes < _WARM_UP + frames:
        raise OverheadError(
            f"{told.boxes} frames were answered in {limit:.0f} s; give a lower --rate-hz (see "
            f"{folder / 'node.log'})"
        )
    latency = {stage: values[_WARM_UP:] for stage, values in told.latency.items()}
    stages = {stage: _summary(values) for stage, values in latency.items() if values}
    spent = {
        name: 1e3 * seconds / counted
        for name, seconds in spent_between(begin.threads, after).items()
    }
    kinds = {
        kind: (sum(loop.sent[t] - begin.sent[t] for t in loop.sent if loop.types[t] == kind))
        for kind in set(loop.types.values())
    }
    config = detector_config(weights)
    return Overhead(
        frames=counted,
        stages=stages,
        threads=_by_kind(spent, {stage: mean for stage, (mean, _) in stages.items()}),
        messages=[
            (cost, kinds.get(cost.kind, 0) / counted if cost.kind else 1.0)
            for cost in message_costs(
                drive.bag,
                image=config.image,
                boxes=[
                    arrays.boxes_from_cloud(message, config.classes) for message in told.recent
                ],
            )
        ],
        cores=cores,
        parameters={name: str(value) for name, value in given.items()},
    )


class _Window:
    """Looks at the node when it is warm; True when enough frames have come since.

    Asked by the loop before each message.
    """

    def __init__(self, pid: int, loop: DriveLoop, told: Told, enough: int) -> None:
        self._pid, self._loop, self._told, self._enough = pid, loop, told, enough
        self.frames = 0
        self.threads: dict[int, tuple[str, float]] = {}
        self.sent: Counter[str] = Counter()

    def __call__(self) -> bool:
        if not self.frames and self._told.boxes >= _WARM_UP:
            self.frames = self._told.boxes
            self.threads = cpu_by_thread(self._pid)
            self.sent = self._loop.sent.copy()
        return bool(self.frames) and self._told.boxes >= self.frames + self._enough


def _summary(values: list[float]) -> tuple[float, float]:
    ordered = sorted(values)
    return sum(ordered) / len(ordered), ordered[max(0, math.ceil(0.95 * len(ordered)) - 1)]


def _by_kind(spent: Mapping[str, float], walls: Mapping[str, float]) -> dict[str, float]:
    """Threads by what they do, whatever the middleware: it alone names threads that we do not.

    The detecting thread carries the network too, beside threads that torch makes for it. Its part
    is its wall time while the thread is busy throughout. On a busy machine it is not, and the
    network's part is that of the stages that the thread computes.

    Args:
        spent: thread -> processor ms a frame.
        walls: stage -> mean wall ms.
    """
    network = walls["network"]
    computed = sum(walls.get(stage, 0.0) for stage in _COMPUTED)
    kinds = ("callbacks", "executor", "decode", "detect, publish", "DDS", "network", POOL)
    found = dict.fromkeys(kinds, 0.0)
    for name, milliseconds in spent.items():
        if name == MAIN:
            found["executor"] += milliseconds
        elif name == "receive":
            found["callbacks"] += milliseconds
        elif name == "network":  # Threads that torch has made for it (node/worker.py).
            found["network"] += milliseconds
        elif name == "detect":
            inside = network * min(1.0, milliseconds / computed)
            found["network"] += inside
            found["detect, publish"] += milliseconds - inside
        else:
            found[name if name in ("decode", POOL) else "DDS"] += milliseconds
    return found


def tables(found: Overhead) -> list[Table]:
    """The figures, for a terminal or a report."""
    way = [
        (stage, *(f"{value:.2f}" for value in found.stages[stage]))
        for stage in (*_WORK, "wait", "network", "total")
        if stage in found.stages
    ]
    place = sum(stage in found.stages for stage in _WORK)
    way.insert(place, ("overhead: all but network and wait", f"{found.on_the_way:.2f}", ""))
    threads = [(name, f"{value:.2f}") for name, value in found.threads.items()]
    threads.insert(-1, ("overhead: all but network", f"{found.processor:.2f}"))
    messages = [
        (cost.name, f"{cost.milliseconds:.3f}", f"{n:.1f}", f"{n * cost.milliseconds:.2f}")
        for cost, n in found.messages
    ]
    title = f"on the way of a frame, wall ms ({found.frames} frames, {found.cores} cores)"
    return [
        Table(title=title, columns=("stage", "mean", "p95"), rows=way),
        Table(title="processor ms a frame", columns=("threads", "ms"), rows=threads),
        Table(
            title="what one message costs, processor ms (measured alone)",
            columns=("work", "each", "a frame", "ms a frame"),
            rows=messages,
        ),
    ]


def as_json(found: Overhead) -> str:
    """The same for programs."""
    content = {
        "frames": found.frames,
        "cores": found.cores,
        "parameters": found.parameters,
        "overhead_wall_ms": found.on_the_way,
        "overhead_processor_ms": found.processor,
        "network_wall_ms": found.stages["network"][0],
        "stages_wall_ms": {
            name: {"mean": mean, "p95": p95} for name, (mean, p95) in found.stages.items()
        },
        "threads_processor_ms": found.threads,
        "messages": [
            {"work": cost.name, "processor_ms": cost.milliseconds, "per_frame": n}
            for cost, n in found.messages
        ],
    }
    return json.dumps(content, indent=1)
