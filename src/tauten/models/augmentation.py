"""Image augmentation by kornia, batched on tensors.

All draws come from torch's global generator, so that a restored generator restores the images.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from kornia.augmentation import IntensityAugmentationBase2D, RandomAffine
from kornia.augmentation.random_generator import PlainUniformGenerator
from torch import Tensor, nn

from tauten.models.augmentation_options import AugmentationConfig

# rows: luma, and the two colour differences of the NTSC space YIQ
_YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


class RandomColor(IntensityAugmentationBase2D):  # type: ignore[misc]
    """Hue, saturation, contrast, brightness and greyscale as one 3x3 matrix per image.

    A hue change is a rotation and a saturation change a scaling of the two colour differences of
    YIQ; contrast scales around white, as suits drawings on a white ground. One product per image
    replaces kornia's conversions to HSV and back, which take longer than a small network.

    Args:
        hue: largest rotation, as a share of the colour circle, in [0, 0.5].
        saturation: the factor is drawn from 1 ± saturation.
        contrast: the factor is drawn from 1 ± contrast.
        brightness: what is added is drawn from ± brightness.
        grayscale: probability of no colour at all, in [0, 1].
        p: probability per image that anything is changed.
    """

    _yiq: Tensor
    _rgb: Tensor

    def __init__(
        self,
        hue: float = 0.1,
        saturation: float = 0.3,
        contrast: float = 0.3,
        brightness: float = 0.1,
        grayscale: float = 0.0,
        p: float = 1.0,
    ) -> None:
        super().__init__(p=p, same_on_batch=False, keepdim=False)
        self.grayscale = grayscale
        self.register_buffer("_yiq", torch.tensor(_YIQ), persistent=False)
        self.register_buffer("_rgb", torch.linalg.inv(torch.tensor(_YIQ)), persistent=False)
        limits = {
            "angle": (-2 * math.pi * hue, 2 * math.pi * hue),
            "saturation": (1 - saturation, 1 + saturation),
            "contrast": (1 - contrast, 1 + contrast),
            "brightness": (-brightness, brightness),
            "gray": (0, 1),
        }
        self._param_generator = PlainUniformGenerator(
            *(
                (torch.tensor(pair, dtype=torch.float32), name, None, None)
                for name, pair in limits.items()
            )
        )

    def apply_transform(
        self,
        input: Tensor,
        params: dict[str, Tensor],
        flags: dict[str, Any],
        transform: Tensor | None = None,
    ) -> Tensor:
        """Map (N, 3, H, W) to the same shape; values may leave [0, 1]."""
        names = ("angle", "saturation", "contrast", "brightness", "gray")
        rows = torch.stack([params[name] for name in names])
        angle, factor, contrast, brightness, gray = sent(rows, input)
        saturation = torch.where(gray < self.grayscale, torch.zeros_like(gray), factor)
        cos, sin = angle.cos() * saturation, angle.sin() * saturation
        turn = input.new_zeros(len(input), 3, 3)
        turn[:, 0, 0] = 1
        turn[:, 1, 1], turn[:, 1, 2] = cos, -sin
        turn[:, 2, 1], turn[:, 2, 2] = sin, cos
        contrast = contrast[:, None, None]
        matrix = self._rgb.to(input) @ turn @ self._yiq.to(input) * contrast
        offset = brightness[:, None, None] + 1 - contrast
        return torch.baddbmm(offset.expand(-1, 3, 1), matrix, input.flatten(2)).view_as(input)


def sent(drawn: Tensor, images: Tensor) -> Tensor:
    """Return what was drawn for images in their type, on their device, without waiting for it."""
    return drawn.to(images.device, images.dtype, non_blocking=True)


class Drawing(nn.Module):
    """A module whose parts draw in main memory, wherever it is moved.

    Draws of kornia on a device are read from there, and each read waits for all that is under way.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Drawing:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for part in self.modules():
            draw_on: Any = getattr(part, "set_rng_device_and_dtype", None)
            if draw_on is not None:
                draw_on(torch.device("cpu"), torch.float32)
        return self


class Augmentation(Drawing):
    """The random changes of an :class:`AugmentationConfig`: affine, colour, noise.

    Pixels that an affine map brings in from outside repeat the border.
    """

    def __init__(self, config: AugmentationConfig) -> None:
        super().__init__()
        self.config = config
        steps: list[nn.Module] = []
        if config.rotation or config.translation or config.scale:
            steps.append(
                RandomAffine(
                    degrees=config.rotation,
                    translate=(config.translation, config.translation),
                    scale=(1 - config.scale, 1 + config.scale),
                    padding_mode="border",
                    p=1.0,
                )
            )
        if any((config.hue, config.saturation, config.contrast, config.brightness)) or (
            config.grayscale
        ):
            steps.append(
                RandomColor(
                    config.hue,
                    config.saturation,
                    config.contrast,
                    config.brightness,
                    config.grayscale,
                )
            )
        self.steps = nn.ModuleList(steps)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W), or clips (N, T, 3, H, W), in [0, 1] to the same shape.

        All frames of a clip are changed alike, but for noise. Values may leave [0, 1].
        """
        for step in self.steps:
            images = step(images) if images.dim() == 4 else _on_clips(step, images)
        if self.config.noise:
            images = images + torch.randn_like(images) * self.config.noise
        return images


def _on_clips(step: nn.Module, clips: Tensor) -> Tensor:
    """Apply one draw to all frames of a clip: channels of an affine map, rows of colour."""
    if isinstance(step, RandomColor):
        rows: Tensor = step(clips.transpose(1, 2).flatten(2, 3))
        return rows.view(clips.transpose(1, 2).shape).transpose(1, 2)
    channels: Tensor = step(clips.flatten(1, 2))
    return channels.view_as(clips)
