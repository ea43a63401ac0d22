"""Which released files are known, what comes out of them, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from golden import FOLDER, needs_golden
from official_keys import distilled, student, teacher
from torch import Tensor

from crkd_core.model.build import build_detector
from crkd_core.official import OfficialError, convert
from crkd_core.presets import preset

Maker = Callable[[], dict[str, Tensor]]

FILES: dict[str, Maker] = {
    "r50_student": lambda: student("r50"),
    "swint_student": lambda: student("swint"),
    "r50_baseline": lambda: student("r50", gated=False),
    "swint_baseline": lambda: student("swint", gated=False),
    "r50_distilled": lambda: distilled("r50"),
    "swint_distilled": lambda: distilled("swint"),
    "r50_teacher": lambda: teacher("r50"),
    "swint_teacher": lambda: teacher("swint"),
}

#: Tensors of the files, and learnable parameters of the network in millions, as published.
KEYS = {
    "r50_student": 784,
    "swint_student": 653,
    "r50_baseline": 780,
    "swint_baseline": 649,
    "r50_distilled": 1761,
    "swint_distilled": 1499,
    "r50_teacher": 939,
    "swint_teacher": 808,
}
MILLIONS = {
    "r50_student": 44.63,
    "swint_student": 49.40,
    "r50_distilled": 46.40,
    "swint_distilled": 51.17,
    "r50_teacher": 46.19,
    "swint_teacher": 49.34,
}


def millions(module: torch.nn.Module) -> float:
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


@pytest.mark.parametrize("name", FILES)
def test_released_files_fit(name: str) -> None:
    state = FILES[name]()
    assert len(state) == KEYS[name]
    config, tensors = convert(state)
    with torch.device("meta"):
        network = build_detector(config, pretrained=False)
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    assert shapes == {key: value.shape for key, value in tensors.items()}
    if name in MILLIONS:
        assert round(millions(network), 2) == MILLIONS[name]
    assert (config.lidar is not None) == name.endswith("teacher")
    assert config.fuser == ("conv" if "baseline" in name else "gated")
    assert (config.radar is None) == name.endswith("teacher")
    if config.radar is not None:
        assert config.radar.calibration == ("path" if "distilled" in name else "none")
    assert config.camera.cell_rounding == "trunc"
    assert config.ego_T_grid[0][1] > 0.99  # forward of the vehicle is y of LIDAR_TOP


@pytest.mark.parametrize(
    ("name", "total"),
    [("crkd_r50", 44.63), ("crkd_swint", 49.40), ("lc_r50", 46.19), ("lc_swint", 49.34)],
)
def test_presets_have_the_published_sizes(name: str, total: float) -> None:
    config = preset(name).detector
    with torch.device("meta"):
        network = build_detector(config, pretrained=False)
    assert round(millions(network), 2) == total
    shares = {
        "fuser": 1.79,
        "head": 1.52,
        "decoder": 12.61,
        "radar": 0.21,
        "lidar": 2.69,
        "lift": 1.61 if name.startswith("lc") else 0.07,
    }
    for part, share in shares.items():
        module = getattr(network, part)
        if module is not None:
            assert abs(millions(module) - share) < 0.006, part
    backbone, neck = (27.52, (1.59, 5.67)) if "swint" in name else (23.51, (2.46, 4.92))
    assert abs(millions(network.image.backbone) - backbone) < 0.006
    assert abs(millions(network.image.neck) - neck[name.startswith("crkd")]) < 0.006


@needs_golden
@pytest.mark.parametrize("name", [n for n in FILES if "baseline" not in n])
def test_key_lists_are_the_golden_ones(name: str) -> None:
    entries = json.loads((FOLDER / f"keys_{name}.json").read_text())["entries"]
    known = {key: tuple(shape) for key, shape, *_ in entries}
    ours = {key: tuple(value.shape) for key, value in FILES[name]().items()}
    if "distilled" in name:
        # The golden list leaves the teacher out.
        ours = {k: v for k, v in ours.items() if "_student." in k or k.startswith("fused_feat")}
    assert ours == known


def test_prefix_of_data_parallel_training() -> None:
    state = {f"module.{key}": value for key, value in student("r50").items()}
    assert convert(state)[0].name == "imported_crkd_r50"


def test_geometry_buffers_may_be_absent_but_not_different() -> None:
    state = student("r50")
    prefix = "encoders.camera.vtransform."
    bare = {k: v for k, v in state.items() if k.removeprefix(prefix) not in ("dx", "frustum")}
    assert convert(bare)[0] == convert(state)[0]
    state[f"{prefix}bx"] = torch.zeros(3)
    assert convert(state)[0] == convert(bare)[0]
    state[f"{prefix}dx"] = torch.tensor([0.8, 0.8, 20.0])
    with pytest.raises(OfficialError, match=r"vtransform\.dx: .*expected \[0\.6"):
        convert(state)


def test_halves_of_a_distilled_file() -> None:
    state = distilled("swint")
    assert convert(state)[0] == convert(state, part="student")[0]
    assert convert(state, part="teacher")[0] == convert(teacher("swint"))[0]
    own = student("swint", calibrated=True, suffix="_student")
    assert convert(own)[0] == convert(state)[0]
    with pytest.raises(OfficialError, match="student half of a distilled network only"):
        convert(own, part="teacher")
    with pytest.raises(OfficialError, match="no teacher in it"):
        convert(student("r50"), part="teacher")
    with pytest.raises(OfficialError, match="no student in it"):
        convert(teacher("r50"), part="student")


@pytest.mark.parametrize("name", ["r50_student", "swint_distilled", "swint_teacher"])
def test_missing_and_unknown_keys_are_listed(name: str) -> None:
    state = FILES[name]()
    suffix = "_student" if "distilled" in name else ""
    lost = f"heads{suffix}.object.task_heads.3.dim.1.weight"
    odd = f"decoder{suffix}.neck.extra.weight"
    del state[lost]
    state[odd] = torch.zeros(3)
    state["optimizer_of_somebody"] = torch.zeros(1)
    with pytest.raises(OfficialError) as caught:
        convert(state)
    text = str(caught.value)
    assert lost in text
    assert odd in text
    assert "optimizer_of_somebody" in text
    assert "missing (1)" in text
    assert "unknown (2)" in text


def test_other_networks_are_named() -> None:
    lidar_only = {k: v for k, v in teacher("r50").items() if "camera" not in k}
    with pytest.raises(OfficialError, match="neither a ResNet-50"):
        convert(lidar_only)
    camera_only = {k: v for k, v in student("r50").items() if "radar" not in k}
    with pytest.raises(OfficialError, match=r"neither encoders\.lidar .* nor encoders\.radar"):
        convert(camera_only)
    both = {**teacher("r50"), "encoders.radar.backbone.x": torch.zeros(1)}
    with pytest.raises(OfficialError, match="both lidar and radar"):
        convert(both)


def test_official_bevfusion_is_refused_with_what_differs() -> None:
    state = {k: v for k, v in teacher("swint").items() if k.partition(".")[0] == "encoders"}
    state["fuser.0.weight"] = torch.zeros(256, 336, 3, 3)
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        state[f"fuser.1.{name}"] = torch.zeros(256)
    state["decoder.backbone.blocks.0.0.weight"] = torch.zeros(128, 256, 3, 3)
    state["heads.object.heatmap_head.1.weight"] = torch.zeros(10, 128, 3, 3)
    with pytest.raises(OfficialError) as caught:
        convert(state)
    text = str(caught.value)
    assert "SECOND" in text
    assert "TransFusion" in text
    assert "BEVFusion" in text


def test_another_depth_input_is_refused() -> None:
    state = teacher("r50")
    state["encoders.camera.vtransform.dtransform.0.weight"] = torch.zeros(8, 6, 1, 1)
    with pytest.raises(OfficialError, match=r"dtransform\.0"):
        convert(state)


def test_shapes_and_values_are_checked() -> None:
    state = student("r50")
    state["decoder.neck.upsample.1.weight"] = torch.zeros(256, 200, 3, 3)
    state["fuser.output_fuser_conv_norm.1.bias"] = torch.full((256,), float("nan"))
    with pytest.raises(OfficialError) as caught:
        convert(state)
    text = str(caught.value)
    assert "expected (256, 256, 3, 3), got (256, 200, 3, 3)" in text
    assert "holds NaN" in text


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("fuser.input_conv_sensor_2.weight", (256, 300, 3, 3)),
        ("fuser.output_fuser_conv_norm.0.weight", ()),
        ("heads.object.task_heads.0.dim.1.bias", (2,)),
        ("heads.object.task_heads.0.rot.1.bias", ()),
        ("heads.object.task_heads.1.reg.0.conv.weight", (64, 32, 3, 3)),
        ("encoders.camera.backbone.stages.0.blocks.0.attn.w_msa.qkv.bias", ()),
        ("encoders.camera.backbone.stages.0.blocks.0.attn.w_msa.qkv.bias", (2,)),
        ("encoders.camera.backbone.stages.0.downsample.norm.bias", ()),
        ("encoders.camera.neck.lateral_convs.0.conv.weight", (100_000, 1, 1, 1)),
        ("encoders.radar.backbone.pts_voxel_encoder.rfn_layers.0.linear.weight", (0, 47)),
    ],
)
def test_shapes_that_cannot_be_renamed_are_refused(key: str, shape: tuple[int, ...]) -> None:
    state = student("swint")
    assert key in state
    state[key] = torch.zeros(shape)
    with pytest.raises(OfficialError, match=r"tensors? of|tensors do not fit"):
        convert(state)


def test_other_tasks_are_refused() -> None:
    state = student("r50")
    state["heads.object.task_heads.0.heatmap.1.weight"] = torch.zeros(3, 64, 3, 3)
    with pytest.raises(OfficialError, match=r"task_heads\.0\.heatmap: expected 1 outputs, got 3"):
        convert(state)


def test_a_checkpoint_instead_of_its_state_dict() -> None:
    with pytest.raises(OfficialError, match="take the entry 'state_dict'"):
        convert({"meta": {}, "state_dict": {}})  # type: ignore[dict-item]
    with pytest.raises(OfficialError, match="expected a state dict"):
        convert({})


def test_conventions_go_into_the_weights() -> None:
    state = student("r50")
    old, new = "heads.object.task_heads.2.", "head.outputs."
    dim = torch.arange(3.0)[:, None, None, None].expand(3, 64, 3, 3)
    rot = torch.arange(2.0)[:, None, None, None].expand(2, 64, 3, 3) + 5
    state[f"{old}dim.1.weight"], state[f"{old}rot.1.weight"] = dim, rot
    state[f"{old}rot.1.bias"] = torch.tensor([1.0, 2.0])
    state["fuser.input_conv_sensor_2.bias"] = torch.ones(256)
    _, tensors = convert(state)
    # Branches of task 2 follow those of tasks 0 and 1; dim is the third, rot the fourth.
    assert tensors[f"{new}14.weight"][:, 0, 0, 0].tolist() == [1, 0, 2]
    assert tensors[f"{new}15.weight"][:, 0, 0, 0].tolist() == [-6, -5]
    assert tensors[f"{new}15.bias"].tolist() == [-2, -1]
    assert tensors["fuser.gate.bias"].tolist() == [0] * 80 + [1] * 256


def test_half_precision_becomes_float32_and_nothing_is_shared() -> None:
    state = {k: v.half() if v.is_floating_point() else v for k, v in student("r50").items()}
    state["encoders.camera.vtransform.frustum"] = student("r50")[
        "encoders.camera.vtransform.frustum"
    ]
    _, tensors = convert(state)
    assert {v.dtype for v in tensors.values()} == {torch.float32, torch.int64}
    assert all(value.is_contiguous() for value in tensors.values())
