"""The teacher stays what it is; its answers may come from disk; other shapes are adapted."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from crkd_maps import (
    CALIBRATED,
    READ,
    X,
    Y,
    crkd,
    only,
    published,
    targets,
    teacher,
    teacher_of,
    truths,
)
from model_tiny import TINY, batch, frame, lidar_frame, with_branches

from crkd_core.config import (
    CRKD_LOSSES,
    AugmentConfig,
    ConfigError,
    CrkdConfig,
    GridConfig,
    TaskConfig,
    TemporalConfig,
    TrainConfig,
)
from crkd_core.data.batch import collate
from crkd_core.distill.adapt import AdaptError, check_fit, fitted
from crkd_core.distill.cache import CacheError, FeatureCache
from crkd_core.distill.crkd import Crkd
from crkd_core.distill.teacher import Teacher, TeacherError, checksum, salt_of
from crkd_core.distill.views import TeacherViews
from crkd_core.model.build import build_detector
from crkd_core.model.head import stacked
from crkd_core.model.output import MissingFeatureError, ModelOutput
from crkd_core.train.batch import Taught
from crkd_core.train.samples import Views

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


def a_cache(folder, *, gigabytes: float = 1.0) -> FeatureCache:
    return FeatureCache(folder, gigabytes=gigabytes, salt="salt")


def known(cache: FeatureCache, keys: list[str]) -> Taught:
    """A batch all of which is answered from disk."""
    answers = [cache.read(key) for key in keys]
    assert None not in answers
    names = tuple(answers[0])
    stacked = tuple(torch.stack([answer[name] for answer in answers]) for name in names)
    return Taught(batch=None, names=names, answers=stacked, known=(True,) * len(keys))


def test_what_is_kept_is_what_was_learned_from(model, tmp_path) -> None:
    master = Teacher(model, cache=a_cache(tmp_path))
    first = master.answer(Taught(batch=batch(0, 1), keys=("a0", "b1"))).tensors()
    plain = master(batch(0, 1)).tensors()
    for name, value in first.items():
        assert value.dtype == torch.float16
        assert torch.equal(value, plain[name].half()), name
    master.model.forward = None  # from here on only the disk can answer
    again = master.answer(known(master.cache, ["b1", "a0"])).tensors()
    for name, value in first.items():
        assert torch.equal(value.flip(0), again[name]), name
    del master.model.forward


def test_known_and_unknown_samples_of_a_batch_come_in_their_order(model, tmp_path) -> None:
    master = Teacher(model, cache=a_cache(tmp_path))
    whole = master.answer(Taught(batch=batch(0, 1, 2, 3), keys=("a0", "b1", "c2", "d3")))
    some = known(master.cache, ["b1", "d3"])
    mixed = dataclasses.replace(
        some, batch=batch(0, 2), keys=("a0", "c2"), known=(False, True, False, True)
    )
    found = master.answer(mixed)
    for name, value in whole.tensors().items():
        torch.testing.assert_close(found.tensors()[name], value, rtol=2e-3, atol=2e-3)


def test_the_cache_stops_growing_and_survives_a_torn_file(model, tmp_path) -> None:
    seen = Taught(batch=batch(0, 1), keys=("a0", "b1"))
    small = a_cache(tmp_path / "small", gigabytes=1e-6)
    Teacher(model, cache=small).answer(seen)
    assert not list(small.folder.glob("*/*"))
    cache = a_cache(tmp_path)
    Teacher(model, cache=cache).answer(seen)
    files = list(tmp_path.glob("*/*.safetensors"))
    assert len(files) == 2
    for file in files:
        file.write_bytes(file.read_bytes()[:100])
    assert cache.read("a0") is None
    assert cache.read("nothing") is None


def test_names_of_answers_say_all_that_decides_them(tmp_path) -> None:
    """Teacher, what it sees, the recordings, and with augmentation seed and position."""
    run = TrainConfig(
        detector=TINY,
        crkd=CONFIG,
        augment=AugmentConfig(),
        seed=3,
        depth_weight=0.0,
    )

    class Set(list):
        def digest(self):
            return "one"

        tokens = ("frame 0", "frame 1", "frame 2")

    def key(position: int = 4, *, frames=None, config=run, salt="a", teacher=TINY, sensors=()):
        cache = FeatureCache(tmp_path, gigabytes=1, salt=salt)
        stream = Views(frames or Set([frame(0)] * 3), config)
        return TeacherViews(stream, teacher, sensors=sensors, cache=cache).known(position).key

    other = Set([frame(0)] * 3)
    other.digest = lambda: "two"
    image = dataclasses.replace(TINY.image, zoom=1.1)
    remembering = dataclasses.replace(TINY, temporal=TemporalConfig(frames=2))
    changed = {
        "position": key(1),
        "later": key(4 + 3),
        "recordings": key(frames=other),
        "seed": key(config=dataclasses.replace(run, seed=4)),
        "augmentation": key(
            config=dataclasses.replace(run, augment=AugmentConfig(bev_rotation=9.0))
        ),
        "teacher": key(salt="b"),
        "image": key(teacher=dataclasses.replace(TINY, image=image)),
        "sensors": key(sensors=("CAM_FRONT",)),
        "blind": key(teacher=remembering),
        "moments": key(teacher=remembering, config=dataclasses.replace(run, detector=remembering)),
    }
    assert len({*changed.values(), key()}) == len(changed) + 1
    # What the student misses, the teacher sees.
    dropped = dataclasses.replace(run, augment=AugmentConfig(drop_camera=0.5))
    assert key(config=dropped) == key()
    # Without augmentation a sample is the same in every epoch.
    still = dataclasses.replace(run, augment=None)
    order = Views(Set([frame(0)] * 3), still).order
    later = next(p for p in range(3, 6) if order[p] == order[0])
    assert key(later, config=still) == key(0, config=still)
    assert key(1, config=still) != key(0, config=still)
    with pytest.raises(CacheError, match="list does not say which recordings it holds"):
        key(frames=[frame(0)])
    assert key(salt=salt_of("x", keep=("fused",), precision=torch.bfloat16)) != key(
        salt=salt_of("x", keep=("fused", "boxes"), precision=torch.bfloat16)
    )


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


@pytest.mark.parametrize("cell", [3.2, 4.0, 1.6, 0.4])
@pytest.mark.parametrize("heatmap", [True, False])
def test_boxes_of_other_cells_are_those_of_the_nearest_one(cell: float, heatmap: bool) -> None:
    """Unless the new cells are larger and a heatmap says which of the old ones has an object."""
    theirs = dataclasses.replace(TINY.grid, cell=cell)
    if heatmap and cell < TINY.grid.cell:
        return
    number = torch.arange(theirs.shape[0] * theirs.shape[1]).view(1, 1, *theirs.shape).float()
    task = {"height": number}
    if heatmap:
        task["heatmap"] = torch.randn(1, 2, *theirs.shape)
    fused = torch.zeros((1, 1, *theirs.shape))
    (maps,) = fitted(ModelOutput(fused=fused, tasks=[task]), of=theirs, to=TINY.grid).tasks
    for i, j in np.ndindex(TINY.grid.shape):
        ours = (np.array([i, j]) + 0.5) * TINY.grid.cell
        picked = divmod(int(maps["height"][0, 0, i, j]), theirs.shape[1])
        apart = np.abs((np.array(picked) + 0.5) * cell - ours)
        # No other centre is nearer.
        assert (apart <= cell / 2 + 1e-6).all()


@pytest.mark.parametrize("cell", [1.0, 0.5, 1.6])
def test_larger_cells_take_the_boxes_of_the_objects_own_cells(cell: float) -> None:
    """What a teacher says beside them it has never learned."""
    theirs = dataclasses.replace(TINY.grid, cell=cell)
    low = torch.tensor(TINY.grid.low[:2])
    places = torch.tensor([[-20.3, -13.1], [-9.7, 5.3], [0.1, 0.3], [11.3, -7.9], [21.9, 14.7]])
    task = {
        "reg": torch.full((2, 2, *theirs.shape), 50.0),
        "height": torch.full((2, 1, *theirs.shape), -90.0),
        "heatmap": torch.full((2, 2, *theirs.shape), -9.0),
    }
    for index, place in enumerate(places):
        i, j = ((place - low) / cell).long().tolist()
        task["heatmap"][index % 2, index % 2, i, j] = 2.0
        task["height"][index % 2, 0, i, j] = float(index)
        task["reg"][index % 2, :, i, j] = (place - low) / cell - torch.tensor([i, j])
    (maps,) = fitted(
        ModelOutput(fused=torch.zeros((2, 1, *theirs.shape)), tasks=[task]),
        of=theirs,
        to=TINY.grid,
    ).tasks
    for index, place in enumerate(places):
        own = (place - low) / TINY.grid.cell
        i, j = own.long().tolist()
        assert maps["heatmap"][index % 2, index % 2, i, j] == 2.0
        assert maps["height"][index % 2, 0, i, j] == index
        torch.testing.assert_close(
            maps["reg"][index % 2, :, i, j], own - own.floor(), atol=1e-4, rtol=0
        )


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
    terms = loss(student(seen), Taught(batch=seen), targets(truths(0, 1)))
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
    terms = loss(student(batch(0, 1)), Taught(batch=seen), targets(truths(0, 1)))
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
            {"temporal": TemporalConfig(frames=2)},
            {},
            r"other moments, 2 every 1 s .* and none; .*Give the student the teacher's",
        ),
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


def test_a_teacher_with_memory_needs_a_student_of_the_same_moments() -> None:
    memory, half = TemporalConfig(frames=2), TemporalConfig(frames=2, interval=0.5)
    student, teacher = (dataclasses.replace(TINY, temporal=memory) for _ in range(2))
    check_fit(student=student, teacher=teacher)
    check_fit(student=student, teacher=TINY)
    with pytest.raises(AdaptError, match=r"2 every 1 s .* and 2 every 0\.5 s"):
        check_fit(student=dataclasses.replace(TINY, temporal=half), teacher=teacher)


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
    kept = Teacher(model, keep=("camera_bev", "heatmap"))(batch(0))
    tasks = {f"task{index}.heatmap" for index in range(len(TINY.head.tasks))}
    assert kept.tensors().keys() == {"fused", "camera_bev", *tasks}
    assert kept.fused.shape == (1, 0, X, Y)
    small = fitted(kept, of=TINY.grid, to=dataclasses.replace(TINY.grid, cell=4.0))
    assert small.tasks[0]["heatmap"].shape == (1, 1, X // 2, Y // 2)
    assert small.fused.shape == (1, 0, X // 2, Y // 2)
    assert {"boxes", "fused", "gated_camera", "heatmap"} == READ
    assert Crkd.reads(dataclasses.replace(CONFIG, losses=only("csrd"))) == {"heatmap"}
    assert torch.equal(kept.need("camera_bev"), everything.need("camera_bev"))
    with pytest.raises(MissingFeatureError, match="reads gated_camera"):
        kept.need("gated_camera")
    with pytest.raises(TeacherError, match=r"maps of the grid.*got depth_logits"):
        Teacher(model, keep=("depth_logits",))


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
