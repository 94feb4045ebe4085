"""Negatives drawn by their similarity, such as for a matching head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from tauten.checks import finite
from tauten.ids import check_stored


@torch.no_grad()
def drawn_negatives(
    x: Tensor,
    y: Tensor,
    temperature: float,
    *,
    same: Sequence[Tensor] = (),
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Return a negative of each row of both sides, a hard one more often than an easy one.

    That of x_i is y_j with probability softmax_j(s_ij/τ) over j that are no positives, and that of
    y_j is x_i likewise. ALBEF (Li et al. 2021) gives them to its head that says whether an image
    and a text match. The whole N×N matrix is held.

    Args:
        x: (N, d) of one side.
        y: (N, d) of the other; x[i] and y[i] match.
        temperature: τ > 0.
        same: id vectors (N,); pairs that agree in one are no negatives of each other.
        generator: generator of the random numbers.

    Returns:
        (N,) long rows of y for x, and (N,) long rows of x for y.

    Raises:
        ValueError: shapes that do not fit, τ that is not above 0, or a row without a negative.
    """
    if x.shape != y.shape or x.dim() != 2:
        raise ValueError(f"x and y must be (N, d), got {tuple(x.shape)} and {tuple(y.shape)}")
    if not len(x) or not x.is_floating_point() or not y.is_floating_point():
        raise ValueError(f"x and y must hold floating numbers (N, d), got {len(x)} rows {x.dtype}")
    check_stored("x", x)
    check_stored("y", y)
    if not finite("temperature", temperature) > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    apart = ~torch.eye(len(x), dtype=torch.bool, device=x.device)
    for ids in (same,) if isinstance(same, Tensor) else same:
        if ids.shape != (len(x),):
            raise ValueError(f"same= must name each of {len(x)} rows, got {tuple(ids.shape)}")
        apart = apart & (ids[:, None] != ids)
    alone = int((~apart.any(dim=1)).sum())
    if alone:
        raise ValueError(f"{alone} of {len(x)} pairs have no negative in the batch")
    scores = F.normalize(x, dim=1) @ F.normalize(y, dim=1).T / temperature
    of_x, of_y = (
        part.masked_fill(~apart, -torch.inf)
        .softmax(dim=1)
        .multinomial(1, generator=generator)
        .flatten()
        for part in (scores, scores.T)
    )
    return of_x, of_y
