"""Two random views of an image, as SimCLR-type methods draw them.

All draws come from torch's global generator, so that a restored generator restores the views.
"""

from __future__ import annotations

import math

import torch
from kornia.augmentation import (
    RandomGaussianBlur,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
)
from torch import Tensor, nn

from tauten.models.augmentation import Drawing, sent
from tauten.models.augmentation_options import ViewConfig

_LUMA = (0.299, 0.587, 0.114)
# rows: luma, and the two colour differences of the NTSC space YIQ
_YIQ = (_LUMA, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


class ColorJitter(nn.Module):
    """Brightness, contrast, saturation and hue in this order, as one affine map per image.

    The factors are those of torchvision's ColorJitter. Two things differ for speed: the order is
    not random, and hue rotates the colour differences of YIQ instead of the angle of HSV.

    Args:
        brightness: the factor is drawn from 1 ± this.
        contrast: the same, around the mean grey of the image.
        saturation: the same, towards grey.
        hue: largest rotation as a share of the colour circle.
        p: probability per image that anything is changed.
    """

    _spread: Tensor
    _yiq: Tensor
    _rgb: Tensor

    def __init__(
        self, brightness: float, contrast: float, saturation: float, hue: float, p: float = 1.0
    ) -> None:
        super().__init__()
        self.p = p
        spread = torch.tensor([brightness, contrast, saturation, 2 * math.pi * hue])
        self.register_buffer("_spread", spread, persistent=False)
        self.register_buffer("_yiq", torch.tensor(_YIQ), persistent=False)
        self.register_buffer("_rgb", torch.linalg.inv(torch.tensor(_YIQ)), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) in [0, 1] to the same shape, in [0, 1]."""
        draw_N5 = sent(torch.rand(len(images), 5), images)
        on = (draw_N5[:, 4:] < self.p).to(images)
        change_N4 = (2 * draw_N5[:, :4] - 1) * self._spread.to(images) * on
        bright, contrast, saturation = (1 + change_N4[:, :3]).unbind(1)
        angle = change_N4[:, 3]
        turn = images.new_zeros(len(images), 3, 3)
        turn[:, 0, 0] = 1
        turn[:, 1, 1] = turn[:, 2, 2] = saturation * angle.cos()
        turn[:, 2, 1] = saturation * angle.sin()
        turn[:, 1, 2] = -turn[:, 2, 1]
        color = self._rgb.to(images) @ turn @ self._yiq.to(images)
        matrix = color * (bright * contrast)[:, None, None]
        grey = bright * torch.einsum("nchw,c->nhw", images, self._yiq[0].to(images)).mean((1, 2))
        offset = ((1 - contrast) * grey)[:, None, None].expand(-1, 3, 1)
        changed = torch.baddbmm(offset, matrix, images.flatten(2)).view_as(images)
        return torch.where(on[..., None, None] > 0, changed.clamp(0, 1), images)


class ViewAugmentation(Drawing):
    """One random view of each image: crop, mirror, colour, grey, blur.

    Args:
        config: how strongly.
    """

    def __init__(self, config: ViewConfig) -> None:
        super().__init__()
        self.config = config
        color = (config.brightness, config.contrast, config.saturation, config.hue)
        steps: list[nn.Module] = []
        if config.flip:
            steps.append(RandomHorizontalFlip(p=config.flip))
        if config.jitter and any(color):
            steps.append(ColorJitter(*color, p=config.jitter))
        if config.grayscale:
            steps.append(RandomGrayscale(p=config.grayscale))
        self.steps = nn.ModuleList(steps)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) in [0, 1] to the same shape, in [0, 1]."""
        size = (images.shape[-2], images.shape[-1])
        if self.config.crop < 1:
            crop = RandomResizedCrop(
                size, scale=(self.config.crop, 1.0), cropping_mode="resample", p=1.0
            )
            images = crop(images)
        for step in self.steps:
            images = step(images)
        if self.config.blur:
            kernel = max(3, round(min(size) / 10) // 2 * 2 + 1)
            images = RandomGaussianBlur((kernel, kernel), (0.1, 2.0), p=self.config.blur)(images)
        return images
