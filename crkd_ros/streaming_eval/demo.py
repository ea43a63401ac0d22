"""Command `crkd demo`: an unseen drive, its bag, the real node in its own process, and the score.

Makes a drive of the synthetic world, writes its bag, starts the detector node, plays the bag to it
over DDS on loopback, collects ``~/boxes``, and scores them against the truth of the drive, beside
the same detector run offline on the same key frames.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from rich.console import Console

from crkd_core.boxes import SCORED_FROM, Detections
from crkd_core.data.nuscenes.reader import NuScenes, NuScenesFrames
from crkd_core.evaluate.metrics import Evaluation
from crkd_core.evaluate.predict import detect, load_detector
from crkd_core.tables import print_tables
from crkd_ros.bags import recorded_calibration
from crkd_ros.bags.nuscenes import write_bag
from crkd_ros.bags.samples import key_frames
from crkd_ros.streaming_eval.demo_report import demo_report
from crkd_ros.streaming_eval.pace import CAMERA_HZ, frames_per_second, rate_for, slower
from crkd_ros.streaming_eval.recorder import Pass
from crkd_ros.streaming_eval.session import run_session

#: Times that the bag is played before unanswered key frames stay so.
_TRIES = 3
#: The log by which a folder is known to be the demo's: the first that it makes there.
_LOG = "node.log"
#: What it makes in its folder.
_MADE = (
    *("world", "bag", "calibration.yaml", _LOG, "player.log", "report.html"),
    *("results_live.json", "results_offline.json"),
    *("bev_[0-9][0-9].png", "cameras_[0-9][0-9].png", "precision_recall.png"),
)


class DemoError(RuntimeError):
    """No weights, or a folder that is not the demo's."""


def demo(
    out: Path,
    weights: Path,
    *,
    seed: int,
    seconds: float,
    image_width: int,
    rate: float | None,
    jobs: int,
    device: str,
    engine: str,
    precision: str,
) -> Evaluation:
    """Run the whole demo; everything lands in ``out``, report.html on top.

    What an earlier demo has made there is replaced; what has other names stays.

    Args:
        out: folder for drive, bag, pictures and report.
        weights: the detector.
        seed: of the drive.
        seconds: length of the drive.
        image_width: of the drive, pixels.
        jobs: processes that make the drive.
        rate: of playing; None: what this machine reaches, measured first, at most 1. Then the bag
            is played again at half of it, at most twice, while a key frame stays unanswered.
        device: "cpu", "cuda" or "cuda:N", offline and in the node.
        engine: what computes the network.
        precision: its number format.

    Returns:
        The evaluation of what the live node published.

    Raises:
        DemoError: no weights, an invalid rate, or ``out`` holds something else.
        InferError: a device, an engine or a precision that is not there.
        ProcessError, SessionError: the node or the player failed; the text names its log.
    """
    from crkd_core.infer.detector import check_precision, usable_device
    from crkd_core.infer.engines.runtimes import check_engine
    from crkd_core.world import write_world

    console = Console()
    if rate is not None and not 0 < rate < math.inf:
        raise DemoError(f"--rate: expected a finite number above 0, got {rate:g}")
    # Before a drive is made, which takes a minute or two.
    check_precision(precision, usable_device(device))
    check_engine(engine, precision, usable_device(device))
    if not weights.exists():
        raise DemoError(f"no weights at {weights}; run from the repository root or pass --weights")
    clear(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / _LOG).touch()
    with _step(console, f"an unseen drive of {seconds:g} s (seed {seed})"):
        write_world(
            out / "world",
            scenes=1,
            seconds=seconds,
            seed=seed,
            image_width=image_width,
            jobs=jobs,
            # All ten classes in the best light, however short the drive.
            mix="balanced",
            weather={"clear": 1.0},
        )
    tables = NuScenes(out / "world")
    (scene,) = tables.scenes
    with _step(console, "its bag"):
        bag = write_bag(tables, scene, out / "bag").path
        recorded_calibration.of_dataset(tables, scene).save(out / "calibration.yaml")
    with _step(console, "the detector offline"):
        frames, offline, took = run_offline(
            tables, scene, weights, device=device, engine=engine, precision=precision
        )
    held = frames_per_second(took)
    console.print(
        f"  here it holds {held:.1f} frames a second of {CAMERA_HZ:g} at real time",
        highlight=False,
    )
    if held < CAMERA_HZ and bf16_is_faster(device, engine, precision):
        console.print("  faster on this processor: --precision bf16 (make demo PRECISION=bf16)")
    with _step(console, "the node, live over DDS"):
        parameters = {
            "weights": weights,
            "device": device,
            "engine": engine,
            "precision": precision,
            "calibration_file": out / "calibration.yaml",
            "score_threshold": SCORED_FROM,
        }
        live = _play(console, bag, key_frames(tables, [scene]), parameters, rate, held, logs=out)
    with _step(console, "scores and pictures"):
        evaluation, report = demo_report(tables, scene, live, frames, offline, out=out)
    print_tables(*report)
    print(f"report: {out / 'report.html'}")
    return evaluation


