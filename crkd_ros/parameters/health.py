"""Parameters of what the node says of itself: /diagnostics and the check of the calibration."""

from __future__ import annotations

from dataclasses import dataclass

from crkd_ros.parameters.knobs import check, knob


@dataclass(frozen=True, kw_only=True)
class HealthConfig:
    """When /diagnostics warns."""

    period: float = knob(1.0, "Time between two /diagnostics, s", low=0.1, high=60.0)
    stale_after: float = knob(
        1.0, "A sensor silent for longer is an error, s", low=0.05, high=3600.0
    )
    start_grace: float = knob(
        10.0,
        "A sensor that has not delivered yet is a warning for so long, then an error, s",
        low=0.0,
        high=3600.0,
    )
    rate_warning: float = knob(
        5.0, "Warn of a sensor with fewer messages per second; 0: never", low=0.0, high=1000.0
    )
    age_warning: float = knob(
        0.5,
        "Warn of a sensor whose messages arrive this long after their stamps, s; 0: never",
        low=0.0,
        high=3600.0,
    )
    loss_warning: float = knob(
        0.1,
        "Warn when a larger share of a sensor's messages is late, doubled, without a stamp or "
        "stamped far from the others, or of the frames without it",
        low=0.0,
        high=1.0,
    )
    latency_warning: float = knob(
        0.3,
        "Warn when one frame in twenty takes longer from trigger to publishing, s; 0: never",
        low=0.0,
        high=3600.0,
    )
    skip_warning: float = knob(
        0.5,
        "Warn when a larger share of the complete frames is skipped for newer ones",
        low=0.0,
        high=1.0,
    )
    frame_timeout: float = knob(
        2.0,
        "No detections for this long while sensors deliver is an error, s",
        low=0.1,
        high=3600.0,
    )

    def __post_init__(self) -> None:
        check(self, "health.")


@dataclass(frozen=True, kw_only=True)
class CalibrationCheckConfig:
    """The check of the calibration at the start, see calibration_check/check.py."""

    frames: int = knob(
        48,
        "Frames at the start of a drive on which the calibration is checked; 0: no check",
        low=0,
        high=10_000,
    )

    def __post_init__(self) -> None:
        check(self, "calibration_check.")
