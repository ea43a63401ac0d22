"""Is this teacher fit to teach this student? Both on held-out drives, before and after.

A teacher that is hardly better than its student has nothing to teach but its errors, and a teacher
that is better on the whole may be worse in one of the numbers of a box, or know nothing of a class
(decisions/0028). So both networks are measured before the first step: a weak teacher is refused,
and what it does not know better is taken out of RespD (left_out.py). At the end the student is
measured again. All of it stands in ``protocol.json`` in the run folder.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import torch

from crkd_core.config import TrainConfig
from crkd_core.distill.held_out import (
    HeldOut,
    ProtocolError,
    Scores,
    check_apart,
    measure,
    measured,
)
from crkd_core.distill.left_out import without_channels, without_classes
from crkd_core.distill.origins import check_origins
from crkd_core.distill.teacher import Teacher
from crkd_core.distill.training import first_student
from crkd_core.evaluate.metrics import ERROR_NAMES
from crkd_core.evaluate.report import MEAN_NAMES
from crkd_core.files import write_json
from crkd_core.model.checkpoint import load_weights
from crkd_core.model.detector import BevDetector
from crkd_core.tables import Table, number
from crkd_core.train.run_folder import Run

#: A teacher's mAP must be this much above that of the student that it is to teach.
MARGIN = 0.15
FILE = "protocol.json"

UNMEASURED = (
    "warning: nothing was measured: whether this teacher is better than this student, and in "
    "what, is not known. --held-out SPLIT measures both on drives that are not trained on, before "
    "and after"
)


_PLAIN = "a plain training has no teacher to measure; leave --held-out out"
_OTHER = (
    "imkd has another teacher than crkd, which was not measured: measure it by a run of --method "
    "imkd alone"
)
_RANDOM = (
    "the student starts at random, so the teacher was compared with nothing; a fair comparison "
    "starts from trained weights, --student RUN, and from these goes on as long without a teacher"
)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What was measured, as it stands in ``protocol.json``.

    Attributes:
        held_out: on which drives.
        teacher: its scores; it does not change.
        start: the student's at step 0; None = it starts at random.
        end: the student's at the end; None = not yet.
        left_out: channels of boxes that do not teach, with the teacher's error and the student's.
        left_out_classes: classes that do not teach, with the teacher's AP and the student's.
        notes: what whoever reads the numbers must know.
        is_unseen: whether it is known that neither network was trained on these drives before.
    """

    held_out: HeldOut
    teacher: Scores
    start: Scores | None
    end: Scores | None = None
    left_out: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    left_out_classes: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    is_unseen: bool = False

    def write(self, run: Path) -> None:
        """Write ``protocol.json`` into a run folder."""
        data = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        # Who goes on with the run may stand in another folder.
        place = str(self.held_out.data.resolve())
        data["held_out"] = dataclasses.asdict(self.held_out) | {"data": place}
        write_json({"margin": MARGIN, **data}, run / FILE, indent=2)

    @classmethod
    def read(cls, run: Path) -> Protocol | None:
        """What a run folder says; None where nothing was measured.

        Raises:
            ProtocolError: the file cannot be read.
        """
        try:
            data = json.loads((run / FILE).read_text(encoding="utf-8"))
            drives = data["held_out"]
            held_out = HeldOut(**{**drives, "data": Path(drives["data"])})
            return cls(
                held_out=held_out,
                teacher=data["teacher"],
                start=data["start"],
                end=data["end"],
                left_out={name: (ours, other) for name, (ours, other) in data["left_out"].items()},
                left_out_classes={
                    name: (ours, other) for name, (ours, other) in data["left_out_classes"].items()
                },
                notes=tuple(data["notes"]),
                is_unseen=data.get("is_unseen", False),  # Earlier versions did not ask.
            )
        except FileNotFoundError:
            return None
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ProtocolError(f"{run / FILE}: cannot be read: {error!r}") from error

    def table(self) -> Table:
        """Every network at every time that was measured."""
        rows = [["teacher", *_cells(self.teacher)]]
        for name, scores in (("student, step 0", self.start), ("student, end", self.end)):
            if scores is not None:
                rows.append([name, *_cells(scores)])
        unseen = "nothing was trained on" if self.is_unseen else "this run does not train on"
        return Table(
            title=f"on {self.held_out.split}, which {unseen}",
            columns=("network", "mAP", "NDS", *MEAN_NAMES.values()),
            rows=rows,
        )


