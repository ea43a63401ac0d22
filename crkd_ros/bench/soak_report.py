"""What a soak found: does memory grow, was anything lost. Pure, but for the picture."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from crkd_core.files import write_json
from crkd_core.png import write_figure
from crkd_core.tables import Table
from crkd_ros.bench.node_peer import Told
from crkd_ros.bench.process_stats import ProcessSample

#: Memory is judged by the means of so many stretches: neighbouring samples say the same twice.
_BLOCKS = 24
#: Fewer samples (seconds) after warming up say nothing of a slope.
MIN_SAMPLES = 60
_HOUR = 3600.0


@dataclass(frozen=True, kw_only=True)
class Slope:
    """Growth of memory in MiB per hour, with its 95 % confidence interval."""

    value: float
    low: float
    high: float


@dataclass(kw_only=True)
class SoakRecord:
    """Everything that was noted.

    Attributes:
        settings: what was run, for the report.
        started: time.monotonic of the first message.
        samples: of the node's process, one a second.
        sent: sensor -> messages sent; "odometry" and "CAM_FRONT camera_info" are among them.
        told: what the node has told.
        late: the furthest that sending fell behind, seconds.
        error: why it ended early; "" = it did not.
    """

    settings: dict[str, Any]
    started: float = 0.0
    samples: list[ProcessSample] = dataclasses.field(default_factory=list)
    sent: dict[str, int] = dataclasses.field(default_factory=dict)
    told: Told = dataclasses.field(default_factory=Told)
    late: float = 0.0
    error: str = ""

    def settled(self, warm_up: float) -> list[ProcessSample]:
        """The samples after warming up."""
        return [sample for sample in self.samples if sample.at - self.started >= warm_up]

    def lost(self) -> dict[str, int]:
        """Sensor -> messages that were sent and not received."""
        short = {name: sent - self.told.received.get(name, 0) for name, sent in self.sent.items()}
        return {name: count for name, count in short.items() if count > 0}


def slope(seconds: Sequence[float], values: Sequence[float]) -> Slope | None:
    """A straight line through the means of equal stretches; None: too few samples.

    The interval is Student's, on the stretches' residuals.
    """
    if len(values) < MIN_SAMPLES:
        return None
    blocks = min(_BLOCKS, len(values) // 10)
    times = [float(part.mean()) for part in np.array_split(np.asarray(seconds), blocks)]
    means = [float(part.mean()) for part in np.array_split(np.asarray(values), blocks)]
    line = stats.linregress(times, means)
    # Values that never change leave no residuals, and 0 / 0.
    margin = float(np.nan_to_num(line.stderr)) * float(stats.t.ppf(0.975, blocks - 2))
    hourly = [float(_HOUR * v) for v in (line.slope, line.slope - margin, line.slope + margin)]
    return Slope(value=hourly[0], low=hourly[1], high=hourly[2])


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The judgement: ``grows`` is None where the run was too short to tell."""

    memory: Slope | None
    grows: bool | None
    lost: dict[str, int]

    @property
    def good(self) -> bool:
        """Nothing was lost, and memory is not seen to grow."""
        return not self.lost and not self.grows


def judge(record: SoakRecord, *, warm_up: float, tolerance: float) -> Verdict:
    """Memory grows when even the lower end of the interval is above ``tolerance`` MiB/hour."""
    settled = record.settled(warm_up)
    memory = slope([s.at for s in settled], [s.rss for s in settled])
    grows = None if memory is None else bool(memory.low > tolerance)
    return Verdict(memory=memory, grows=grows, lost=record.lost())


def tables(
    record: SoakRecord, verdict: Verdict, *, warm_up: float, tolerance: float
) -> list[Table]:
    """The figures, for a terminal or a report."""
    rows = [*_process_rows(record, verdict, warm_up, tolerance), *_message_rows(record, verdict)]
    title = "soak" if verdict.good else "soak: FAILED"
    title += f" (ended early: {record.error})" if record.error else ""
    overall = Table(title=title, columns=("", "value"), rows=rows)
    latency = Table(
        title="latency, ms a frame",
        columns=("stage", "mean", "p50", "p95", "p99", "max"),
        rows=[
            (name, *(f"{value:.1f}" for value in _percentiles(values)))
            for name, values in record.told.latency.items()
            if values
        ],
    )
    return [overall, latency]


