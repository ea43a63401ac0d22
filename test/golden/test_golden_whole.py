"""Whole released networks from pixels and points to boxes. `make test-golden` runs these."""

from __future__ import annotations

import copy

import numpy as np
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
from torch import Tensor

from crkd_core.model.camera.lift import Points
from crkd_core.model.output import ModelOutput

STUDENTS = ("r50_student", "swint_student", "r50_distilled")
TEACHERS = ("r50_teacher", "swint_teacher")

pytestmark = [needs_golden, pytest.mark.golden_heavy, pytest.mark.usefixtures("no_grad")]


def check_finely_lifted(found: Tensor, vectors: Vectors, name: str) -> None:
    """All as stored but around the few cells whose border a frustum point lies on.

    One cell of 0.3 m that differs by a point reaches 5 x 5 cells of 0.6 m through the three
    convolutions.
    """
    values, stored = vectors.pairs(found, name)
    error = np.abs(values - stored) / np.abs(vectors[f"{name}__stats"][3:]).max()
    assert np.median(error) < 1e-6
    assert (error > 1e-5).mean() < 2e-2, (error > 1e-5).mean()


@pytest.mark.parametrize("name", [*STUDENTS, *TEACHERS])
def test_network(name: str) -> None:
    vectors, model = Vectors(f"model_{name}"), imported(name)
    features = model.image.neck(model.image.backbone(images()).feature_maps)
    check(features, vectors, "neck")
    sensor = "radar" if model.lidar is None else "lidar"
    rows = torch.from_numpy(Vectors("inputs_whole")[f"{sensor}_points"])
    points = Points(rows, torch.zeros(len(rows), dtype=torch.int64))
    sensor_bev = (model.radar if model.lidar is None else model.lidar)(*points, 1)
    if model.calibration is not None:
        sensor_bev, _ = model.calibration(sensor_bev)
    check(sensor_bev, vectors, f"{sensor}_bev")
    check_bev = check_lifted if model.lidar is None else check_finely_lifted
    shares = {}
    for variant in ("trunc", "floor", "given"):
        if variant == "given":
            camera_bev = given_camera_bev()
        else:
            lift = copy.deepcopy(model.lift)
            assert lift.trunc
            lift.trunc = variant == "trunc"
            camera_bev, _ = lift(features, cameras(), all_present(), **{sensor: points})
            check_bev(camera_bev, vectors, f"{variant}.camera_bev")
        (gated, _), fused = model.fuser([camera_bev, sensor_bev])
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
            **{f"{sensor}_bev": sensor_bev},
            fused=fused,
            decoded=decoded,
            depth_logits=torch.zeros(0),
        )
        shares[variant] = check_boxes(output, model.config, vectors, variant)
    print(f"{name}: share of stored boxes found again: {shares}")