def measured_start(
    config: TrainConfig,
    *,
    trained: HeldOut,
    held_out: str | None,
    held_out_data: Path | None = None,
    allow_weak: bool = False,
    device: str = "cpu",
    kept: Path | None = None,
) -> tuple[TrainConfig, Protocol | None]:
    """What a run is to start with, and what was measured; None where nothing is.

    Args:
        config: see ``before``, which also says what becomes of it.
        trained: the drives that the run is trained on.
        held_out: name of the split to measure on; None = nothing is measured.
        held_out_data: root of its data set; None = that of ``trained``.
        allow_weak: see ``before``.
        device: where to compute.
        kept: see ``before``.

    Raises:
        ProtocolError: a sample is held out and trained on, by this run or, as their run folders
            say, by teachers or start before; or see ``before``.
        EvaluateError, ConfigError, NuScenesError: see ``measure``.
    """
    if held_out is None:
        return config, None
    drives = dataclasses.replace(trained, split=held_out)
    if held_out_data is not None:
        drives = HeldOut(data=held_out_data, split=held_out)
    check_apart(drives, trained)
    if (more := config.unlabelled) is not None:
        check_apart(drives, HeldOut(data=Path(more.data), split=more.split))
    starts = [path for path in (config.start, config.start_image) if path is not None]
    networks = [*(method.teacher for method in config.distillations), *starts]
    is_unseen, notes = check_origins(drives, networks)
    if more is not None and more.pseudo_labels is not None:
        is_unseen = False  # A file of boxes does not say which detector made it.
    config, found = before(config, drives, allow_weak=allow_weak, device=device, kept=kept)
    return config, dataclasses.replace(found, notes=(*found.notes, *notes), is_unseen=is_unseen)


def before(
    config: TrainConfig,
    held_out: HeldOut,
    *,
    allow_weak: bool = False,
    device: str = "cpu",
    kept: Path | None = None,
) -> tuple[TrainConfig, Protocol]:
    """Measure teacher and student before the first step.

    Args:
        config: of the run that is to start, a distillation. Where its methods have different
            teachers, that of the first one is measured, and the notes say so.
        held_out: drives to measure on.
        allow_weak: go on with a teacher that is not clearly better.
        device: where to compute.
        kept: folder of what was measured before; None = everything is measured.

    Returns:
        The configuration without the channels of boxes, and CRKD's also without the classes, in
        which the teacher is not better (CRKD's published form stays as it is), and what was
        measured.

    Raises:
        ProtocolError: the teacher is not clearly better; the message has the numbers.
        EvaluateError, ConfigError, NuScenesError: see ``measure``.
    """
    if not config.distillations:
        raise ProtocolError(_PLAIN)
    first = config.distillations[0]
    teacher = load_weights(first.teacher)
    theirs = measured(
        teacher, held_out, kept=kept, sensors=first.teacher_sensors, device=device, text="teacher"
    )
    ours = None
    if config.start is not None:
        torch.manual_seed(config.seed)
        teachers = [
            Teacher(load_weights(method.teacher), keep=()) for method in config.distillations
        ]
        student = first_student(config, teachers)
        ours = measured(
            student, held_out, kept=kept, sensors=config.sensors, device=device, text="student"
        )
    return judge(config, held_out, teacher=theirs, student=ours, allow_weak=allow_weak)


def judge(
    config: TrainConfig,
    held_out: HeldOut,
    *,
    teacher: Scores,
    student: Scores | None,
    allow_weak: bool = False,
) -> tuple[TrainConfig, Protocol]:
    """What ``before`` makes of the scores of both; student None = it starts at random.

    Raises:
        ProtocolError: the teacher is not clearly better; the message has the numbers.
    """
    if not config.distillations:
        raise ProtocolError(_PLAIN)
    notes = [] if student else [_RANDOM]
    if len({method.teacher_checksum for method in config.distillations}) > 1:
        notes.append(_OTHER)
    theirs, ours = teacher["mean_ap"], student["mean_ap"] if student else 0.0
    if theirs - ours < MARGIN:
        said = (
            f"the teacher's mAP on {held_out.split} is {theirs:.3f} and the student's {ours:.3f} "
            f"before it is taught: expected {MARGIN} more, got {theirs - ours:.3f}"
        )
        if not allow_weak:
            raise ProtocolError(
                f"{said}. Train the teacher longer, or on more drives; --allow-weak-teacher goes "
                "on nevertheless"
            )
        notes.append(said)
    classes: dict[str, tuple[float, float]] = {}
    # A weak one, allowed on purpose (a student as its own teacher), says what it says.
    if student is not None and theirs - ours >= MARGIN:
        config, classes, more = without_classes(config, teacher, student)
        notes += more
    left_out: dict[str, tuple[float, float]] = {}
    if student is not None:
        config, left_out, more = without_channels(config, teacher, student)
        notes += more
    return config, Protocol(
        held_out=held_out,
        teacher=teacher,
        start=student,
        left_out=left_out,
        left_out_classes=classes,
        notes=tuple(notes),
    )


def after(run: Run, model: BevDetector, *, device: str = "cpu") -> Protocol | None:
    """Measure the student that a run ended with; None where nothing was measured at its start.

    Raises:
        ProtocolError: what was measured at the start cannot be read.
        EvaluateError, ConfigError, NuScenesError: see ``measure``.
    """
    found = Protocol.read(run.path)
    if found is None or not run.writes:
        return found
    end = measure(model, found.held_out, sensors=run.config.sensors, device=device, text="student")
    found = dataclasses.replace(found, end=end)
    found.write(run.path)
    return found


def _cells(scores: Scores) -> list[str]:
    errors = [number(scores["tp_errors"][name]) for name in ERROR_NAMES]
    return [number(scores["mean_ap"]), number(scores["nd_score"]), *errors]