def bf16_is_faster(device: str, engine: str, precision: str) -> bool:
    """Whether this processor and this engine would gain by bf16, where it is not asked for."""
    from crkd_core.infer.engines.runtimes import PRECISIONS
    from crkd_core.model.precision import bf16_is_native

    takes = engine in ("torch", *(name for name in PRECISIONS if "bf16" in PRECISIONS[name]))
    return device == "cpu" and precision == "fp32" and takes and bf16_is_native()


def _play(
    console: Console,
    bag: Path,
    wanted: Collection[int],
    parameters: Mapping[str, object],
    rate: float | None,
    held: float,
    *,
    logs: Path,
) -> Pass:
    """The node's answers to a bag, at a rate at which it answers every key frame.

    Args:
        console: is told of the rate.
        bag: what is played.
        wanted: stamps of the key frames, ns.
        parameters: of the node.
        rate: of playing, tried once; None: chosen by ``held``.
        held: frames a second that the detector holds.
        logs: folder for logs.
    """
    tries = [rate] if rate is not None else _tries(rate_for(held))
    for tried in tries:
        console.print(f"  bag at {tried:g} x", highlight=False)
        live = run_session(bag, parameters=parameters, logs=logs, rate=tried)
        answered = {one.stamp_ns for one in live.arrivals}
        missed = len([stamp for stamp in wanted if stamp not in answered])
        if not missed:
            break
        console.print(f"  {missed} of {len(wanted)} key frames unanswered", highlight=False)
    return live


def _tries(rate: float) -> list[float]:
    tries = [rate]
    while len(tries) < _TRIES and (next_one := slower(tries[-1])) is not None:
        tries.append(next_one)
    return tries


def run_offline(
    tables: NuScenes, scene: str, weights: Path, *, device: str, engine: str, precision: str
) -> tuple[NuScenesFrames, list[Detections], list[float]]:
    """The key frames of a scene, images as recorded; the detections in each, and their seconds."""
    detector = load_detector(
        weights,
        tables,
        device=device,
        engine=engine,
        precision=precision,
        score_threshold=SCORED_FROM,
    )
    tokens = tables.samples_of_scene(scene)
    frames = NuScenesFrames.for_detectors(tables, tokens, detector.config, recorded=True)
    found, seconds, before = [], [], time.perf_counter()
    for _, boxes in detect(detector, frames, "offline"):
        found.append(boxes)
        seconds.append(time.perf_counter() - before)
        before = time.perf_counter()
    return frames, found, seconds


def clear(out: Path) -> None:
    """Remove what an earlier demo has made in a folder, and nothing else.

    Raises:
        DemoError: there is something in it and no demo has been there.
    """
    if out.exists() and any(out.iterdir()) and not (out / _LOG).is_file():
        raise DemoError(f"{out} is not the folder of an earlier demo; choose another --out")
    for path in (found for name in _MADE for found in out.glob(name)):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


@contextlib.contextmanager
def _step(console: Console, text: str) -> Iterator[None]:
    start = time.monotonic()
    console.print(f"[bold]{text}[/]", highlight=False)
    yield
    console.print(f"  {time.monotonic() - start:.0f} s", highlight=False)
