"""Camera images to feature maps at one stride: a transformers backbone and a four-branch neck.

Shapes: P cameras present in the whole batch, H W image, h w feature map (H / stride, W / stride).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import ResNetBackbone, ResNetConfig, SwinBackbone, SwinConfig

from crkd_core.config import BackboneConfig, CameraConfig, ImageConfig

#: Stride of the first stage of a ResNet or Swin; every further stage doubles it.
FIRST_STRIDE = 4


class ImageError(ValueError):
    """A backbone that cannot be made, or images that do not fit it."""


def build_backbone(config: BackboneConfig, *, levels: tuple[int, ...]) -> nn.Module:
    """A transformers backbone whose ``feature_maps`` are the stages with strides ``levels``.

    Raises:
        ImageError: a stride that no stage has, or a ``weights`` folder that does not hold this
            backbone.
    """
    stages = [FIRST_STRIDE << i for i in range(len(config.depths))]
    if not levels or not set(levels) <= set(stages):
        raise ImageError(f"neck_levels: expected some of the strides {stages}, got {levels}")
    outputs = [stages.index(level) + 1 for level in levels]
    kind: Any
    settings: Any
    if config.kind == "resnet":
        kind = ResNetBackbone
        settings = ResNetConfig(  # type: ignore[call-arg]
            embedding_size=config.embedding,
            hidden_sizes=list(config.hidden),
            depths=list(config.depths),
            layer_type=config.layer,
            out_indices=outputs,
        )
    else:
        if len(config.heads) != len(config.depths):
            raise ImageError(
                "backbone.heads: expected one number per stage "
                f"{config.depths}, got {config.heads}"
            )
        kind = SwinBackbone
        settings = SwinConfig(  # type: ignore[call-arg]
            embed_dim=config.embedding,
            depths=list(config.depths),
            num_heads=list(config.heads),
            window_size=7,
            drop_path_rate=0.2,
            out_indices=outputs,
        )
    if config.weights is None:
        return kind(settings)
    if not Path(config.weights, "config.json").is_file():
        raise ImageError(
            f"backbone.weights: {config.weights} holds no config.json; give a folder saved by "
            "save_pretrained of a transformers model, or leave it empty to start at random"
        )
    try:
        return kind.from_pretrained(config.weights, config=settings, local_files_only=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise ImageError(f"backbone.weights: {config.weights}: {error}") from error


class Neck(nn.Module):
    """Brings every backbone level to one stride and concatenates (SECONDFPN; methods 1.3, 1.4).

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


class ImageEncoder(nn.Module):
    """Six images to feature maps; missing cameras are not computed at all."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: CameraConfig, image: ImageConfig):
        super().__init__()
        coarsest = max(config.neck_levels)
        if image.height % coarsest or image.width % coarsest:
            raise ImageError(
                f"image: height and width must be multiples of the coarsest stride {coarsest}, "
                f"got {image.height} x {image.width}"
            )
        self.size = (image.height, image.width)
        self.channels = config.neck_channels * len(config.neck_levels)
        self.backbone = build_backbone(config.backbone, levels=config.neck_levels)
        self.neck = Neck(
            [int(width) for width in self.backbone.channels],  # type: ignore[union-attr]
            levels=config.neck_levels,
            channels=config.neck_channels,
            stride=config.stride,
        )
        self.map_size = (image.height // config.stride, image.width // config.stride)
        # Constants of the configuration, so not stored with the weights.
        self.register_buffer("mean", 255 * torch.tensor(image.mean)[:, None, None], False)
        self.register_buffer("std", 255 * torch.tensor(image.std)[:, None, None], False)

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
        if not present.any():
            return torch.zeros(
                (0, self.channels, *self.map_size), dtype=dtype, device=images.device
            )
        # A permuted [P, H, W, 3] already is channels_last, the layout CPUs convolve fastest.
        pixels = images[present].permute(0, 3, 1, 2).float()
        pixels = ((pixels - self.mean) / self.std).to(dtype)
        return self.neck(self.backbone(pixels).feature_maps)
