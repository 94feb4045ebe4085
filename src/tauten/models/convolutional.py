"""A small convolutional image tower that learns on two CPU cores."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from tauten.models.batch_norm import BatchNorm
from tauten.models.tower import Description, Tower


class _Unshuffle(nn.PixelUnshuffle):
    """``nn.PixelUnshuffle``, also of no images, which torch leaves in their shape."""

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C·r², H/r, W/r)."""
        r, (count, channels, height, width) = self.downscale_factor, images.shape
        folded = images.reshape(count, channels, height // r, r, width // r, r)
        whole = (count, channels * r * r, height // r, width // r)
        return folded.permute(0, 1, 3, 5, 2, 4).reshape(whole)


class ConvTower(Tower):
    """Space-to-depth stem, then 3x3 convolutions of which all but the first halve the size.

    Folding 2x2 pixels into 12 channels first makes the early, large maps cheap: 32x32 inputs are
    at 16x16 from the start. Every convolution is followed by batch normalisation, over the batch of
    all processes, and ReLU. The last map is averaged to ``grid`` x ``grid`` places and flattened:
    on small pictures, where things are tells much of what they are.

    Args:
        channels: output channels of each convolution, at least one.
        grid: places per side that the last map is averaged to; 1 is global average pooling.

    Raises:
        ValueError: no channels, grid < 1, or images that are too small or of odd size (in
            ``forward``).
    """

    def __init__(self, channels: Sequence[int] = (48, 96, 192), grid: int = 4) -> None:
        super().__init__()
        if not channels or min(channels) < 1 or grid < 1:
            raise ValueError(
                f"channels must be positive numbers, at least one, and grid at least 1, got "
                f"{tuple(channels)} and {grid}"
            )
        self.channels = tuple(channels)
        self.grid = grid
        self.width = self.channels[-1] * grid**2
        self.minimum_size = 2 ** len(self.channels) * grid
        layers: list[nn.Module] = [_Unshuffle(2)]
        inputs = 12
        for depth, outputs in enumerate(self.channels):
            stride = 1 if depth == 0 else 2
            layers += [
                nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
                BatchNorm(outputs),
                nn.ReLU(inplace=True),
            ]
            inputs = outputs
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) in [0, 1] to (N, width)."""
        height, width = images.shape[-2:]
        if min(height, width) < self.minimum_size or height % 2 or width % 2:
            raise ValueError(
                f"ConvTower with {len(self.channels)} convolutions and grid {self.grid} needs "
                f"images of even size, at least {self.minimum_size}, got {height}x{width}; change "
                "the data's image_size"
            )
        maps: Tensor = self.layers(images * 2 - 1)
        if maps.shape[-2:] != (self.grid, self.grid):
            maps = F.adaptive_avg_pool2d(maps, self.grid)
        return maps.flatten(1)

    def describe(self) -> Description:
        """Return a description from which the same tower can be built."""
        return {
            "kind": "convolutional",
            "channels": list(self.channels),
            "grid": self.grid,
        }
