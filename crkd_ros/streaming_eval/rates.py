"""How good the live node is at several rates of playing. Command `crkd live`.

Each rate is one run of session.py; what came is scored offline and at the moment it became
available (streaming.py), next to latency and lost frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from crkd_core.boxes import SCORED_FROM
from crkd_core.progress import stderr_console
from crkd_core.tables import Table
from crkd_ros.bags import recorded_calibration
from crkd_ros.bags.frames import layout_of
from crkd_ros.parameters.node import NodeConfig
from crkd_ros.streaming_eval import scores
from crkd_ros.streaming_eval.naming import naming
from crkd_ros.streaming_eval.players import PlayerName
from crkd_ros.streaming_eval.session import run_session

if TYPE_CHECKING:
    from crkd_core.data.nuscenes.reader import NuScenes
    from crkd_core.evaluate.metrics import Evaluation

#: What it writes into its folder, besides the logs.
RESULTS = ("calibration.yaml", *scores.RESULTS)


def score_rates(
    bag: Path,
    *,
    config: NodeConfig,
    tables: NuScenes,
    split: str,
    out: Path,
    rates: Sequence[float] = (0.5, 1.0, 2.0),
    parameters: Mapping[str, str] | None = None,
    files: Sequence[Path] = (),
    player: PlayerName = "auto",
    offline: bool = True,
    topics: Mapping[str, str] | None = None,
    console: Console | None = None,
) -> list[Table]:
    """Play a bag at several rates, score each and write the page; see also RESULTS.

    What has been scored when a later rate fails is written before the error goes on.

    Args:
        bag: a rosbag2 of one scene of the data set.
        config: what ``files`` and ``parameters`` make of the node, its weights too; its sensors
            are those that the weights read.
        tables: the annotated data set.
        split: one with the scene.
        out: folder; made if missing.
        rates: of playing.
        parameters: of the node, above its files; they keep the score threshold from being that of
            scoring.
        files: parameter files of the node.
        player: see ``player_command``.
        offline: also run the detector on every key frame, for comparison.
        topics: what the user names, see ``find_layout``.
        console: for progress.

    Returns:
        The tables of the page.

    Raises:
        ProcessError, SessionError: node or player failed.
        ScoreError: the bag is not of this data set and split.
    """
    from crkd_ros.streaming_eval.report import write_scores
    from crkd_ros.streaming_eval.scores import PassScores, samples_between, score_pass, stamps_of

    say, parameters = console or stderr_console(), parameters or {}
    out.mkdir(parents=True, exist_ok=True)
    names = naming(layout_of(bag, config, topics), config)
    if "score_threshold" not in parameters:
        config = replace(config, score_threshold=min(config.score_threshold, SCORED_FROM))
    chosen: dict[str, object] = {
        **parameters,
        "weights": Path(config.weights).absolute(),
        "score_threshold": config.score_threshold,
    }
    if not config.calibration_file:
        calibration = recorded_calibration.of_bag(
            bag, base=config.base_frame, framing=config, topics=topics
        )
        calibration.save(out / "calibration.yaml")
        chosen["calibration_file"] = (out / "calibration.yaml").absolute()
    passes: list[PassScores] = []
    spans: list[tuple[int, int]] = []
    stamps: set[int] = set()
    reference: Evaluation | None = None
    written: list[Table] = []
    try:
        for rate in rates:
            say.print(f"live at {rate:g}x", highlight=False)
            one = run_session(
                bag,
                parameters=chosen,
                logs=out / f"rate_{rate:g}",
                rate=rate,
                files=files,
                player=player,
                naming=names,
            )
            scores = score_pass(tables, split, one, base_frame=config.base_frame, rate=rate)
            passes.append(scores)
            spans.append((one.first_ns, one.last_ns))
            stamps |= stamps_of(one)
        if offline:
            say.print("the same detector offline, on every key frame", highlight=False)
            first, last = min(span[0] for span in spans), max(span[1] for span in spans)
            samples, _ = samples_between(tables, split, first, last, stamps=stamps)
            reference = evaluate_offline(tables, list(samples.values()), config)
    finally:
        if passes:
            about = {"bag": bag.name, "weights": Path(config.weights).name, "split": split}
            about |= parameters
            written = write_scores(out, passes, offline=reference, about=about)
            say.print(f"written: {out / 'report.html'}", markup=False, highlight=False)
    return written


def evaluate_offline(tables: NuScenes, tokens: Sequence[str], config: NodeConfig) -> Evaluation:
    """Metrics of a detector on these samples, computed as the node computes."""
    from crkd_core.data.nuscenes.reader import NuScenesFrames
    from crkd_core.evaluate.predict import detect, load_detector
    from crkd_core.evaluate.scoring import score
    from crkd_core.evaluate.submission import Answer, make_submission

    detector = load_detector(
        Path(config.weights),
        tables,
        device=config.device,
        precision=config.precision,
        engine=config.engine,
        score_threshold=config.score_threshold,
    )
    frames = NuScenesFrames.for_detectors(tables, tokens, detector.config, sensors=config.sensors)
    answers = (Answer.to(frame, found) for frame, found in detect(detector, frames, "offline"))
    submission = make_submission(answers, classes=detector.config.classes)
    return score(tables, submission, tokens)
