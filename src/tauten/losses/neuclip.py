"""Global contrastive loss whose log-partitions a network predicts, in the place of a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tauten.checks import finite, whole
from tauten.controls import Control, Direction, Individual, as_control
from tauten.losses.base import ContrastiveLoss, SharedOptions
from tauten.losses.batch import Batch
from tauten.losses.composition import Composition, Refused
from tauten.losses.partition import (
    Partition,
    logits_lse,
    need_negatives,
    report,
    robust_gradients,
)
from tauten.losses.weighting import SizeWeighted
from tauten.pairwise.numbers import reciprocals
from tauten.pairwise.sides import within_range
from tauten.spec import Context, ControlSpec, Range

if TYPE_CHECKING:
    from typing_extensions import Unpack

_NO_RHO = Refused("without ρ·τ the loss falls with τ without bound: give rho > 0")


class Normalizer(nn.Module):
    """A network that predicts log E_j exp(s_ij/τ) from an embedding: that of M prototypes.

    N(z, τ) = log Σ_m exp(⟨z, w_m⟩/τ + c_m)
    """

    def __init__(self, dim: int, prototypes: int) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(F.normalize(torch.randn(prototypes, dim), dim=1))
        self.weights = nn.Parameter(torch.full((prototypes,), -math.log(prototypes)))

    def forward(self, rows: Tensor, scale: Tensor) -> Tensor:
        """Return (n,) log-partitions of unit rows (n, d), with 1/τ (n,) or ()."""
        dtype = self.prototypes.dtype
        logits = rows.to(dtype) @ self.prototypes.T
        scale = scale.to(dtype)
        scale = scale.unsqueeze(1) if scale.dim() else scale
        return (logits * scale + self.weights).logsumexp(1)


class NeuCLIP(ContrastiveLoss):
    """Global contrastive loss with predicted log-partitions (Wei et al., ICLR 2026).

    F = mean_i τ_i·( exp(log g_i − α_i) + α_i − 1 + ρ ),  α_i = N_φ(x_i, τ_i) − s_ii/τ_i

    g_i = mean_{j≠i} exp((s_ij − s_ii)/τ_i) of the batch. Over α the least value is that of
    :class:`SogCLR`, τ_i·(log E g_i + ρ), so that φ and the encoders minimise one function together.
    A network of prototypes predicts α from the embedding, which is detached: samples of any number
    share it, nothing is stored for each, and no ``index`` is needed. One network for each side.

    The paper's own network and its schedule (several steps of φ for one of the encoders, restarts)
    could not be read; here both move once a step. Give φ a learning rate of its own.

    Args:
        dim: width of the embeddings.
        temperature: a control or a number; must stay > 0.
        rho: ρ, >= 0; a control that brings its own (Individual, TempNet) sets it.
        prototypes: M.

    The other arguments are those of :class:`InfoNCE`, without ``force``.

    Raises:
        ValueError: a value outside its range, an unknown option, a learned temperature without ρ.
    """

    no_keys = "its network already stands for the negatives of earlier batches"

    def __init__(
        self,
        dim: int,
        temperature: Control | float = 0.1,
        rho: float = 0.0,
        *,
        prototypes: int = 256,
        **options: Unpack[SharedOptions],
    ) -> None:
        control = as_control(temperature)
        if finite("rho", rho) < 0:
            raise ValueError(f"rho must be >= 0 and finite, got {rho}")
        if control.rho and rho not in (0.0, control.rho):
            raise ValueError(f"{control!r} brings rho={control.rho:g}, but the loss got {rho:g}")
        self.rho = control.rho or rho
        self.composition = Composition(
            learned=None if self.rho else _NO_RHO,
            learned_anchor=None if self.rho else _NO_RHO,
            pair=Refused("its partition has one τ for each anchor"),
        )
        super().__init__(control, **options)
        width, count = whole("dim", dim, 1), whole("prototypes", prototypes, 1)
        sides = ("x2y", "y2x") if self.directions == "both" else (self.directions,)
        self.normalizers = nn.ModuleDict({side: Normalizer(width, count) for side in sides})

    def anchor_losses(self, batch: Batch, directions: Sequence[Direction]) -> list[Tensor]:
        need_negatives(self, batch, directions)
        taus = [batch.values(self.strength, d) for d in directions]
        lse = logits_lse(batch, reciprocals(taus), directions, own=True)
        losses, parts = [], {}
        for partition, tau, d in zip(lse, taus, directions, strict=True):
            alone = batch.without_anchor(torch.isneginf(partition.detach()), d)
            log_negatives = batch.negatives(d).clamp(min=1).log()
            positives = batch.positives(d)
            log_g = partition.masked_fill(alone, 0.0) - positives / tau - log_negatives
            alpha = self._predicted(batch, tau.detach(), d) - (positives / tau).detach()
            value = tau * (torch.exp(log_g - alpha) + alpha - 1 + self.rho)
            losses.append(value.masked_fill(alone, 0.0))
            log_u = alpha.detach()
            parts[d] = Partition(log_g, log_u, log_u, alone, tau, positives.detach(), log_negatives)
        if isinstance(self.strength, Individual) and self.training and torch.is_grad_enabled():
            report(self.strength, batch, parts, robust_gradients(batch, parts, self.rho))
        return losses

    def _predicted(self, batch: Batch, tau: Tensor, direction: Direction) -> Tensor:
        """Return (n,) the network's log-partitions of the anchors of a direction."""
        given = batch.views or {"x2y": batch.x, "y2x": batch.y}
        rows = within_range(given[direction].detach())
        rows = F.normalize(rows, dim=1) if self.normalize else rows
        predicted: Tensor = self.normalizers[batch.known_as(direction)](rows, 1 / tau)
        return predicted.to(batch.dtype)


@dataclass
class NeuCLIPSpec(SizeWeighted):
    """Global contrastive loss whose partitions a network predicts (NeuCLIP)."""

    kind: ClassVar[str] = "neuclip"
    title: ClassVar[str] = "NeuCLIP"
    views: ClassVar[bool] = True

    rho: Annotated[float, Range(0.0, 1e6)] = 0.0
    """radius of the uncertainty set, which a τ learned by gradient needs; 0 for none"""
    prototypes: Annotated[int, Range(1)] = 256
    """of the network that predicts log-partitions; optim.loss_lr is its learning rate"""

    def build(self, control: ControlSpec, context: Context) -> NeuCLIP:
        return NeuCLIP(
            context.dim,
            control.build(context),
            self.rho,
            prototypes=self.prototypes,
            **self.directions(context),
            **self.weighting(control, context),
        )
