"""Agreement of the pixels of two crops of one picture, and no negatives (PixPro)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tauten.checks import whole
from tauten.pairwise.sides import EPSILON, compute_dtype
from tauten.terms.base import Across, AddedTerm, batch_mean, positive


class PixelPropagation(nn.Module):
    """Each pixel as the sum of all that are like it: y_i = Σ_j max(cos(x_i, x_j), 0)^γ · g(x_j).

    Args:
        transform: g, of (..., d) to (..., e), such as a linear layer.
        gamma: γ > 0; published: 2.

    Raises:
        ValueError: a γ that is not above 0.
    """

    def __init__(self, transform: Callable[[Tensor], Tensor], gamma: float = 2.0) -> None:
        super().__init__()
        self.transform, self.gamma = transform, positive("gamma", gamma)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, P, e) of P pixels of each picture, (B, P, d)."""
        if x.dim() != 3:
            raise ValueError(f"x must be (B, P, d), got {tuple(x.shape)}")
        unit = F.normalize(x, dim=2, eps=EPSILON)
        cosines = unit @ unit.mT
        above = ~(cosines <= 0)  # a power below 1 has no gradient at 0
        alike = cosines.where(above, torch.ones_like(cosines)).pow(self.gamma) * above
        return alike @ self.transform(x)


def pixel_centres(boxes: Tensor, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Return where the pixels of a crop's feature map lie in the picture, and the size of each.

    Args:
        boxes: (B, 4) left, top, right and bottom of each crop in the picture; of a crop that was
            flipped, left lies right of right (or top below bottom).
        rows: rows of the feature map.
        columns: columns of the feature map.

    Returns:
        (B, rows·columns, 2) x and y of the centres, row by row, and (B,) the diagonal of a pixel.

    Raises:
        ValueError: no (B, 4), a box without area or with edges that are not finite, or a feature
            map without pixels.
    """
    if boxes.dim() != 2 or boxes.shape[1] != 4 or not boxes.is_floating_point():
        raise ValueError(f"boxes must be floating (B, 4), got {tuple(boxes.shape)}")
    if not bool(boxes.isfinite().all()):
        raise ValueError("boxes must be finite")
    whole("rows", rows, 1), whole("columns", columns, 1)
    left, top, right, bottom = boxes.unbind(1)
    width, height = (right - left) / columns, (bottom - top) / rows
    if bool(((width == 0) | (height == 0)).any()):
        raise ValueError("boxes must have an area: left and right, or top and bottom, are equal")
    across = torch.arange(columns, device=boxes.device).to(boxes) + 0.5
    down = torch.arange(rows, device=boxes.device).to(boxes) + 0.5
    x = left[:, None] + width[:, None] * across
    y = top[:, None] + height[:, None] * down
    size = (len(boxes), rows, columns)
    both = torch.stack([x[:, None, :].expand(size), y[:, :, None].expand(size)], dim=3)
    return both.flatten(1, 2), torch.hypot(width, height)


class PixelConsistency(AddedTerm):
    """Minus the cosine of pixels of two crops that show the same place.

    L = −mean over pictures of mean_{(i,j)∈A} cos(y_i, x'_j) + mean_{(i,j)∈A} cos(y'_j, x_i)

    A are pairs of pixels whose distance in the picture, over the diagonal of the larger pixel, is
    below the threshold. y are pixels of the encoder after :class:`PixelPropagation`, x those of a
    momentum encoder, without a gradient. There are no negatives, so no temperature. A picture whose
    crops do not meet adds 0, as in the public code. PixPro (Xie et al., CVPR 2021).

    Args:
        threshold: > 0; published: 0.7.
        ranks: see :class:`~tauten.terms.base.AddedTerm`.

    Raises:
        ValueError: a threshold that is not above 0.
    """

    def __init__(self, threshold: float = 0.7, *, ranks: Across = "auto") -> None:
        super().__init__(ranks)
        self.threshold = positive("threshold", threshold)

    def pairs(self, first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> Tensor:
        """Return (B, P, P) bool, which pixels of both crops show the same place.

        Args:
            first: of :func:`pixel_centres`.
            second: the same of the other crop.
        """
        apart = torch.cdist(first[0], second[0], compute_mode="donot_use_mm_for_euclid_dist")
        return apart / torch.maximum(first[1], second[1])[:, None, None] < self.threshold

    def forward(
        self,
        predicted: tuple[Tensor, Tensor],
        slow: tuple[Tensor, Tensor],
        centres: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]],
    ) -> Tensor:
        """Return the term, a scalar.

        Args:
            predicted: (B, P, d) of both crops, y and y'.
            slow: (B, P, d) of both crops by the momentum encoder, x and x'.
            centres: of both crops, by :func:`pixel_centres`.

        Raises:
            ValueError: shapes that do not fit.
        """
        shape = predicted[0].shape
        sides = (*predicted, *slow)
        if len(shape) != 3 or any(side.shape != shape for side in sides):
            raise ValueError(
                f"predicted and slow must be four times (B, P, d), got "
                f"{[tuple(side.shape) for side in sides]}"
            )
        if any(points.shape != (*shape[:2], 2) for points, _ in centres):
            raise ValueError(f"centres must name each of {tuple(shape[:2])} pixels of both crops")
        group = self._group(shape[0], predicted[0].device)
        together = self.pairs(*centres)
        count = together.sum((1, 2)).clamp(min=1)
        with torch.autocast(predicted[0].device.type, enabled=False):
            dtype = compute_dtype(*predicted)
            y, y_other = (F.normalize(side.to(dtype), dim=2, eps=EPSILON) for side in predicted)
            x, x_other = (F.normalize(side.detach().to(dtype), dim=2, eps=EPSILON) for side in slow)
            cosines = (y @ x_other.mT) + (x @ y_other.mT)
            return -batch_mean((cosines * together).sum((1, 2)) / count, group)

    def extra_repr(self) -> str:
        return f"threshold={self.threshold:g}"
