"""Every module of the released students, with the weights of the golden rule."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden import Vectors, check, needs_golden, tensor
from official_models import imported, released_maps

from crkd_core.model.detector import BevDetector

pytestmark = [needs_golden, pytest.mark.usefixtures("no_grad")]


@pytest.fixture(scope="module")
def r50() -> BevDetector:
    return imported("r50_student")


@pytest.fixture(scope="module")
def swint() -> BevDetector:
    return imported("swint_student")


def test_resnet_stages(r50: BevDetector) -> None:
    vectors = Vectors("modules_r50_student")
    maps = r50.image.backbone(tensor("input/backbone/image", (2, 3, 128, 160))).feature_maps
    for stage, found in enumerate(maps):
        check(found, vectors, f"r50.stage{stage}")


def test_second_fpn(r50: BevDetector) -> None:
    maps = tuple(
        tensor(f"input/neck/r50/level{i}", (1, width, 64 >> i, 48 >> i))
        for i, width in enumerate((256, 512, 1024, 2048))
    )
    check(r50.image.neck(maps), Vectors("modules_r50_student"), "secondfpn512.out")


def test_swin_stages(swint: BevDetector) -> None:
    # Sides that are no multiples of the window: padding and masks must be as released.
    vectors = Vectors("modules_swint_student")
    maps = swint.image.backbone(tensor("input/backbone/image", (2, 3, 128, 160))).feature_maps
    for stage, found in enumerate(maps, 1):
        check(found, vectors, f"swint.stage{stage}")


def test_pyramid_neck(swint: BevDetector) -> None:
    vectors = Vectors("modules_swint_student")
    maps = tuple(
        tensor(f"input/neck/swint/level{i}", (1, width, 32 >> i, 24 >> i))
        for i, width in enumerate((192, 384, 768))
    )
    for index, found in enumerate(swint.image.neck.levels(maps)):
        check(found, vectors, f"lssfpn512.out{index}")


def test_radar_pillars(r50: BevDetector) -> None:
    vectors = Vectors("modules_r50_student")
    clouds = [torch.from_numpy(vectors[f"radar.points{i}"]) for i in (0, 1)]
    sample = torch.repeat_interleave(torch.arange(2), torch.tensor([len(c) for c in clouds]))
    bev = r50.radar(torch.cat(clouds), sample, 2)
    check(bev, vectors, "radar.bev")
    b, x, y, z = vectors["radar.voxel_coords"].T
    assert not z.any()
    check(bev[b, :, x, y], vectors, "radar.pillar_features")
    empty = torch.ones(2, 180, 180, dtype=torch.bool)
    empty[b, x, y] = False
    assert not bev.permute(0, 2, 3, 1)[empty].any()


def test_calibration_block() -> None:
    vectors = Vectors("modules_r50_distilled")
    calibration = imported("r50_distilled").calibration
    assert calibration is not None
    out, activation = calibration(tensor("input/calibration", (1, 256, 24, 20)).relu())
    check(out, vectors, "calibration.out")
    check(activation, vectors, "calibration.activation")


def test_fuser(r50: BevDetector) -> None:
    vectors = Vectors("modules_r50_student")
    camera = tensor("input/fuser/camera", (1, 80, 40, 36))
    radar = tensor("input/fuser/radar", (1, 256, 40, 36))
    gated, fused = r50.fuser([camera, radar])
    check(gated[0], vectors, "fuser.gated_camera")
    check(fused, vectors, "fuser.fused")
    check(gated[1], vectors, "fuser.gated_radar")


def test_decoder(r50: BevDetector) -> None:
    vectors = Vectors("modules_r50_student")
    x = fused = tensor("input/decoder", (1, 256, 64, 48))
    for stage, group in enumerate(r50.decoder.groups):
        x = group(x)
        check(x, vectors, f"decoder.stage{stage}")
    check(r50.decoder(fused), vectors, "decoder.out")


def test_head(r50: BevDetector) -> None:
    vectors = Vectors("modules_r50_student")
    tasks = r50.head(tensor("input/head", (1, 256, 24, 20)))
    assert len(tasks) == 6
    for task, maps in enumerate(tasks):
        for name, found in released_maps(maps).items():
            check(found, vectors, f"head.task{task}.{name}")


def test_sample_without_radar_is_zero(r50: BevDetector) -> None:
    points = torch.from_numpy(Vectors("modules_r50_student")["radar.points1"])
    sample = torch.ones(len(points), dtype=torch.int64)
    bev = r50.radar(points, sample, 3)
    assert not bev[0].any()
    assert not bev[2].any()
    assert bev[1].any()
    assert not r50.radar(points[:0], sample[:0], 2).any()
    assert np.isfinite(bev.numpy()).all()
