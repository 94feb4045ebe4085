"""Swapped prediction of cluster assignments (SwAV)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tauten.candidates.prototypes import Prototypes
from tauten.checks import whole
from tauten.controls import Control
from tauten.losses.finite import check_list, check_rows
from tauten.losses.own_columns import ColumnOptions, OfPrototypes
from tauten.pairwise.sinkhorn import Marginal
from tauten.relations import Given, Ids

if TYPE_CHECKING:
    from typing_extensions import Unpack


class SwAV(OfPrototypes):
    """Each crop predicts to which prototypes another crop is assigned: ``loss_fn(crops, index)``.

    L = Σ_{c∈{1,2}} mean_{v≠c} mean_i −Σ_k q^c_ik·log softmax_k(z^v_i·p_k/τ_i)

    q^c = Sinkhorn(z^c·P/ε) without a gradient, so that prototype k has the share m_k of all samples
    of the batch. With equal shares head classes are split over prototypes and tail classes fill
    up, so the shares must be stated. Caron et al., NeurIPS 2020 (τ = 0.1, ε = 0.05, 3 iterations).
    Call ``step()`` once after each optimiser step; it scales the prototypes to length 1 again.

    Args:
        temperature: a control or a number; must stay > 0 over all steps and samples.
        prototypes: K learned :class:`~tauten.candidates.Prototypes`, whose parameter goes to the
            optimiser with those of the loss.
        marginal: m, (K,) > 0, or ``"uniform"``, as published.
        eps: ε > 0.
        iterations: iterations of Sinkhorn, >= 1.
        frozen: steps in which the prototypes have no gradient.
        weight: a control or a number >= 0 that multiplies each anchor's loss.
        tile: as for :class:`InfoNCE`.
        ranks: as for :class:`InfoNCE`; ``"local"`` assigns the samples of each process alone.

    Raises:
        ValueError: a temperature that can reach 0 or below, or that follows from pairs of the
            batch, which a prototype is not part of; options out of range.
    """

    def __init__(
        self,
        temperature: Control | float,
        prototypes: Prototypes,
        marginal: Marginal,
        *,
        eps: float = 0.05,
        iterations: int = 3,
        frozen: int = 0,
        **options: Unpack[ColumnOptions],
    ) -> None:
        if not isinstance(prototypes, Prototypes) or prototypes.momentum is not None:
            raise ValueError(f"SwAV needs learned Prototypes(count, dim), got {prototypes!r}")
        super().__init__(temperature, prototypes, marginal, eps, iterations, **options)
        self.frozen = whole("frozen", frozen, 0)

    def forward(
        self, crops: Sequence[Tensor], index: Ids | None = None, earlier: Tensor | None = None
    ) -> Tensor:
        """Return the loss of a batch, a scalar.

        Args:
            crops: at least 2, each (N, d), with sample i in row i of all; the first two are those
                whose assignments are predicted (of full size), the others only predict.
            index: (N,) long, data set positions. Required by per-sample controls.
            earlier: (2, Q, d) embeddings of earlier batches of the first two crops, which are
                assigned with them; a queue for batches smaller than the number of prototypes.

        Raises:
            ValueError: fewer than 2 crops, or crops that differ in shape.
        """
        check_list("crops", crops)
        shapes = {tuple(z.shape) for z in crops}
        if len(crops) < 2 or len(shapes) > 1 or crops[0].dim() != 2:
            raise ValueError(
                f"SwAV takes a list of at least 2 crops, each (N, d), got {len(crops)} of "
                f"{sorted(shapes)}"
            )
        if earlier is not None and not isinstance(earlier, Tensor):
            raise ValueError(f"earlier must be a tensor (2, Q, d), got {earlier!r:.60}")
        if earlier is not None and (
            earlier.dim() != 3 or len(earlier) != 2 or earlier.shape[2] != crops[0].shape[1]
        ):
            raise ValueError(
                f"earlier must be (2, Q, {crops[0].shape[1]}), of the first two crops, got "
                f"{tuple(earlier.shape)}"
            )
        for at in range(0 if earlier is None else 2):
            check_rows(f"earlier[{at}]", earlier[at])  # type: ignore[index]
        for at, crop in enumerate(crops):
            check_rows(f"crop {at}", crop, index if isinstance(index, Tensor) else None)
        columns, numbers = self.prototypes.columns(ranks=self._across)
        if self.loss.steps < self.frozen:
            columns = columns.detach()
        columns = columns.to(crops[0])
        losses = []
        for at in range(2):
            assigned = self.prototypes.assign(
                crops[at],
                self.marginal,
                eps=self.eps,
                iterations=self.iterations,
                earlier=None if earlier is None else earlier[at],
                ranks=self._across,
            )
            others = [z for v, z in enumerate(crops) if v != at]
            ids = None if index is None else (_repeated(index, len(others)), numbers)
            targets = Given(assigned.repeat(len(others), 1))
            losses.append(self.loss(torch.cat(others), columns, ids, targets=targets))
        loss: Tensor = losses[0] + losses[1]
        return loss

    def extra_repr(self) -> str:
        return f"eps={self.eps:g}, iterations={self.iterations}, frozen={self.frozen}"


def _repeated(index: Ids, times: int) -> Tensor:
    if not isinstance(index, Tensor):
        raise ValueError("index must be (N,), one data set position for each sample")
    return index.repeat(times)
