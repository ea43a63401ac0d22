"""How good the live node is at several rates of playing. Command `crkd live`.

Each rate is one run of session.py; what came is scored offline and at the moment it became
available (streaming.py), next to latency and lost frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from rich.console import Console

from crkd_core.boxes import SCORED_FROM
from crkd_core.progress import stderr_console
from crkd_ros.bags import recorded_calibration
from crkd_ros.bags.frames import layout_of
from crkd_ros.streaming_eval.naming import naming
from crkd_ros.streaming_eval.players import PlayerName
from crkd_ros.streaming_eval.session import run_session

if TYPE_CHECKING:
    from crkd_core.data.nuscenes.reader import NuScenes
    from crkd_core.evaluate.metrics import Evaluation
    from crkd_ros.streaming_eval.scores import PassScores


def score_rates(
    bag: Path,
    *,
    weights: Path,
    tables: NuScenes,
    split: str,
    out: Path,
    rates: Sequence[float] = (0.5, 1.0, 2.0),
    parameters: Mapping[str, object] | None = None,
    files: Sequence[Path] = (),
    player: PlayerName = "auto",
    offline: bool = True,
    topics: Mapping[str, str] | None = None,
    console: Console | None = None,
) -> tuple[list[PassScores], Evaluation | None]:
    """Play a bag at several rates and score each; logs and calibration land in ``out``.

    Args:
        bag: a rosbag2 of one scene of the data set.
        weights: the detector.
        tables: the annotated data set.
        split: one with the scene.
        out: folder; made if missing.
        rates: of playing.
        parameters: of the node, above those set here (weights, calibration, score threshold).
        files: parameter files of the node.
        player: see ``player_command``.
        offline: also run the detector on every key frame, for comparison.
        topics: what the user names, see ``find_layout``.
        console: for progress.

    Raises:
        ProcessError, SessionError: node or player failed.
        ScoreError: the bag is not of this data set and split.
    """
    from crkd_ros.streaming_eval.scores import samples_between, score_pass

    say = console or stderr_console()
    out.mkdir(parents=True, exist_ok=True)
    recorded_calibration.of_bag(bag, topics=topics).save(out / "calibration.yaml")
    names = naming(layout_of(bag, topics=topics))
    chosen = {
        "weights": weights.absolute(),
        "calibration_file": (out / "calibration.yaml").absolute(),
        "score_threshold": SCORED_FROM,
        **(parameters or {}),
    }
    base = str(chosen.get("base_frame", "base_link"))
    passes, spans = [], []
    for rate in rates:
        say.print(f"live at {rate:g}x", highlight=False)
        logs = out / f"rate_{rate:g}"
        one = run_session(
            bag,
            parameters=chosen,
            logs=logs,
            rate=rate,
            files=files,
            player=player,
            naming=names,
        )
        spans.append((one.first_ns, one.last_ns))
        passes.append(score_pass(tables, split, one, base_frame=base, rate=rate))
    if not offline:
        return passes, None
    say.print("the same detector offline, on every key frame", highlight=False)
    first, last = min(span[0] for span in spans), max(span[1] for span in spans)
    samples, _ = samples_between(tables, split, first, last)
    return passes, evaluate_offline(tables, list(samples.values()), weights, chosen)


def evaluate_offline(
    tables: NuScenes, tokens: Sequence[str], weights: Path, parameters: Mapping[str, object]
) -> Evaluation:
    """Metrics of a detector on these samples, computed as the node computes."""
    from crkd_core.data.nuscenes.reader import NuScenesFrames
    from crkd_core.evaluate.predict import detect, load_detector
    from crkd_core.evaluate.scoring import score
    from crkd_core.evaluate.submission import Answer, make_submission

    detector = load_detector(
        weights,
        tables,
        device=str(parameters.get("device", "cpu")),
        precision=str(parameters.get("precision", "fp32")),
        engine=str(parameters.get("engine", "torch")),
        score_threshold=float(cast(float, parameters["score_threshold"])),
    )
    frames = NuScenesFrames.for_detectors(tables, tokens, detector.config)
    answers = (Answer.to(frame, found) for frame, found in detect(detector, frames, "offline"))
    submission = make_submission(answers, classes=detector.config.classes)
    return score(tables, submission, tokens)
