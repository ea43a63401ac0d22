"""The real node under a drive that never ends. Command `crkd soak`.

Plays messages at the rate of the cameras to the node in its own process, over DDS, and looks at
the process each second: does memory grow, is a message lost, does a frame take longer than before.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress

from crkd_core.progress import Bar
from crkd_ros.bench import soak_report
from crkd_ros.bench.drive_loop import DriveLoop
from crkd_ros.bench.node_peer import by_sensor, connect, peer
from crkd_ros.bench.process_stats import sample
from crkd_ros.bench.short_drive import ShortDrive
from crkd_ros.bench.soak_report import SoakRecord, Verdict
from crkd_ros.node.launching import ProcessError, Running, detector_command, own_network, process
from crkd_ros.parameters.framing import FramingConfig

#: Longest wait at the end for the node to count what is still on its way, seconds.
_DRAIN = 15.0
#: Seconds between two versions of soak.json while it runs.
_SAVE_EVERY = 60.0


class SoakError(RuntimeError):
    """Settings that cannot be run."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How long, and what is judged.

    Attributes:
        seconds: of playing.
        rate_hz: of the cameras.
        warm_up: seconds at the start that memory is not judged in.
        tolerance: MiB/hour that memory may grow: what no measurement of this length excludes.
    """

    seconds: float
    rate_hz: float
    warm_up: float
    tolerance: float


def soak(
    drive: ShortDrive,
    out: Path,
    *,
    weights: Path,
    limits: Limits,
    framing: FramingConfig | None = None,
    parameters: Mapping[str, object] | None = None,
) -> tuple[SoakRecord, Verdict]:
    """Run it; an interruption (Ctrl-C) ends it early with the results so far.

    Writes soak.json, soak.png and node.log to ``out``.

    Args:
        drive: what is played.
        out: folder; made if absent.
        weights: of the detector.
        limits: how long, and what is judged.
        framing: what the node makes of ``parameters`` with these weights: what it does not
            subscribe to is not played.
        parameters: more parameters of the node.

    Raises:
        PeerError, ProcessError: the node did not come up.
        BagError, LoopError: the bag cannot be played.
    """
    own_network()
    out.mkdir(parents=True, exist_ok=True)
    loop = DriveLoop(drive.bag, rate_hz=limits.rate_hz, framing=framing)
    given: dict[str, object] = {"weights": weights, "calibration_file": drive.calibration}
    given |= loop.parameters | dict(parameters or {})
    record = SoakRecord(
        settings={
            "bag": str(drive.bag),
            "seconds": limits.seconds,
            "rate_hz": limits.rate_hz,
            "warm_up": limits.warm_up,
            "tolerance_mib_per_hour": limits.tolerance,
            "parameters": {name: str(value) for name, value in given.items()},
        }
    )
    with (
        process(detector_command(given), log=out / "node.log") as node,
        peer(loop.types, record.told) as publishers,
    ):
        connect(node, publishers)
        watch = _Watch(node, record, loop, out, limits)
        interrupted = False
        try:
            watch.start()
            try:
                loop.run(publishers, seconds=limits.seconds, stop=lambda: bool(record.error))
            except KeyboardInterrupt:
                interrupted = True
            # Also then: what is on its way is not lost.
            _drain(record, loop, watch)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            watch.stop()
        if interrupted and not record.error:
            record.error = "interrupted"
    verdict = soak_report.judge(record, warm_up=limits.warm_up, tolerance=limits.tolerance)
    soak_report.save(record, verdict, out / "soak.json")
    if record.samples:
        soak_report.picture(record, out / "soak.png", warm_up=limits.warm_up, verdict=verdict)
    return record, verdict


class _Watch:
    """A thread that looks at the node's process each second."""

    def __init__(
        self, node: Running, record: SoakRecord, loop: DriveLoop, out: Path, limits: Limits
    ) -> None:
        self._node, self._record, self._loop = node, record, loop
        self._out, self._limits = out, limits
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        self._record.started = time.monotonic()
        # At once, so that the shortest run has something to show.
        self._record.samples.append(sample(self._node.pid))
        self._thread.start()

    def stop(self) -> None:
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()
        self.note()

    def note(self) -> None:
        """Bring the record's counts up to date."""
        self._record.sent = by_sensor(self._loop.sent, self._loop.types)
        self._record.late = self._loop.late

    def _run(self) -> None:
        saved = time.monotonic()
        with Bar(*Progress.get_default_columns(), unit="second", stays=False) as progress:
            task = progress.add_task("soak", total=self._limits.seconds)
            while not self._end.wait(1.0):
                try:
                    self._node.check()
                    self._record.samples.append(sample(self._node.pid))
                except (OSError, ProcessError) as error:
                    self._record.error = str(error)
                    return
                last, frames = (
                    self._record.samples[-1],
                    self._record.told.frames.get("published", 0),
                )
                text = f"{last.rss:.0f} MiB, {last.threads} threads, {frames} frames"
                done = last.at - self._record.started
                progress.update(task, completed=done, description=text)
                if last.at - saved > _SAVE_EVERY:
                    saved = last.at
                    self.note()
                    limits = self._limits
                    verdict = soak_report.judge(
                        self._record, warm_up=limits.warm_up, tolerance=limits.tolerance
                    )
                    soak_report.save(self._record, verdict, self._out / "soak.json")


def _drain(record: SoakRecord, loop: DriveLoop, watch: _Watch) -> None:
    """Wait for the node to tell of the last messages."""
    deadline = time.monotonic() + _DRAIN
    watch.note()
    while (
        (record.lost() or not record.told.frames)
        and time.monotonic() < deadline
        and not record.error
    ):
        time.sleep(0.2)
