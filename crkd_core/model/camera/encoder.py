"""Camera images to feature maps at one stride: a backbone and a neck.

Shapes: P cameras present in the whole batch, H W image, h w feature map (H / stride, W / stride).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crkd_core.config import BackboneConfig, CameraConfig, ImageConfig
from crkd_core.model.camera.resnet import ResNet
from crkd_core.model.layers import RECKONED_ON, conv_norm

#: Stride of the first stage of a ResNet or Swin; every further stage doubles it.
FIRST_STRIDE = 4


class ImageError(ValueError):
    """A backbone that cannot be made, or images that do not fit it."""


def build_backbone(config: BackboneConfig, *, levels: tuple[int, ...]) -> nn.Module:
    """A ResNet, or transformers' Swin; its ``feature_maps`` are the stages of strides ``levels``.

    Raises:
        ImageError: a stride that no stage has, or a ``weights`` folder that does not hold this
            backbone.
    """
    stages = [FIRST_STRIDE << i for i in range(len(config.depths))]
    if not levels or not set(levels) <= set(stages):
        raise ImageError(f"neck_levels: expected some of the strides {stages}, got {levels}")
    chosen = tuple(stages.index(level) for level in levels)
    if config.kind == "swin" and len(config.heads) != len(config.depths):
        raise ImageError(
            f"backbone.heads: expected one number per stage {config.depths}, got {config.heads}"
        )
    if config.weights is None and config.kind == "resnet":
        return ResNet(config, stages=chosen)
    # Only what needs it waits for the import, which takes seconds.
    import transformers as library

    kind: Any
    settings: Any
    outputs = [stage + 1 for stage in chosen]
    if config.kind == "resnet":
        kind = library.ResNetBackbone
        settings = library.ResNetConfig(  # type: ignore[call-arg]
            embedding_size=config.embedding,
            hidden_sizes=list(config.hidden),
            depths=list(config.depths),
            layer_type=config.layer,
            out_indices=outputs,
        )
    else:
        kind = library.SwinBackbone
        settings = library.SwinConfig(  # type: ignore[call-arg]
            embed_dim=config.embedding,
            depths=list(config.depths),
            num_heads=list(config.heads),
            window_size=7,
            drop_path_rate=0.2,
            out_indices=outputs,
        )
    if config.weights is None:
        return _without_norm(kind(settings))
    if not Path(config.weights, "config.json").is_file():
        raise ImageError(
            f"backbone.weights: {config.weights} holds no config.json; give a folder saved by "
            "save_pretrained of a transformers model, or leave it empty to start at random"
        )
    try:
        loaded, told = kind.from_pretrained(
            config.weights, config=settings, local_files_only=True, output_loading_info=True
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise ImageError(f"backbone.weights: {config.weights}: {error}") from error
    _check_whole(told, config)
    if config.kind == "swin":
        return _without_norm(loaded)
    backbone = ResNet(config, stages=chosen)
    backbone.load_state_dict(loaded.state_dict())
    return backbone


def _check_whole(told: Mapping[str, Any], config: BackboneConfig) -> None:
    """Refuse weights of another network: transformers fills up at random, and leaves the rest out.

    Args:
        told: what it says of the loading.
        config: with ``weights``.
    """
    # No classifier has the norms of a Swin's maps, and no backbone has a classifier.
    missing = [key for key in told["missing_keys"] if not key.startswith("hidden_states_norms.")]
    more = [key for key in told["unexpected_keys"] if ".stages." in key or ".layers." in key]
    if missing or more:
        lacks = f"lacks {len(missing)} of its tensors, as {min(missing)}" if missing else ""
        holds = f"holds {len(more)} that it has not, as {min(more)}" if more else ""
        raise ImageError(
            f"backbone.weights: {config.weights} is not of this {config.kind} with depths "
            f"{config.depths}: it {' and '.join(filter(None, (lacks, holds)))}; give a folder of "
            "the same network, or set depths and widths to those of its config.json"
        )


def _without_norm(backbone: Any) -> nn.Module:
    """Without the last LayerNorm of a Swin, which no feature map goes through."""
    backbone.swin.layernorm = nn.Identity()
    return backbone  # type: ignore[no-any-return]


class Neck(nn.Module):
    """Brings every backbone level to one stride and concatenates (SECONDFPN).

    docs/method.md 1.4.

    A finer level goes through a strided convolution, a coarser one through a transposed one, with
    kernel = stride, then BatchNorm and ReLU.
    """

    def __init__(self, widths: list[int], *, levels: tuple[int, ...], channels: int, stride: int):
        super().__init__()
        branches = []
        for width, level in zip(widths, levels, strict=True):
            ratio = max(level, stride) // min(level, stride)
            kind = nn.Conv2d if level < stride else nn.ConvTranspose2d
            branches.append(
                nn.Sequential(
                    kind(width, channels, ratio, stride=ratio, bias=False),
                    nn.BatchNorm2d(channels, eps=1e-3),
                    nn.ReLU(inplace=True),
                )
            )
        self.branches = nn.ModuleList(branches)

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        """Backbone maps, finest first -> [P, channels * levels, h, w]."""
        return torch.cat([b(m) for b, m in zip(self.branches, maps, strict=True)], 1)


class PyramidNeck(nn.Module):
    """Top-down pyramid whose finest map is used (GeneralizedLSSFPN of BEVFusion).

    docs/method.md 1.4.

    From the coarsest level but one up: the map above, upsampled (bilinear, corners not aligned),
    is concatenated behind the level, then a 1x1 and a 3x3 convolution.
    """

    def __init__(self, widths: list[int], *, channels: int):
        super().__init__()
        above = [channels] * (len(widths) - 2) + [widths[-1]]
        self.lateral = nn.ModuleList(
            conv_norm(width + extra, channels, kernel=1)
            for width, extra in zip(widths[:-1], above, strict=True)
        )
        self.smooth = nn.ModuleList(conv_norm(channels, channels) for _ in above)

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        """Backbone maps, finest first -> [P, channels, h, w] of the finest."""
        return self.levels(maps)[0]

    def levels(self, maps: tuple[Tensor, ...]) -> list[Tensor]:
        """All maps of the pyramid, finest first, the coarsest backbone map not among them."""
        outputs: list[Tensor] = []
        x = maps[-1]
        for level in reversed(range(len(self.lateral))):
            x = F.interpolate(x, size=maps[level].shape[2:], mode="bilinear", align_corners=False)
            x = self.smooth[level](self.lateral[level](torch.cat([maps[level], x], 1)))
            outputs.insert(0, x)
        return outputs


class Normalise(nn.Module):
    """Pixels less their mean, by their standard deviation, of the data that the backbone knows."""

    mean: Tensor
    std: Tensor

    def __init__(self, image: ImageConfig) -> None:
        super().__init__()
        # Constants of the configuration, so not stored with the weights.
        with RECKONED_ON:
            self.register_buffer("mean", 255 * torch.tensor(image.mean)[:, None, None], False)
            self.register_buffer("std", 255 * torch.tensor(image.std)[:, None, None], False)

    def forward(self, images: Tensor, dtype: torch.dtype) -> Tensor:
        """Uint8 RGB [P, H, W, 3] -> [P, 3, H, W]."""
        # A permuted [P, H, W, 3] already is channels_last, the layout CPUs convolve fastest.
        pixels = images.permute(0, 3, 1, 2).float()
        return ((pixels - self.mean) / self.std).to(dtype)


class ImageEncoder(nn.Module):
    """Six images to feature maps; missing cameras are not computed at all."""

    def __init__(self, config: CameraConfig, image: ImageConfig):
        super().__init__()
        coarsest = max(config.neck_levels)
        if image.height % coarsest or image.width % coarsest:
            raise ImageError(
                f"image: height and width must be multiples of the coarsest stride {coarsest}, "
                f"got {image.height} x {image.width}"
            )
        self.size = (image.height, image.width)
        self.backbone = build_backbone(config.backbone, levels=config.neck_levels)
        widths = [int(width) for width in self.backbone.channels]  # type: ignore[union-attr]
        self.neck: nn.Module
        if config.neck == "second_fpn":
            self.channels = config.neck_channels * len(config.neck_levels)
            self.neck = Neck(
                widths,
                levels=config.neck_levels,
                channels=config.neck_channels,
                stride=config.stride,
            )
        else:
            if config.neck_levels[0] != config.stride or len(widths) < 2:
                raise ImageError(
                    "camera.neck lss_fpn: expected at least two neck_levels, the first of them "
                    f"the stride {config.stride}, got {config.neck_levels}"
                )
            self.channels = config.neck_channels
            self.neck = PyramidNeck(widths, channels=config.neck_channels)
        self.map_size = (image.height // config.stride, image.width // config.stride)
        self.normalise = Normalise(image)

    def forward(self, images: Tensor, present: Tensor) -> Tensor:
        """Uint8 RGB [B, 6, H, W, 3] and bool [B, 6] -> [P, channels, h, w], in camera order.

        Raises:
            ImageError: images of another size than the configured one.
        """
        if tuple(images.shape[2:4]) != self.size:
            raise ImageError(
                f"images: expected {self.size[0]} x {self.size[1]} pixels as configured, got "
                f"{images.shape[2]} x {images.shape[3]}; prepare Frames with this ImageConfig"
            )
        dtype = next(self.parameters()).dtype
        count = int(present.sum())
        if not count:
            return torch.zeros(
                (0, self.channels, *self.map_size), dtype=dtype, device=images.device
            )
        # All of them are there nearly always, and picking them copies.
        every = count == present.numel()
        return self.features(images.flatten(0, 1) if every else images[present])

    def features(self, images: Tensor) -> Tensor:
        """Uint8 RGB [P, H, W, 3] of the configured size -> [P, channels, h, w]."""
        pixels = self.normalise(images, next(self.parameters()).dtype)
        return self.neck(self.backbone(pixels).feature_maps)
