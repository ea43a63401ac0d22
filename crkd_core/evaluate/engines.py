"""One detector by every engine and precision: what each costs and what it loses. `crkd engines`.

Every sample goes through all of them in turn, so that a busy machine slows all of them alike.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from crkd_core import extras
from crkd_core.boxes import SCORED_FROM
from crkd_core.config import DetectorConfig, Engine, Precision
from crkd_core.config.checks import check_classes
from crkd_core.data.nuscenes.reader import NuScenes, NuScenesFrames
from crkd_core.data.sets import SetFrames
from crkd_core.evaluate.metrics import Evaluation
from crkd_core.evaluate.predict import step_or_empty
from crkd_core.evaluate.report import scope_note
from crkd_core.evaluate.scoring import check_annotated, score
from crkd_core.evaluate.submission import Answer, make_submission
from crkd_core.files import write_json, write_text
from crkd_core.frame import Frame
from crkd_core.infer.bench import machine
from crkd_core.infer.detector import Detector, InferError, usable_device
from crkd_core.infer.engines.inputs import Capacity
from crkd_core.infer.engines.int8 import refuse_memory
from crkd_core.infer.engines.runtimes import ENDINGS
from crkd_core.infer.memory import Memory
from crkd_core.infer.variants import variants
from crkd_core.model.checkpoint import ONNX, load_weights
from crkd_core.progress import counted
from crkd_core.tables import Table, print_tables

#: What ``compare_engines`` leaves in its folder.
RESULTS = ("engines.json", "engines.md")

#: In which each row runs, by kind of device; the first is what the others are compared with.
VARIANTS: dict[str, tuple[tuple[Engine, Precision], ...]] = {
    "cpu": (
        ("torch", "fp32"),
        ("torch", "bf16"),
        ("export", "fp32"),
        ("onnxruntime", "fp32"),
        ("openvino", "fp32"),
        ("openvino", "bf16"),
    ),
    "cuda": (
        ("torch", "fp32"),
        ("torch", "fp16"),
        ("cuda_graph", "fp32"),
        ("cuda_graph", "bf16"),
        ("cuda_graph", "fp16"),
    ),
}

#: What runs int8, of one file that has its ranges.
INT8: tuple[Engine, ...] = ("onnxruntime", "openvino")


@dataclass(frozen=True, kw_only=True)
class EngineResult:
    """One row.

    Attributes:
        engine: what computed the network.
        precision: its number format, "int8" among them.
        milliseconds: medians of a sample by stage, see Detector.timing.
        evaluation: scores.
    """

    engine: str
    precision: str
    milliseconds: dict[str, float]
    evaluation: Evaluation


def evenly(total: int, count: int) -> list[int]:
    """So many of the indices below ``total``, or all if there are fewer, evenly spread."""
    chosen = min(count, total)
    return [index * total // chosen for index in range(chosen)]


def spread(frames: SetFrames, count: int) -> Iterator[Frame]:
    """So many Frames, or all if there are fewer, evenly spread over a split."""
    for index in evenly(len(frames), count):
        yield frames[index]


def compare_engines(
    weights: Path,
    data: Path,
    split: str,
    out: Path,
    *,
    int8_split: str | None = None,
    int8_frames: int = 64,
    samples: int | None = None,
    capacity: Capacity | None = None,
    device: str = "cpu",
    version: str | None = None,
) -> list[EngineResult]:
    """Run a detector by every engine that is installed; writes RESULTS and prints the table.

    Args:
        weights: file of ``save_weights``.
        data: root of a nuScenes data set.
        split: name of a split, which is scored.
        out: folder, made if missing.
        int8_split: where int8 sees its ranges; None: int8 is left out.
        int8_frames: how many Frames of that split, evenly spread.
        samples: only so many of ``split``, evenly spread; None = all.
        capacity: how much exported networks hold; None = Capacity().
        device: "cpu", "cuda" or "cuda:N"; each has engines of its own.
        version: version folder of the data set; None = the one that holds the split.

    Raises:
        EvaluateError: the version has no annotations.
        NuScenesError, CheckpointError, InferError: data or weights cannot be used; int8 of a
            detector with memory.
    """
    on = usable_device(device)
    if int8_split is not None and on.type != "cpu":
        raise InferError(f"int8 runs on the CPU here, got device {device}; leave int8 out")
    tables = NuScenes(data, split=split, version=version)
    check_annotated(tables)
    model = load_weights(weights)
    check_classes(model.config.name, model.config.classes, tables.classes)
    if int8_split is not None:
        refuse_memory(model.config)
    absent = {*extras.lacking("engines")} if on.type == "cpu" else set()

    def there(engine: Engine) -> bool:
        needed = {engine, "onnx", "onnxscript"} if ENDINGS.get(engine) == ONNX else set()
        return not needed & absent

    # Here, because networks are exported for minutes before they see one.
    frames = NuScenesFrames.for_detectors(tables, split, model.config)
    seen = None
    if int8_split is not None:
        seen = NuScenesFrames.for_detectors(
            NuScenes(data, split=int8_split, version=version), int8_split, model.config
        )
    wanted = [(engine, precision) for engine, precision in VARIANTS[on.type] if there(engine)]
    detectors = variants(model, wanted, device=on, capacity=capacity, score_threshold=SCORED_FROM)
    if seen is not None:
        detectors += variants(
            model,
            [(engine, "fp32") for engine in INT8 if there(engine)],
            capacity=capacity,
            calibration=spread(seen, int8_frames),
            score_threshold=SCORED_FROM,
        )
    tokens: str | Sequence[str] = split
    whole = len(frames)
    if samples is not None:
        tokens = [frames.tokens[index] for index in evenly(len(frames), samples)]
        frames = NuScenesFrames.for_detectors(tables, tokens, model.config)
    results = _results(detectors, frames, tables, tokens)
    title = f"{model.config.name} on {len(frames)} samples of {split}"
    table = engines_table(results, f"{title}; median of a sample\n{machine(on)}")
    facts = {
        "weights": weights.name,
        "split": split,
        "samples": len(frames),
        "unscored": [*results[0].evaluation.unscored],
        "processor": machine(on),
        "engines": [
            {
                "engine": one.engine,
                "precision": one.precision,
                "milliseconds": one.milliseconds,
                "mean_ap": one.evaluation.summary["mean_ap"],
                "nd_score": one.evaluation.summary["nd_score"],
            }
            for one in results
        ],
    }
    write_json(facts, out / RESULTS[0], indent=2)
    notes = [scope_note(results[0].evaluation), gap_note(model.config, len(frames), whole)]
    if seen is not None:
        shown = {seen.tokens[index] for index in evenly(len(seen), int8_frames)}
        notes.append(seen_note(shown, frames.tokens))
    note = " ".join(filter(None, notes))
    text = f"{table.title}:\n\n{table.markdown()}" + (f"\n{note}\n" if note else "")
    write_text(text, out / RESULTS[1])
    print_tables(table)
    if note:
        print(note)
    if absent:
        print(f"{', '.join(sorted(absent))} not installed: {extras.remedy('engines')}")
    print(f"written: {out}")
    return results


def seen_note(shown: Collection[str], scored: Sequence[str]) -> str:
    """What int8's scores say too much of; "" = nothing.

    Args:
        shown: samples on which it saw its ranges.
        scored: samples of the scores.
    """
    both = [token for token in scored if token in shown]
    if not both:
        return ""
    return (
        f"int8 saw its ranges on {len(both)} of the {len(scored)} samples that are scored, which "
        "flatters it; take --int8-split of other drives."
    )


def gap_note(config: DetectorConfig, scored: int, whole: int) -> str:
    """What memory's scores are not of; "" = nothing.

    Args:
        config: of the detector.
        scored: how many samples went through it.
        whole: how many the split has.
    """
    if config.temporal is None or scored == whole:
        return ""
    return (
        f"{config.name} has memory, and {scored} of {whole} samples lie apart: where it found no "
        "moment to remember it had none. For its scores leave --samples out."
    )


def _results(
    detectors: Sequence[Detector],
    frames: NuScenesFrames,
    tables: NuScenes,
    tokens: str | Sequence[str],
) -> list[EngineResult]:
    """Every sample through all detectors in turn, and their scores."""
    answers: list[list[Answer]] = [[] for _ in detectors]
    spent: list[dict[str, list[float]]] = [{} for _ in detectors]
    memories: list[Memory | None] = [None for _ in detectors]
    for frame in counted(frames, f"{len(detectors)} engines and precisions", stays=True):
        for index, detector in enumerate(detectors):
            found, memories[index] = step_or_empty(detector, frame, memories[index])
            if detector.can_use(frame):
                for stage, seconds in detector.timing.items():
                    spent[index].setdefault(stage, []).append(1e3 * seconds)
            answers[index].append(Answer.to(frame, found))
    return [
        EngineResult(
            engine=detector.engine,
            precision=detector.precision,
            milliseconds={stage: statistics.median(times) for stage, times in stages.items()},
            evaluation=score(
                tables, make_submission(given, classes=detector.config.classes), tokens
            ),
        )
        for detector, given, stages in zip(detectors, answers, spent, strict=True)
    ]


def engines_table(results: Sequence[EngineResult], title: str) -> Table:
    """A row a variant: times, ratio to the first, scores and what they lost against the first."""
    first = results[0]
    rows = []
    for one in results:
        network = one.milliseconds.get("network", float("nan"))
        row = [one.engine, one.precision, f"{network:.1f}"]
        row += [f"{first.milliseconds.get('network', float('nan')) / network:.2f}"]
        row += [f"{sum(one.milliseconds.values()):.1f}"]
        for key in ("mean_ap", "nd_score"):
            value, whole = one.evaluation.summary[key], first.evaluation.summary[key]
            row += [f"{value:.4f}", f"{value - whole:+.4f}"]
        rows.append(row)
    return Table(
        title=title,
        columns=(
            *("engine", "precision", "network ms", "times as fast", "all ms"),
            *("mAP", "against first", "NDS", "against first"),
        ),
        rows=rows,
    )
