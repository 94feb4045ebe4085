"""Embeddings of a whole split, and its retrieval metrics."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from tauten.evaluation import geometry, retrieval
from tauten.models import DualEncoder, Tokenizer
from tauten.training.splits import Classes, PairData

_BAR_FROM = 5000


@dataclass(frozen=True)
class Encoded:
    """Both sides of a split.

    Attributes:
        x: (N, d) image embeddings, rows of length 1, float32 on the CPU.
        y: (M, d) embeddings of the unique captions.
        captions: the M captions.
        y_of_x: for each image the positions of its captions.
        labels: class of each image, or None.
        groups: "head", "mid" or "tail" of each image, or None.
    """

    x: Tensor
    y: Tensor
    captions: list[str]
    y_of_x: list[list[int]]
    labels: list[str] | None
    groups: list[str] | None

    def retrieval(self, bootstrap: int = 0, seed: int = 0) -> dict[str, float]:
        """Metrics both ways, by group where every caption has one group, and ``mean_recall``."""
        group_of_y = self._caption_groups()
        metrics = retrieval(
            self.x,
            self.y,
            self.y_of_x,
            groups=self.groups if group_of_y else None,
            group_of_y=group_of_y,
            bootstrap=bootstrap,
            seed=seed,
        )
        recalls = [metrics[f"{way}/hit@{k}"] for way in ("x2y", "y2x") for k in (1, 5, 10)]
        return metrics | {"mean_recall": math.fsum(recalls) / len(recalls)}

    def geometry(self) -> dict[str, float]:
        """Alignment, uniformity, tolerance, modality gap, as ``geometry/...``."""
        unique = self.labels if self._one_class_per_caption() else None
        found = geometry(self.x, self.y, unique, y_of_x=self.y_of_x)
        return {f"geometry/{name}": value for name, value in found.items() if math.isfinite(value)}

    def _caption_groups(self) -> list[str] | None:
        """The group of each caption: that of the image with it that comes first."""
        if self.groups is None:
            return None
        names: dict[int, str] = {}
        for group, captions in zip(self.groups, self.y_of_x, strict=True):
            for caption in captions:
                names.setdefault(caption, group)
        return [names[caption] for caption in range(len(self.captions))]

    def _one_class_per_caption(self) -> bool:
        seen: dict[int, str] = {}
        return self.labels is not None and all(
            seen.setdefault(caption, label) == label
            for label, captions in zip(self.labels, self.y_of_x, strict=True)
            for caption in captions
        )


@torch.no_grad()
def encode(
    encoder: DualEncoder,
    tokenizer: Tokenizer,
    data: PairData,
    classes: Classes | None,
    batch_size: int = 512,
    progress: bool = True,
) -> Encoded:
    """Encode a split in evaluation mode; the encoder's mode is restored.

    Args:
        encoder: the towers.
        tokenizer: of the text tower.
        data: the split.
        classes: training counts, for groups; None for no groups.
        batch_size: images or captions at a time.
        progress: show a bar for large splits.
    """
    captions, y_of_x = data.unique_captions()
    device = encoder.image_projection.weight.device
    was_training = encoder.training
    encoder.eval()
    hidden = not progress or len(data) < _BAR_FROM
    try:
        x = [
            encoder.encode_image(part.to(device)).float().cpu()
            for part in tqdm(data.images.split(batch_size), desc="images", disable=hidden)
        ]
        y = []
        for start in tqdm(range(0, len(captions), batch_size), desc="captions", disable=hidden):
            inputs = tokenizer(captions[start : start + batch_size])
            inputs = {name: value.to(device) for name, value in inputs.items()}
            y.append(encoder.encode_text(inputs).float().cpu())
    finally:
        encoder.train(was_training)
    known = classes is not None and data.labels is not None
    return Encoded(
        x=F.normalize(torch.cat(x), dim=1),
        y=F.normalize(torch.cat(y), dim=1),
        captions=captions,
        y_of_x=y_of_x,
        labels=data.labels,
        groups=classes.groups(data.labels) if known and classes and data.labels else None,
    )
