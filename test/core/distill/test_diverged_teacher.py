"""A teacher whose answers are not finite ends a distillation, whatever its losses read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from crkd_maps import targets, truths
from distill_tiny import FRAMES, TEACHER, a_config, settled, start
from model_tiny import TINY, lidar_frame

from crkd_core.config import ImkdConfig
from crkd_core.data.batch import collate
from crkd_core.distill.cache import FeatureCache
from crkd_core.distill.label_encoder import LabelEncoder
from crkd_core.distill.label_teacher import LabelTeacher
from crkd_core.distill.teacher import PARTS, Teacher, TeacherError, checksum
from crkd_core.distill.training import distill
from crkd_core.model.checkpoint import load_weights, save_weights
from crkd_core.train.batch import Taught
from crkd_core.train.run_folder import Run


def a_teacher(folder: Path, *, times: float) -> Path:
    """The file of a teacher whose fused features are times^2 as large; all weights are finite."""
    model = settled(TEACHER)
    model.fuser.out[0].weight.data *= times
    model.fuser.out[1].weight.data *= times
    save_weights(model, folder / "teacher.safetensors")
    return folder / "teacher.safetensors"


def a_run(folder: Path, teacher: Path, loss: str, **settings: object) -> Run:
    """A distillation by this loss alone."""
    settings = {"losses": {loss: 1.0}} | settings
    if loss.startswith("msfd"):
        return start(folder / "run", a_config(teacher, settings=settings))
    known = {"teacher": str(teacher), "teacher_checksum": checksum(load_weights(teacher))}
    imkd = ImkdConfig(**known, ramp_steps=0, **settings)
    return start(folder / "run", a_config(teacher, crkd=None, imkd=imkd, detector=TINY))


@pytest.mark.parametrize("loss", ["msfd_fused", "lidar_radar", "lidar_fused"])
def test_losses_of_features_do_not_hide_it(loss, tmp_path) -> None:
    """They leave out what is not a number, so such a run would have learned nothing, unsaid."""
    run = a_run(tmp_path, a_teacher(tmp_path, times=1e25), loss)
    told = r"teacher tiny_teacher: expected finite numbers, got .* in fused.* --set precision=fp32"
    with pytest.raises(TeacherError, match=told):
        distill(run, FRAMES)
    assert not (run.path / "checkpoint.pt").exists()


def test_what_a_cache_cannot_hold_is_said_and_not_kept(tmp_path) -> None:
    """Answers are kept in two bytes a number."""
    teacher, kept = a_teacher(tmp_path, times=1e3), tmp_path / "kept"
    run = a_run(tmp_path, teacher, "msfd_fused", cache=str(kept))
    with pytest.raises(TeacherError, match=r"infinity in fused, .* no --cache"):
        distill(run, FRAMES)
    assert not [*kept.glob("*/*")]


def test_an_answer_that_was_kept_is_looked_at_too(tmp_path) -> None:
    torch.manual_seed(0)
    cache = FeatureCache(tmp_path / "kept", gigabytes=1.0)
    teacher = Teacher(settled(TEACHER), keep=PARTS, cache=cache)
    said = teacher(collate([lidar_frame(0)], TEACHER)).tensors()
    said["fused"][0, 3, 5, 6] = torch.nan
    seen = Taught(batch=None, names=(*said,), answers=(*said.values(),), known=(True,))
    with pytest.raises(TeacherError, match="NaN or infinity in fused\\."):
        teacher.answer(seen)
    said["fused"][0, 3, 5, 6] = 0.0
    teacher.answer(seen)


def test_labels_are_looked_at_as_well() -> None:
    encoder = LabelEncoder(TEACHER, width=8)
    teacher = LabelTeacher(encoder, teacher_checksum="")
    given = targets(truths(1, 2))
    teacher(given, TINY.classes)
    encoder.out[0].weight.data *= 1e38
    encoder.block.second[1].weight.data *= 1e38
    with pytest.raises(TeacherError, match=r"tiny_teacher's label encoder: .* in features"):
        teacher(given, TINY.classes)
