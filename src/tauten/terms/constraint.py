"""A penalty where a protected group gets worse than it was."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Constraint(nn.Module):
    """Quadratic penalty on protected groups whose loss rises above a reference.

    C = β Σ_k [u_k]₊ · L_k with u_k ← (1 − γ) u_k + γ (L_k − L⁰_k): the gradient is that of
    ½β[L_k − L⁰_k]₊² with the excess averaged over steps. A group that is no worse than its
    reference adds nothing. Model development safety (DevSafety, 2024).

    Args:
        reference: the loss L⁰_k of each protected group before this training.
        beta: weight of the penalty, > 0.
        gamma: weight of the newest excess in its average, in (0, 1].

    Raises:
        ValueError: no group, a reference that is not finite, or beta or gamma out of range.
    """

    reference: Tensor
    excess: Tensor
    visited: Tensor

    def __init__(self, reference: Sequence[float], beta: float, gamma: float = 0.8) -> None:
        super().__init__()
        levels = torch.as_tensor([float(value) for value in reference], dtype=torch.float64)
        if not len(levels) or not bool(levels.isfinite().all()):
            raise ValueError(f"reference must hold the finite loss of each group, got {reference}")
        if not 0 < beta < float("inf"):
            raise ValueError(f"beta must be above 0, got {beta}")
        if not 0 < gamma <= 1:
            raise ValueError(f"gamma must be in (0, 1], got {gamma}")
        self.beta, self.gamma = float(beta), float(gamma)
        self.register_buffer("reference", levels)
        self.register_buffer("excess", torch.zeros_like(levels))
        self.register_buffer("visited", torch.zeros(len(levels), dtype=torch.bool))

    def forward(self, losses: Tensor) -> Tensor:
        """Return the term, a scalar, and in training mode update the averages.

        Args:
            losses: (K,) mean loss of each protected group in this batch; NaN for a group that the
                batch has no sample of, which is left out. Over processes give the loss of the
                whole batch, so that all have the same averages.

        Raises:
            ValueError: another number of groups.
        """
        if losses.shape != self.reference.shape:
            raise ValueError(
                f"losses must hold one loss for each of the {len(self.reference)} groups, got "
                f"shape {tuple(losses.shape)}"
            )
        here = ~losses.detach().isnan()
        now = losses.detach().to(self.reference) - self.reference
        moved = (1 - self.gamma) * self.excess + self.gamma * now
        excess = torch.where(self.visited, moved, now)
        if self.training:
            self.excess = torch.where(here, excess, self.excess)
            self.visited = self.visited | here
        weight = excess.clamp(min=0).masked_fill(~here, 0.0).to(losses)
        return self.beta * (weight * losses.masked_fill(~here, 0.0)).sum()

    def extra_repr(self) -> str:
        return f"{len(self.reference)} groups, beta={self.beta:g}, gamma={self.gamma:g}"
