"""Residual networks (He et al., CVPR 2016) as towers of images, large or small."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import ResNetConfig, ResNetModel

from tauten.models.tower import Description, Tower

Stem = Literal["imagenet", "cifar"]

#: blocks of each stage, kind of block, channels of each stage
_DEPTHS: dict[int, tuple[list[int], str, list[int]]] = {
    18: ([2, 2, 2, 2], "basic", [64, 128, 256, 512]),
    34: ([3, 4, 6, 3], "basic", [64, 128, 256, 512]),
    50: ([3, 4, 6, 3], "bottleneck", [256, 512, 1024, 2048]),
}


class ResNetTower(Tower):
    """A ResNet up to its pooled features.

    Args:
        depth: 18, 34 or 50 layers; width 512 or 2048.
        stem: ``"imagenet"`` halves an image twice before the first stage; ``"cifar"`` has a 3x3
            convolution of stride 1 and no pooling, for images of some 32 pixels.

    Raises:
        ValueError: another depth or stem.
    """

    def __init__(self, depth: int = 18, stem: Stem = "imagenet") -> None:
        super().__init__()
        if depth not in _DEPTHS or stem not in ("imagenet", "cifar"):
            raise ValueError(
                f"a ResNet has a depth in {sorted(_DEPTHS)} and the stem imagenet or cifar, got "
                f"{depth} and {stem!r}"
            )
        self.depth, self.stem = depth, stem
        blocks, kind, channels = _DEPTHS[depth]
        config = ResNetConfig(
            embedding_size=64, depths=blocks, layer_type=kind, hidden_sizes=channels
        )
        self.model: Any = ResNetModel(config)
        if stem == "cifar":
            self.model.embedder.embedder.convolution = nn.Conv2d(3, 64, 3, padding=1, bias=False)
            nn.init.kaiming_normal_(
                self.model.embedder.embedder.convolution.weight, mode="fan_out", nonlinearity="relu"
            )
            self.model.embedder.pooler = nn.Identity()
        self.width = channels[-1]

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) in [0, 1] to (N, width)."""
        return torch.as_tensor(self.model(pixel_values=images).pooler_output).flatten(1)

    def describe(self) -> Description:
        """Return a description from which the same tower can be built."""
        return {"kind": "resnet", "depth": self.depth, "stem": self.stem}
