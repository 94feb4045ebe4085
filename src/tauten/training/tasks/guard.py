"""A guard of protected groups: their losses and the penalty where these rise above the start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tauten.losses import InfoNCE
from tauten.models import DualEncoder
from tauten.terms import Constraint
from tauten.training.options.protect import ProtectConfig
from tauten.training.stores.store import Store

#: samples of a group that its loss at the start is measured on, at most
_MEASURED = 1024


class Guard(nn.Module):
    """The penalty of protected groups, see :class:`tauten.terms.Constraint`.

    The loss of a group is InfoNCE of samples of its own, embedded as in evaluation: without
    dropout and augmentation, and with the statistics that batch normalisation keeps.

    Args:
        options: names of the groups, the weight of the penalty and the temperature.
        reference: loss of each group at the start.
    """

    def __init__(self, options: ProtectConfig, reference: Sequence[float]) -> None:
        super().__init__()
        self.names = list(options.groups)
        self.loss_fn = InfoNCE(options.tau)
        self.constraint = Constraint(reference, options.beta, options.gamma)
        self.values: Tensor | None = None

    def forward(self, encoder: DualEncoder, batches: Sequence[Mapping[str, Any]]) -> Tensor:
        """Return the penalty, a scalar.

        Args:
            encoder: that is trained.
            batches: of each group, as a store gives them.
        """
        losses = torch.stack([group_loss(encoder, batch, self.loss_fn) for batch in batches])
        self.values = losses.detach()
        penalty: Tensor = self.constraint(losses)
        return penalty

    @torch.no_grad()
    def summary(self) -> dict[str, float]:
        """Return the last loss of each group, and how far it is above the start on average."""
        if self.values is None:
            return {}
        columns = {"loss": self.values, "excess": self.constraint.excess}
        return {
            f"protect/{column}/{name}": float(value)
            for column, values in columns.items()
            for name, value in zip(self.names, values, strict=True)
        }

    def line(self) -> str:
        """Say which groups are held at which loss."""
        levels = self.constraint.reference.tolist()
        held = ", ".join(f"{n} at {v:.4g}" for n, v in zip(self.names, levels, strict=True))
        return (
            f"{held}: InfoNCE of their own samples at τ = {self.loss_fn.strength.range()[0]:g} "
            f"before the first step, weight {self.constraint.beta:g}"
        )


def group_loss(encoder: DualEncoder, batch: Mapping[str, Any], loss_fn: InfoNCE) -> Tensor:
    """Return the loss of a group's samples in evaluation mode; the encoder's mode is restored."""
    was_training = encoder.training
    encoder.eval()
    try:
        x, y = encoder(batch["images"], batch["texts"])
        value: Tensor = loss_fn(x, y, same=batch["same"])
    finally:
        encoder.train(was_training)
    return value


@torch.no_grad()
def losses_before(
    encoder: DualEncoder,
    store: Store,
    rows: Mapping[str, Tensor],
    options: ProtectConfig,
    seed: int,
) -> list[float]:
    """Return the loss of each group before the training, the mean over batches of its samples.

    Each process measures all of them by itself.

    Args:
        encoder: that the training starts from.
        store: of the training split.
        rows: positions of each group's samples.
        options: size of the batches and temperature.
        seed: of which samples are measured, and of their captions.
    """
    loss_fn, losses = InfoNCE(options.tau, ranks="local"), []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for places in rows.values():
            size = min(options.samples, len(places))
            drawn = places[torch.randperm(len(places))[:_MEASURED]]
            parts = [part for part in drawn.split(size) if len(part) == size]
            values = [float(group_loss(encoder, store.batch(part), loss_fn)) for part in parts]
            losses.append(sum(values) / len(values))
    return losses
