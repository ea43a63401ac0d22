"""The command lines of an experiment's runs. Every process works in the experiment's folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from crkd_core.experiments.changes import changes_of
from crkd_core.experiments.plan import RunSpec
from crkd_core.experiments.settings import Settings
from crkd_core.model.checkpoint import WEIGHTS
from crkd_core.presets import preset


def training(spec: RunSpec, settings: Settings, *, resume: bool = False) -> list[str]:
    """The words of `crkd` that train a run, or that go on with it."""
    words = ["distill" if spec.is_distilled else "train", "--data", settings.data]
    words += ["--split", ",".join(settings.drives[spec.drives]), "--out", f"runs/{spec.name}"]
    words += _where(settings)
    if resume:
        return [*words, "--resume"]
    warmup = max(1, round(spec.warmup * settings.scale))
    changes = [f"warmup_steps={warmup}", *spec.changes, *changes_of(spec, settings.changes)]
    # The process that computes reads too: one core a run. While the first trainings run, the
    # others wait for them.
    changes += [f"seed={spec.seed}", f"workers={0 if spec.start else settings.readers}"]
    if not spec.is_distilled:
        words += ["--preset", spec.preset]
        if spec.start is not None:
            words += ["--start", f"runs/{spec.start}"]
        elif settings.start_image is not None and "camera" in branches(spec.preset):
            changes.append(f"start_image={settings.start_image}")
    else:
        words += ["--teacher", f"runs/{spec.teacher}", "--student", f"runs/{spec.start}"]
    if spec.unlabelled is not None:
        root, scenes = settings.unlabelled(spec.unlabelled)
        words += ["--unlabelled", root, "--unlabelled-split", ",".join(scenes)]
        if spec.learns_pseudo_labels:
            boxes = f"evaluations/{spec.teacher}/{spec.unlabelled}/results.json"
            words += ["--pseudo-labels", boxes]
    if spec.is_measured:
        words += ["--held-out", ",".join(settings.drives["validation"]), "--measured", "measured"]
    words += ["--steps", str(max(1, round(spec.steps * settings.scale))), *spec.options]
    return words + [word for change in changes for word in ("--set", change)]


def label_encoding(spec: RunSpec, settings: Settings, *, resume: bool = False) -> list[str]:
    """The words of `crkd` that train the label encoder of a teacher's run, and measure it."""
    words = ["label-encoder", "--data", settings.data, "--teacher", f"runs/{spec.name}"]
    words += ["--split", ",".join(settings.drives[spec.drives])]
    words += ["--held-out", ",".join(settings.drives["validation"])]
    words += [*_where(settings), *(["--resume"] if resume else [])]
    return [*words, "--steps", str(max(1, round(spec.steps * settings.scale)))]


def branches(name: str) -> frozenset[str]:
    """The branches of a preset's network."""
    return frozenset(preset(name).detector.branches)


def evaluation(name: str, settings: Settings, part: str) -> list[str]:
    """The words of `crkd` that score a run on the validation or the test drives.

    Or those that keep its boxes of the drives that are called ``part`` in plan.Unlabelled, for
    others to learn.
    """
    root, scenes = settings.scored(part)
    words = ["evaluate", "--weights", f"runs/{name}/{WEIGHTS}", "--data", root]
    words += ["--split", ",".join(scenes), *_where(settings)]
    # What a killed evaluation has left is replaced.
    return [*words, "--out", f"evaluations/{name}/{part}", "--slices", "--overwrite"]


def _where(settings: Settings) -> list[str]:
    return [] if settings.device == "cpu" else ["--device", settings.device]


def told(words: Sequence[str]) -> list[str]:
    """A command line without what says where and with how many processes it computes."""
    kept: list[str] = []
    for word in words:
        if (kept and kept[-1] == "--device") or word.startswith("workers="):
            kept.pop()  # The option before it.
        else:
            kept.append(word)
    return kept


def shown(words: Iterable[str], settings: Settings) -> str:
    """A command line for people: parts of the data by their names, no path of this machine."""
    names = {settings.data: "DATA"}
    if settings.more is not None:
        names[settings.more] = "MORE"
    if settings.start_image is not None:
        names[f"start_image={settings.start_image}"] = (
            f"start_image={Path(settings.start_image).name}"
        )
    for name, scenes in {**settings.drives, "more": settings.more_drives}.items():
        names.setdefault(",".join(scenes), name)
    return " ".join(["crkd", *(names.get(word, word) for word in words)])
