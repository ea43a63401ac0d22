import pytest
import torch
import torch.nn.functional as F

from crkd_core.model.lidar import sites_spconv
from crkd_core.model.lidar.sites import Sites, SparseError
from crkd_core.model.lidar.sites_spconv import SpconvSites
from crkd_core.model.lidar.sparse_encoder import SparseBlock, SparseConv, SparseEncoder
from crkd_core.model.lidar.sparse_map import SparseMap

SHAPE = (7, 6, 5)


def sparse(seed=0, *, batch=2, count=60, channels=3, shape=SHAPE):
    """Random features at random cells, float64."""
    generator = torch.Generator().manual_seed(seed)
    total = batch * shape[0] * shape[1] * shape[2]
    keys = torch.randperm(total, generator=generator)[:count].sort().values
    sites = Sites(keys, batch=batch, shape=shape)
    features = torch.randn(count, channels, dtype=torch.float64, generator=generator)
    return SparseMap(features.requires_grad_(), sites)


def dense_kernel(convolution):
    """[out, in, kx, ky, kz], what conv3d wants."""
    inputs, outputs = convolution.weight.shape[1:]
    return convolution.weight.view(*convolution.kernel, inputs, outputs).permute(4, 3, 0, 1, 2)


def occupied(x):
    return x._replace(features=torch.ones(len(x.sites), 1, dtype=torch.float64)).dense() > 0


CASES = [
    {"kernel": (3, 3, 3)},
    {"kernel": (1, 3, 5), "padding": (0, 1, 2)},
    {"kernel": (3, 3, 3), "stride": (2, 2, 2)},
    {"kernel": (3, 3, 3), "stride": (2, 2, 2), "padding": (1, 1, 0)},
    {"kernel": (1, 1, 3), "stride": (1, 1, 2), "padding": (0, 0, 0)},
    {"kernel": (2, 2, 2), "stride": (2, 2, 2), "padding": (0, 0, 0)},
]


@pytest.mark.parametrize("case", CASES)
def test_equals_dense_convolution_forward_and_backward(case):
    torch.manual_seed(1)
    convolution = SparseConv(3, 4, **case).double()
    x = sparse()
    out = convolution(x)
    dense_out = F.conv3d(
        x.dense(),
        dense_kernel(convolution),
        stride=convolution.stride or 1,
        padding=tuple(k // 2 for k in convolution.kernel)
        if convolution.stride is None
        else convolution.padding,
    )
    assert out.sites.shape == dense_out.shape[2:]
    # Strided: every cell that the kernel of some site reaches, and no other.
    reach = F.conv3d(
        occupied(x).double(),
        torch.ones(1, 1, *convolution.kernel, dtype=torch.float64),
        stride=convolution.stride or 1,
        padding=convolution.padding,
    )
    mask = occupied(x) if convolution.stride is None else reach > 0
    torch.testing.assert_close(occupied(out), mask)
    expected = dense_out * mask
    torch.testing.assert_close(out.dense(), expected)
    assert expected.abs().max() > 1

    upstream = torch.randn_like(expected)
    found = torch.autograd.grad((out.dense() * upstream).sum(), [x.features, convolution.weight])
    wanted = torch.autograd.grad((expected * upstream).sum(), [x.features, convolution.weight])
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b)


def test_gradients_by_finite_differences():
    torch.manual_seed(0)
    x = sparse(count=12, channels=2, shape=(3, 3, 3))
    for case in (CASES[0], CASES[3]):
        convolution = SparseConv(2, 2, **case).double()

        def call(features, weight, convolution=convolution):
            return torch.func.functional_call(
                convolution, {"weight": weight}, (SparseMap(features, x.sites),)
            ).features

        assert torch.autograd.gradcheck(call, (x.features, convolution.weight))


def test_backward_is_that_of_autograd_under_autocast_too():
    torch.manual_seed(0)
    convolution, x = SparseConv(16, 8), sparse(channels=16, count=150)
    features = x.features.detach().float().requires_grad_()
    upstream = torch.randn(150, 8)
    out = convolution(SparseMap(features, x.sites)).features
    exact = torch.autograd.grad((out * upstream).sum(), [features, convolution.weight])
    with torch.autocast("cpu", torch.bfloat16):
        half = convolution(SparseMap(features, x.sites)).features
    assert half.dtype == torch.bfloat16
    found = torch.autograd.grad((half * upstream).sum(), [features, convolution.weight])
    for a, b in zip(found, exact, strict=True):
        assert a.dtype == torch.float32
        assert (a - b).abs().max() < 0.03 * b.abs().max()