def _process_rows(
    record: SoakRecord, verdict: Verdict, warm_up: float, tolerance: float
) -> list[tuple[str, str]]:
    settled = record.settled(warm_up)
    if not record.samples:
        return []
    memory = verdict.memory
    last = record.samples[-1]
    rows = [("minutes", f"{(last.at - record.started) / 60:.1f}")]
    if memory is None:
        rows.append(("memory slope, MiB/hour", "the run was too short to tell"))
    else:
        word = "grows" if verdict.grows else "flat"
        rows.append(
            (
                "memory slope, MiB/hour",
                f"{memory.value:+.2f} (95 %: {memory.low:+.2f} to {memory.high:+.2f}; tolerance "
                f"{tolerance:g}): {word}",
            )
        )
    if settled:
        rss = [s.rss for s in settled]
        cores = (settled[-1].cpu - settled[0].cpu) / max(settled[-1].at - settled[0].at, 1e-9)
        rows += [
            ("memory, MiB: first, last, largest", f"{rss[0]:.1f}, {rss[-1]:.1f}, {max(rss):.1f}"),
            ("threads: least, most", f"{_ends(s.threads for s in settled)}"),
            ("open files: least, most", f"{_ends(s.files for s in settled)}"),
            ("processor cores", f"{cores:.2f}"),
        ]
    return rows


def _message_rows(record: SoakRecord, verdict: Verdict) -> list[tuple[str, str]]:
    lost = ", ".join(f"{name} {count}" for name, count in verdict.lost.items())
    frames = ", ".join(f"{count} {name}" for name, count in record.told.frames.items())
    return [
        ("messages sent", str(sum(record.sent.values()))),
        ("messages lost", f"{sum(verdict.lost.values())} {f'({lost})' if lost else ''}".strip()),
        ("frames", frames or "none"),
        ("boxes that arrived", str(record.told.boxes)),
        ("sending late at most, ms", f"{1e3 * record.late:.0f}"),
        *((f"problem: {kind}", text) for kind, text in record.told.problems.items()),
    ]


def save(record: SoakRecord, verdict: Verdict, path: Path) -> None:
    """Write everything as JSON; the file is always whole."""
    content = {
        "good": verdict.good,
        "grows": verdict.grows,
        "memory_slope_mib_per_hour": verdict.memory and dataclasses.asdict(verdict.memory),
        "lost": verdict.lost,
        "error": record.error,
        "settings": record.settings,
        "sent": record.sent,
        "received": record.told.received,
        "frames": record.told.frames,
        "boxes": record.told.boxes,
        "problems": record.told.problems,
        "sending_late_s": record.late,
        "latency_ms": {
            name: dict(zip(("mean", "p50", "p95", "p99", "max"), _percentiles(v), strict=True))
            for name, v in record.told.latency.items()
            if v
        },
        "samples": [
            {**dataclasses.asdict(sample), "at": sample.at - record.started}
            for sample in record.samples
        ],
    }
    write_json(content, path, indent=1)


def picture(record: SoakRecord, path: Path, *, warm_up: float, verdict: Verdict) -> None:
    """Memory and latency over time as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7), dpi=110, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    minutes = [(sample.at - record.started) / 60 for sample in record.samples]
    above.plot(minutes, [sample.rss for sample in record.samples], label="resident")
    above.plot(minutes, [sample.anonymous for sample in record.samples], label="its own part")
    above.axvline(warm_up / 60, color="grey", linestyle=":", label="judged from here")
    if (memory := verdict.memory) is not None:
        above.set_title(f"{memory.value:+.2f} MiB/hour ({memory.low:+.2f} to {memory.high:+.2f})")
    above.set_ylabel("memory of the node, MiB")
    above.set_ylim(bottom=0)
    above.legend()
    total = record.told.latency.get("total", [])
    at = [(when - record.started) / 60 for when in record.told.latency_at]
    below.plot(at, total[: len(at)], ".", markersize=1)
    below.set_ylabel("trigger to boxes, ms")
    below.set_xlabel("minutes")
    below.set_ylim(bottom=0)
    write_figure(figure, path)


def _percentiles(values: Sequence[float]) -> tuple[float, float, float, float, float]:
    """Mean, median, 95 %, 99 %, largest."""
    p50, p95, p99 = (float(v) for v in np.percentile(values, (50, 95, 99)))
    return math.fsum(values) / len(values), p50, p95, p99, max(values)


def _ends(values: Any) -> str:
    values = list(values)
    return f"{min(values)}, {max(values)}"
