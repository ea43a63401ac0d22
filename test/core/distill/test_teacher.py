"""The teacher stays what it is; its answers may come from disk; other shapes are adapted."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from crkd_maps import CALIBRATED, crkd, only, published, targets, teacher, teacher_of, truths
from model_tiny import TINY, batch, frame, lidar_frame, with_branches

from crkd_core.config import CRKD_LOSSES, ConfigError, CrkdConfig, GridConfig, TaskConfig
from crkd_core.data.batch import collate
from crkd_core.distill.adapt import AdaptError, fitted
from crkd_core.distill.cache import FeatureCache, sample_keys
from crkd_core.distill.crkd import Crkd
from crkd_core.distill.teacher import Teacher, TeacherError, checksum
from crkd_core.model.build import build_detector
from crkd_core.model.head import stacked
from crkd_core.model.output import MissingFeatureError, ModelOutput

CONFIG = CrkdConfig(teacher="", teacher_checksum="")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_detector(TINY)


# ---- frozen


def test_a_teacher_answers_like_the_network_and_asks_for_nothing(model) -> None:
    master = Teacher(model.train())
    found = master(batch(0, 1))
    assert not model.training
    expected = model(batch(0, 1))
    assert torch.equal(found.fused, expected.fused)
    assert torch.equal(found.gated_camera, expected.gated_camera)
    for ours, theirs in zip(found.tasks, expected.tasks, strict=True):
        assert all(torch.equal(ours[k], theirs[k]) for k in theirs)
    assert not any(t.requires_grad for t in found.tensors().values())
    master.verify()
    assert not any(p.requires_grad for p in model.parameters())


def weight(model) -> None:
    with torch.no_grad():
        model.head.outputs[0].bias[0] += 1e-6


def statistics(model) -> None:
    """What the released training loop does to its teacher."""
    model.train()
    with torch.no_grad():
        model(batch(0, 1))
    model.eval()


def mode(model) -> None:
    model.fuser.train()


def gradient(model) -> None:
    next(model.parameters()).requires_grad_()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (weight, "has changed: its checksum was"),
        (statistics, "has changed: its checksum was"),
        (mode, "was put into training mode"),
        (gradient, "takes gradients"),
    ],
)
def test_a_changed_teacher_is_noticed(change, message) -> None:
    master = Teacher(build_detector(TINY))
    master.verify()
    change(master.model)
    with pytest.raises(TeacherError, match=message):
        master.verify()


def test_checksums_tell_names_shapes_and_bytes_apart() -> None:
    layers = [torch.nn.Linear(2, 3), torch.nn.Linear(3, 2), torch.nn.Conv2d(2, 3, 1)]
    for layer in layers:
        for p in layer.parameters():
            torch.nn.init.zeros_(p)
    sums = [checksum(layer) for layer in layers]
    assert len(set(sums)) == 3
    assert checksum(layers[0]) == sums[0]
    torch.nn.init.constant_(layers[0].weight, -0.0)
    assert checksum(layers[0]) != sums[0]


# ---- cache


def test_answers_come_from_disk_bit_for_bit(model, tmp_path) -> None:
    plain = Teacher(model)(batch(0, 1))
    for precision in (torch.float32, torch.bfloat16):
        master = Teacher(model, precision=precision, cache=FeatureCache(tmp_path, gigabytes=1))
        first = master(batch(0, 1))
        master.model = torch.nn.Identity()  # from here on only the disk can answer
        again = master(batch(1, 0)).tensors()
        for name, value in first.tensors().items():
            assert value.dtype == again[name].dtype
            assert torch.equal(value.flip(0), again[name]), name
    assert len(list(tmp_path.glob("*/*.safetensors"))) == 4
    assert torch.equal(plain.fused, Teacher(model)(batch(0, 1)).fused)


def test_keys_see_everything_that_the_teacher_sees() -> None:
    b = batch(0, 1)
    lidar = torch.arange(20.0).view(4, 5)
    b = dataclasses.replace(b, lidar=lidar, lidar_sample=torch.tensor([0, 0, 1, 1]))
    keys = sample_keys(b, salt="a")
    assert len(set(keys)) == 2
    assert sample_keys(b, salt="a") == keys
    assert not set(sample_keys(b, salt="b")) & set(keys)
    for name in ("images", "camera_present", "grid_T_pixel", "radar", "radar_present", "lidar"):
        changed = getattr(b, name).clone()
        changed.view(-1)[0] = 1 - changed.view(-1)[0].long()
        other = sample_keys(dataclasses.replace(b, **{name: changed}), salt="a")
        assert other[0] != keys[0], name
        assert other[1] == keys[1], name


def test_the_cache_stops_growing_and_survives_a_torn_file(model, tmp_path) -> None:
    small = FeatureCache(tmp_path / "small", gigabytes=1e-6)
    Teacher(model, cache=small)(batch(0, 1))
    assert not list(small.folder.glob("*/*"))
    master = Teacher(model, cache=FeatureCache(tmp_path, gigabytes=1))
    first = master(batch(0, 1))
    for file in tmp_path.glob("*/*.safetensors"):
        file.write_bytes(file.read_bytes()[:100])
    assert torch.equal(master(batch(0, 1)).fused, first.fused)


# ---- other shapes


def test_the_same_grid_is_passed_through() -> None:
    given = teacher(1)
    assert fitted(given, of=TINY.grid, to=TINY.grid) is given


@pytest.mark.parametrize("cell", [1.0, 4.0, 1.6])
def test_maps_move_to_other_cells_and_boxes_stay_where_they_are(cell: float) -> None:
    """A feature that is linear in x and y stays so; a peak keeps its box, in metres."""
    theirs = dataclasses.replace(TINY.grid, cell=cell)
    centres = [
        low + (torch.arange(n) + 0.5) * cell
        for low, n in zip(theirs.low, theirs.shape, strict=False)
    ]
    ramp = (centres[0][:, None] + 2 * centres[1][None])[None, None]
    place = torch.tensor([5.3, -3.7])
    peak = tuple(((place - torch.tensor(theirs.low[:2])) / cell).long().tolist())
    offset = (place - torch.tensor(theirs.low[:2])) / cell - torch.tensor(peak)
    task = {
        "reg": torch.zeros((1, 2, *theirs.shape)),
        "height": torch.full((1, 1, *theirs.shape), 0.7),
        "heatmap": torch.full((1, 1, *theirs.shape), -9.0),
    }
    # Every cell around the peak points to the same place.
    i, j = torch.meshgrid(*(torch.arange(n) for n in theirs.shape), indexing="ij")
    cells = torch.stack([i, j])
    task["reg"][0] = torch.tensor(peak)[:, None, None] + offset[:, None, None] - cells
    task["heatmap"][0, 0, peak[0], peak[1]] = 3.0
    found = fitted(
        ModelOutput(fused=ramp, gated_camera=ramp, tasks=[task]), of=theirs, to=TINY.grid
    )
    x, y = (
        low + (torch.arange(n) + 0.5) * TINY.grid.cell
        for low, n in zip(TINY.grid.low, TINY.grid.shape, strict=False)
    )
    inner = found.fused[0, 0, 1:-1, 1:-1]
    torch.testing.assert_close(inner, (x[:, None] + 2 * y[None])[1:-1, 1:-1], atol=1e-4, rtol=0)
    maps = found.tasks[0]
    assert maps["heatmap"].shape == (1, 1, *TINY.grid.shape)
    assert (maps["height"] == 0.7).all()
    cells = torch.stack(torch.meshgrid(*(torch.arange(n) for n in TINY.grid.shape), indexing="ij"))
    metres = (maps["reg"][0] + cells) * TINY.grid.cell + torch.tensor(TINY.grid.low[:2])[
        :, None, None
    ]
    torch.testing.assert_close(metres, place[:, None, None].expand_as(metres), atol=1e-4, rtol=0)
    if cell <= TINY.grid.cell:
        assert float(maps["heatmap"].max()) == 3.0
        best = int(maps["heatmap"].flatten().argmax())
        cell_of_place = ((place - torch.tensor(TINY.grid.low[:2])) / TINY.grid.cell).long()
        near = torch.tensor(divmod(best, TINY.grid.shape[1])) - cell_of_place
        assert near.abs().max() <= 1


def test_a_teacher_with_other_cells_and_channels_distils() -> None:
    grid = dataclasses.replace(TINY.grid, cell=1.0)
    camera = dataclasses.replace(TINY.camera, context_channels=12)
    other = dataclasses.replace(TINY, grid=grid, camera=camera, fused_channels=24)
    torch.manual_seed(0)
    master = Teacher(build_detector(other))
    student = build_detector(TINY)
    names = ("msfd_fused", "msfd_camera", "reld", "respd_heatmap", "respd_box")
    config = dataclasses.replace(CONFIG, losses=only(*names))
    loss = Crkd(config, student=TINY, teacher=master)
    seen = batch(0, 1)
    terms = loss(student(seen), seen, targets(truths(0, 1)))
    assert terms.keys() == set(names)
    sum(terms.values()).backward()
    assert all(p.grad is not None and p.grad.any() for p in loss.parameters())
    assert {tuple(p.shape) for p in loss.fused.parameters()} == {(24, 16, 1, 1), (24,)}
    assert {tuple(p.shape) for p in loss.camera.parameters()} == {(12, 8, 1, 1), (12,)}
    master.verify()


def test_a_teacher_of_lidar_alone_teaches_all_but_camera_features() -> None:
    """It gives no gated camera features; everything else of it is like any other teacher's."""
    master = teacher_of(with_branches("lidar"))
    with pytest.raises(AdaptError, match=r"teacher tiny lidar sees no camera.*msfd_camera=0"):
        crkd(teacher=master)
    names = {*CRKD_LOSSES} - {"msfd_camera"}
    loss = crkd(teacher=master, losses=only(*names))
    student = build_detector(CALIBRATED)
    seen = collate([lidar_frame(0), lidar_frame(1)], master.config)
    assert not seen.images.numel()
    terms = loss(student(batch(0, 1)), seen, targets(truths(0, 1)))
    assert terms.keys() == names
    sum(terms.values()).backward()
    assert all(p.grad is not None for p in loss.parameters())


