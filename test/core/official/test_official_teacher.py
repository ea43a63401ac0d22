import pytest
import torch
from official_keys import teacher

from crkd_core.official import OfficialError, convert


def test_kernels_keep_the_order_x_y_z():
    state = dict(teacher("r50"))
    key = "encoders.lidar.backbone.conv_input.0.weight"
    state[key] = torch.arange(27 * 5 * 16, dtype=torch.float32).view(3, 3, 3, 5, 16)
    config, ours = convert(state)
    weight = ours["lidar.encoder.input.0.weight"]
    for cell, (x, y, z) in enumerate(
        (x, y, z) for x in range(3) for y in range(3) for z in range(3)
    ):
        assert torch.equal(weight[cell], state[key][x, y, z])
    assert config.camera.lidar_depth and config.camera.cell_rounding == "trunc"
    assert config.head.code_weights[-2:] == (0.2, 0.2)


def test_later_depth_branch_and_kernels_of_spconv_2_are_refused():
    later = dict(teacher("r50"))
    later["encoders.camera.vtransform.dtransform.0.weight"] = torch.zeros(8, 6, 1, 1)
    with pytest.raises(OfficialError, match=r"expected one channel.*got 6"):
        convert(later)
    bins = dict(teacher("r50"))
    bins["encoders.camera.vtransform.depthnet.6.weight"] = torch.zeros(139, 256, 1, 1)
    with pytest.raises(OfficialError, match="expected 198 outputs"):
        convert(bins)
    newer = dict(teacher("r50"))
    newer["encoders.lidar.backbone.conv_input.0.weight"] = torch.zeros(16, 3, 3, 3, 5)
    # [16, 3, 3, 3, 5] would flatten to 144 kernel cells.
    newer["encoders.lidar.backbone.conv_out.0.weight"] = torch.zeros(128, 1, 1, 3, 128)
    with pytest.raises(OfficialError, match=r"\[kx, ky, kz, in, out\].*spconv 1"):
        convert(newer)