def test_training_does_not_keep_gathered_rows():
    torch.manual_seed(0)
    x = sparse(channels=16, count=150)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.append(t.numel()) or t, lambda t: t
    ):
        SparseConv(16, 8).double()(x)
    assert sum(kept) <= 150 * 16 + 27 * 16 * 8


def test_samples_do_not_touch():
    torch.manual_seed(0)
    encoder = SparseEncoder(3, channels=(4, 8), blocks=1).double().eval()
    shape = (8, 8, 9)
    both, counts = sparse(batch=2, count=200, shape=shape), []
    bev = encoder(both)
    for index in range(2):
        mine = both.sites.coords()[:, 0] == index
        counts.append(int(mine.sum()))
        keys = both.sites.keys[mine] - index * 8 * 8 * 9
        alone = SparseMap(both.features[mine], Sites(keys, batch=1, shape=shape))
        torch.testing.assert_close(encoder(alone)[0], bev[index])
    assert min(counts) > 50


def test_block_equals_dense_convolutions():
    torch.manual_seed(3)
    block = SparseBlock(3).double().eval()
    x = sparse(5)
    mask = occupied(x)
    first, second = block.first[0], block.second[0]
    scale = (1 + 1e-3) ** -0.5  # fresh BatchNorm in evaluation mode
    inner = (F.conv3d(x.dense(), dense_kernel(first), padding=1) * scale * mask).relu()
    outer = F.conv3d(inner, dense_kernel(second), padding=1) * scale * mask
    torch.testing.assert_close(block(x).dense(), (outer + x.dense()).relu())


def test_height_goes_into_the_channels():
    encoder = SparseEncoder(5, channels=(4, 4, 4, 4), blocks=1).eval()
    assert encoder.out_shape((1440, 1440, 41)) == (180, 180, 2)
    x = sparse(channels=5, shape=(8, 8, 41), batch=1, count=400)
    x = x._replace(features=x.features.float())
    *_, last = encoder.maps(x)
    out = encoder.out(last)
    bev = encoder(x)
    assert bev.shape == (1, 8, 1, 1)
    torch.testing.assert_close(bev[0, :, 0, 0], out.dense()[0, :, 0, 0].flatten())


@pytest.mark.skipif(not sites_spconv.installed(), reason="spconv is not installed")
def test_spconv_gives_the_same():
    torch.manual_seed(2)
    encoder = SparseEncoder(3, channels=(4, 8), blocks=1).eval()
    shape = (9, 8, 9)
    x = sparse(count=300, shape=shape)
    shuffled = torch.randperm(300)
    features = x.features.detach().float()
    sites = SpconvSites.of(x.sites.coords()[shuffled], batch=2, shape=shape)
    with torch.no_grad():
        for plain, theirs in zip(
            encoder.maps(x._replace(features=features)),
            encoder.maps(SparseMap(features[shuffled], sites)),
            strict=True,
        ):
            torch.testing.assert_close(theirs.dense(), plain.dense(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            encoder(SparseMap(features[shuffled], sites)),
            encoder(x._replace(features=features)),
            rtol=1e-4,
            atol=1e-5,
        )


def test_sites_sort_and_tell_where_cells_went():
    coords = torch.tensor([[1, 0, 0, 0], [0, 6, 5, 4], [0, 0, 0, 1]])
    sites, order = Sites.of(coords, batch=2, shape=SHAPE)
    assert order.tolist() == [2, 1, 0]
    torch.testing.assert_close(sites.coords(), coords[order])


def test_cells_outside_or_named_twice_are_refused():
    with pytest.raises(SparseError, match="outside 2 grids"):
        Sites.of(torch.tensor([[2, 0, 0, 0]]), batch=2, shape=SHAPE)
    with pytest.raises(SparseError, match="named twice"):
        Sites.of(torch.tensor([[0, 1, 1, 1], [0, 1, 1, 1]]), batch=1, shape=SHAPE)


def test_layers_between_strides_share_one_table():
    x = sparse()
    assert x.sites.neighbours((3, 3, 3)) is SparseConv(3, 3).double()(x).sites.neighbours(
        (3, 3, 3)
    )


def test_bfloat16_accumulates_in_float32():
    torch.manual_seed(0)
    convolution = SparseConv(16, 16)
    x = sparse(channels=16, count=150)
    exact = convolution(x._replace(features=x.features.float())).features
    half = convolution.bfloat16()(x._replace(features=x.features.bfloat16())).features
    assert half.dtype == torch.bfloat16
    # Rounding of inputs, weights, products and the result; not one per kernel cell.
    assert (half.float() - exact).abs().max() < 0.03 * exact.abs().max()
