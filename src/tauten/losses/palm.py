"""Several prototypes of each class, with soft assignments (PALM)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tauten.candidates.prototypes import Prototypes
from tauten.checks import finite, whole
from tauten.controls import Control
from tauten.ids import check_index
from tauten.losses.finite import check_rows
from tauten.losses.own_columns import ColumnOptions, OfPrototypes
from tauten.losses.supcon import SupCon
from tauten.pairwise.sinkhorn import Marginal, log_sinkhorn
from tauten.relations import Given, Ids

if TYPE_CHECKING:
    from typing_extensions import Unpack


class PALM(OfPrototypes):
    """Each sample against the prototypes of its class, of which there are several.

    L = mean_i [ LSE_k(z_i·p_k/τ_i) − Σ_k w_ik·z_i·p_k/τ_i ] + λ·SupCon(prototypes, 0.5)

    w_i is the top of Sinkhorn(z·P/ε) among the prototypes of the sample's class, with the sum 1.
    Prototypes move by p_k ← norm(m·p_k + (1 − m)·Σ_i w_ik z_i / Σ_i w_ik) before the samples meet
    them; only the second term sends a gradient through that. With one prototype of each class
    the first term is cross-entropy. Lu et al., ICLR 2024 (6 of each class, the top 5, τ = 0.1, ε =
    0.05, m = 0.999 or 0.99, λ = 1). The public code takes the top k by the weights before the move.
    Call ``step()`` once after each optimiser step.

    Args:
        temperature: a control or a number; must stay > 0 over all steps and samples.
        classes: how many there are.
        dim: width of the embeddings.
        each: prototypes of each class, >= 1.
        marginal: (classes·each,) > 0, the share of all samples that each prototype is to have, in
            the order of the classes, or ``"uniform"``, as published.
        top: how many prototypes of its class a sample has, >= 1; None for all.
        momentum: m in [0, 1).
        contrast: λ >= 0.
        eps: ε > 0.
        iterations: iterations of Sinkhorn, >= 1.
        seed: seed of the prototypes' start.
        weight: a control or a number >= 0 that multiplies each anchor's loss.
        tile: as for :class:`InfoNCE`.
        ranks: as for :class:`InfoNCE`; ``"local"`` assigns the samples of each process alone.

    Raises:
        ValueError: a temperature that can reach 0 or below, or that follows from pairs of the
            batch; options out of range.
    """

    def __init__(
        self,
        temperature: Control | float,
        classes: int,
        dim: int,
        each: int,
        marginal: Marginal,
        *,
        top: int | None = None,
        momentum: float = 0.99,
        contrast: float = 1.0,
        eps: float = 0.05,
        iterations: int = 3,
        seed: int = 0,
        **options: Unpack[ColumnOptions],
    ) -> None:
        classes, each = whole("classes", classes, 1), whole("each", each, 1)
        prototypes = Prototypes(classes * each, dim, momentum=momentum, seed=seed)
        super().__init__(temperature, prototypes, marginal, eps, iterations, **options)
        self.classes, self.each = classes, each
        if top is not None and not 1 <= whole("top", top, 1) <= each:
            raise ValueError(f"top must be in 1 .. {each}, the prototypes of a class, got {top}")
        self.top = each if top is None else top
        if finite("contrast", contrast) < 0:
            raise ValueError(f"contrast must be >= 0, got {contrast!r}")
        self.contrast = float(contrast)
        self._apart = SupCon(0.5, ranks="local")

    def forward(self, z: Tensor, labels: Tensor, index: Ids | None = None) -> Tensor:
        """Return the loss of a batch, a scalar.

        Args:
            z: (N, d) embeddings.
            labels: (N,) long, the class of each.
            index: (N,) long, data set positions. Required by per-sample controls.

        Raises:
            ValueError: labels that do not fit.
        """
        classes = check_index(labels, "labels").to(z.device)
        if len(classes) != len(z) or (
            len(z) and not 0 <= int(classes.min()) <= int(classes.max()) < self.classes
        ):
            raise ValueError(
                f"labels must be ({len(z)},) in 0 .. {self.classes - 1}, got {tuple(labels.shape)}"
                + (f" in {int(classes.min())} .. {int(classes.max())}" if len(classes) else "")
            )
        check_rows("z", z, index if isinstance(index, Tensor) else None)
        before = self.prototypes._pending
        try:
            return self._of(z, classes, index)
        except Exception:  # a batch that is refused moves no prototype
            self.prototypes._pending = before
            raise

    def _of(self, z: Tensor, classes: Tensor, index: Ids | None) -> Tensor:
        moved = self.prototypes.moved(z, self.assigned(z, classes), ranks=self._across)
        targets = Given(self.assigned(z, classes, moved.detach()))
        share = self.prototypes.columns(ranks=self._across)[1]
        ids = None if not isinstance(index, Tensor) else (index, share)
        loss: Tensor = self.loss(z, moved.detach()[share].to(z), ids, targets=targets)
        if self.contrast and self.each > 1:
            of_class = torch.arange(len(moved), device=z.device) // self.each
            loss = loss + self.contrast * self._apart(moved, labels=of_class)
        return loss

    @torch.no_grad()
    def assigned(self, z: Tensor, labels: Tensor, vectors: Tensor | None = None) -> Tensor:
        """Return w, (N, classes·each), the share of each prototype in each sample.

        Args:
            z: (N, d) embeddings.
            labels: (N,) long, the class of each.
            vectors: prototypes in the place of its own.
        """
        logs = log_sinkhorn(
            self.prototypes.cosines(z, vectors),
            self.marginal,
            eps=self.eps,
            iterations=self.iterations,
            ranks=self._across,
        )
        columns = labels.unsqueeze(1) * self.each + torch.arange(self.each, device=z.device)
        best, places = logs.gather(1, columns).topk(self.top, dim=1)
        # the prototypes of other classes may have all of a sample but what underflows
        return torch.zeros_like(logs).scatter(1, columns.gather(1, places), best.softmax(1))

    def extra_repr(self) -> str:
        return (
            f"classes={self.classes}, each={self.each}, top={self.top}, contrast={self.contrast:g}"
        )