@pytest.mark.parametrize(
    ("branches", "message"),
    [
        (("radar",), "sees no camera, which msfd_camera"),
        (("camera",), "sees no radar, which csrd"),
    ],
)
def test_losses_about_a_branch_that_the_student_lacks_are_refused(branches, message) -> None:
    with pytest.raises(AdaptError, match=f"student tiny {branches[0]} {message}"):
        crkd(student=with_branches(*branches))


def test_no_adapters_where_none_are_needed() -> None:
    names = ("csrd", "respd_heatmap", "respd_box")
    assert not list(crkd(losses=only(*names)).parameters())
    assert len(list(crkd().parameters())) == 4 * 4 + 2 * 2
    assert len(list(published().parameters())) == 4 * 4


def moved(**changes) -> GridConfig:
    return dataclasses.replace(TINY.grid, **changes)


TURNED = ((0.0, 1.0, 0.0, 0.0), (-1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))


@pytest.mark.parametrize(
    ("changes", "settings", "message"),
    [
        ({"grid": moved(low=(-48.0, -16.0, -5.0))}, {}, "see different ground"),
        ({"ego_T_grid": TURNED}, {}, "different frames"),
        (
            {
                "head": dataclasses.replace(TINY.head, tasks=(TaskConfig(classes=("car",)),)),
                "classes": ("car",),
            },
            {},
            "different tasks.*--losses csrd=0,respd_heatmap=0,respd_box=0",
        ),
        ({"radar": dataclasses.replace(TINY.radar, sweeps=3)}, {}, "radar sweeps"),
        (
            {},
            {"teacher_sensors": ("RADAR_FRONT",)},
            "teacher tiny sees no camera.*--losses msfd_camera=0",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(changes, settings, message) -> None:
    config = dataclasses.replace(CONFIG, **settings)
    with pytest.raises(AdaptError, match=message):
        Crkd(config, student=TINY, teacher=teacher_of(dataclasses.replace(TINY, **changes)))


def test_sensors_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ConfigError, match="teacher_sensors: unknown CAM_TOP"):
        dataclasses.replace(CONFIG, teacher_sensors=("CAM_TOP",))


def test_other_tasks_are_fine_where_no_loss_reads_them() -> None:
    one = dataclasses.replace(TINY.head, tasks=(TaskConfig(classes=("car",)),))
    config = dataclasses.replace(CONFIG, losses=only("msfd_fused", "reld"))
    Crkd(
        config,
        student=TINY,
        teacher=teacher_of(dataclasses.replace(TINY, head=one, classes=("car",))),
    )


def test_only_what_losses_read_is_kept(model) -> None:
    everything = Teacher(model)(batch(0))
    kept = Teacher(model, keep=("camera_bev",))(batch(0))
    assert {name for name in kept.tensors() if not name.startswith("task")} == {
        "fused",
        "camera_bev",
    }
    assert torch.equal(kept.need("camera_bev"), everything.need("camera_bev"))
    with pytest.raises(MissingFeatureError, match="reads gated_camera"):
        kept.need("gated_camera")
    with pytest.raises(TeacherError, match=r"maps of the grid.*got depth_logits"):
        Teacher(model, keep=("depth_logits",))


def test_answers_kept_for_other_losses_are_no_answers(model, tmp_path) -> None:
    cache = FeatureCache(tmp_path, gigabytes=1)
    Teacher(model, keep=("camera_bev",), cache=cache)(batch(0))
    kept = Teacher(model, keep=("gated_camera",), cache=cache)(batch(0))
    assert kept.gated_camera is not None and kept.camera_bev is None


def test_tensors_and_back() -> None:
    given = teacher(1)
    back = ModelOutput.of(given.tensors())
    assert torch.equal(back.fused, given.fused)
    assert torch.equal(back.need("gated_camera"), given.need("gated_camera"))
    assert back.camera_bev is None
    for a, b in zip(back.tasks, given.tasks, strict=True):
        assert torch.equal(stacked(a), stacked(b))
        assert torch.equal(a["heatmap"], b["heatmap"])
    assert np.isfinite(frame().radar).all()
