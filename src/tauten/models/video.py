"""Clips through an image tower: each frame alone, then one vector over time."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from tauten.models.tower import Description, Tower

TemporalPooling = Literal["mean", "attention"]


class VideoTower(Tower):
    """Frames through an image tower, averaged over time.

    Args:
        image_tower: frames (N·T, 3, H, W) in [0, 1] to (N·T, image_tower.width).
        pooling: ``"mean"`` over frames; ``"attention"``, a mean with weights softmax(h·w) over the
            clip's frames, which starts as the plain mean. Neither knows the order of the frames.

    Raises:
        ValueError: another pooling, or an image tower that takes clips itself.
    """

    takes_clips = True

    def __init__(self, image_tower: Tower, pooling: TemporalPooling = "mean") -> None:
        super().__init__()
        if pooling not in ("mean", "attention"):
            raise ValueError(f'pooling over time is "mean" or "attention", got {pooling!r}')
        if image_tower.takes_clips:
            raise ValueError(f"{type(image_tower).__name__} takes clips itself: use it as it is")
        self.image_tower = image_tower
        self.pooling: TemporalPooling = pooling
        self.width = image_tower.width
        if pooling == "attention":
            self.score = nn.Parameter(torch.zeros(self.width))

    def forward(self, clips: Tensor) -> Tensor:
        """Map (N, T, 3, H, W) in [0, 1] to (N, width)."""
        frames: Tensor = self.image_tower(clips.flatten(0, 1)).unflatten(0, clips.shape[:2])
        if self.pooling == "mean":
            return frames.mean(dim=1)
        weight = (frames @ self.score).softmax(dim=1)
        return (weight.unsqueeze(2) * frames).sum(dim=1)

    def describe(self) -> Description:
        """Return a description from which the same tower can be built."""
        return {"kind": "video", "image": self.image_tower.describe(), "pooling": self.pooling}
