"""Whole released students from pixels and points to boxes. `make test-golden` runs these."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from golden import Vectors, check, needs_golden
from golden_models import (
    all_present,
    cameras,
    check_boxes,
    check_heads,
    check_lifted,
    given_camera_bev,
    images,
)
from official_models import imported

from crkd_core.model.output import ModelOutput

pytestmark = [needs_golden, pytest.mark.golden_heavy]


@pytest.fixture(autouse=True)
def no_grad() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("name", ["r50_student", "swint_student", "r50_distilled"])
def test_student(name: str) -> None:
    vectors, model = Vectors(f"model_{name}"), imported(name)
    features = model.image.neck(model.image.backbone(images()).feature_maps)
    check(features, vectors, "neck")
    points = torch.from_numpy(Vectors("inputs_whole")["radar_points"])
    radar_bev = model.radar(points, torch.zeros(len(points), dtype=torch.int64), 1)
    if model.calibration is not None:
        radar_bev, _ = model.calibration(radar_bev)
    check(radar_bev, vectors, "radar_bev")
    shares = {}
    for variant in ("trunc", "floor", "given"):
        if variant == "given":
            camera_bev = given_camera_bev()
        else:
            lift = copy.deepcopy(model.lift)
            assert lift.trunc
            lift.trunc = variant == "trunc"
            camera_bev, _ = lift(features, cameras(), all_present())
            check_lifted(camera_bev, vectors, f"{variant}.camera_bev")
        (gated, _), fused = model.fuser([camera_bev, radar_bev])
        decoded = model.decoder(fused)
        tasks = model.head(decoded)
        if variant == "given":
            for part, found in (("gated_camera", gated), ("fused", fused), ("decoded", decoded)):
                check(found, vectors, f"given.{part}")
        check_heads(tasks, vectors, variant)
        output = ModelOutput(
            tasks=tasks,
            camera_bev=camera_bev,
            gated_camera=gated,
            radar_bev=radar_bev,
            fused=fused,
            decoded=decoded,
            depth_logits=torch.zeros(0),
        )
        shares[variant] = check_boxes(output, model.config, vectors, variant)
    print(f"{name}: share of stored boxes found again: {shares}")
