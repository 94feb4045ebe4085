"""Losses and terms of further modalities, beside the loss of image and caption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tauten.losses import ContrastiveLoss
from tauten.training import processes
from tauten.training.options.further import Further
from tauten.training.tasks.added import AddedTerms

#: samples of a batch, over all processes, below which a loss is left out of it
FEWEST = 2


@dataclass(frozen=True)
class Side:
    """One modality of a batch.

    Attributes:
        vectors: (n, d) embeddings of the samples that have it, in their order.
        present: (N,) bool, which of the batch have it.
        ids: (N,) long, equal for equal content.
        index: (N,) long, data set positions, or those of captions where these have their own.
    """

    vectors: Tensor
    present: Tensor
    ids: Tensor
    index: Tensor


class FurtherLosses(nn.Module):
    """Weighted sum of losses and terms, each of the samples that have both of its modalities.

    Each loss has a control of its own. One of fewer than two such samples, over all processes, is
    left out of a batch.

    Args:
        lines: of the configuration.
        losses: of each line, its loss; of a term None.
    """

    def __init__(self, lines: Sequence[Further], losses: Sequence[ContrastiveLoss | None]) -> None:
        super().__init__()
        self.lines = list(lines)
        self.parts = nn.ModuleList(
            AddedTerms({str(line.term): 1.0}) if loss is None else loss
            for line, loss in zip(lines, losses, strict=True)
        )
        self.values: dict[str, Tensor] = {}

    def forward(self, sides: Mapping[str, Side]) -> Tensor:
        """Return the sum, a scalar.

        Args:
            sides: of the batch, by name.
        """
        first = next(iter(sides.values()))
        total = first.vectors.new_zeros(())
        for line, part in zip(self.lines, self.parts, strict=True):
            x, y = (sides[name] for name in line.sides)
            both = x.present & y.present
            a, b = x.vectors[both[x.present]], y.vectors[both[y.present]]
            if processes.total(len(a)) < FEWEST:
                continue
            if isinstance(part, ContrastiveLoss):
                masked = line.config.loss.mask_duplicates
                same = (x.ids[both], y.ids[both]) if masked else ()
                index = x.index[both]
                value = part(
                    a, b, index if x.index is y.index else (index, y.index[both]), same=same
                )
            else:
                value = part(a, b)
            self.values[line.name] = value.detach()
            total = total + line.weight * value
        return total

    def step(self) -> None:
        """Move the controls and tables of all losses, once after each optimiser step."""
        for part in self.parts:
            if isinstance(part, ContrastiveLoss):
                part.step()

    @torch.no_grad()
    def summary(self) -> dict[str, float]:
        """Return the last value of each, and the mean temperature or margin of each loss.

        All processes ask together, and have the same answer.
        """
        shown = {f"loss/{name}": float(value) for name, value in self.values.items()}
        for line, part in zip(self.lines, self.parts, strict=True):
            if isinstance(part, ContrastiveLoss) and part.last_tau is not None:
                parts = processes.gather(part.last_tau[1].flatten().cpu())
                shown[f"tau/{line.name}"] = float(torch.cat(parts).mean())
        return shown
