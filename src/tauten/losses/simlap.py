"""Any pair of classes as positives, in a space that a gate opens for it (SimLAP, Hydra)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tauten.checks import MOST, whole
from tauten.controls import Control
from tauten.ids import check_index
from tauten.losses.decoupled import DecoupledSoftmax
from tauten.losses.finite import check_rows
from tauten.losses.own_columns import ColumnOptions, OwnColumns
from tauten.messages import Ragged, several_processes
from tauten.relations import Ids

if TYPE_CHECKING:
    from typing_extensions import Unpack


class PairGate(nn.Module):
    """The part of the space in which two classes are alike: g = σ(MLP(½(e_a + e_b))).

    Args:
        classes: how many there are.
        dim: width d of the embeddings.
        hidden: width of the class embeddings e and of the hidden layer.

    Raises:
        ValueError: a number below 1.
    """

    def __init__(self, classes: int, dim: int, hidden: int = 64) -> None:
        super().__init__()
        for name, value in (("classes", classes), ("dim", dim), ("hidden", hidden)):
            if whole(name, value, -MOST) < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.classes = nn.Embedding(classes, hidden)
        self.layers = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, dim))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the gates, (n, d) in (0, 1), of pairs of classes, (n,) both, in either order."""
        for side in (first, second):
            code, most = check_index(side), len(self.classes.weight) - 1
            if len(code) and not 0 <= int(code.min()) <= int(code.max()) <= most:
                raise ValueError(
                    f"classes must be in 0 .. {most}, got {int(code.min())} .. {int(code.max())}"
                )
        both = (self.classes(first) + self.classes(second)) / 2
        gates: Tensor = torch.sigmoid(self.layers(both))
        return gates


class SimLAP(OwnColumns):
    """Each sample against those of another class, where a gate lets the two classes agree.

    ℓ_i = mean_{p: y_p = y'_i} log(1 + Σ_n exp(s_in/τ_i)/exp(s_ip/τ_i)),  s_ij = cos(g⊙z_i, g⊙z_j)

    g = gate(y_i, y'_i), and negatives n are samples of neither class. With y' = y and an open gate
    it is :class:`DecoupledSoftmax` of one set. "Rethinking Positive Pairs in Contrastive Learning"
    (Wu et al. 2024), τ = 0.1. The gate is learned with the loss; each pair of classes of a batch is
    one pass of the engine.

    Args:
        temperature: a control or a number; must stay > 0 over all steps and samples.
        gate: gate of two (n,) vectors of classes to (n, d), such as :class:`PairGate`.
        weight: a control or a number >= 0 that multiplies each anchor's loss.
        tile: as for :class:`InfoNCE`.
        ranks: as for :class:`InfoNCE`.

    Raises:
        ValueError: a temperature that can reach 0 or below, or one of pairs.
    """

    asked = DecoupledSoftmax
    composition = DecoupledSoftmax.composition
    unfit = "embeddings, of which each pair of classes has its own"

    def __init__(
        self, temperature: Control | float, gate: nn.Module, **options: Unpack[ColumnOptions]
    ) -> None:
        if not isinstance(gate, nn.Module):
            raise ValueError(f"gate must be a module such as PairGate(classes, dim), got {gate!r}")
        super().__init__(temperature, "sum", **options)
        self.gate = gate
        self._room = Ragged()

    def forward(
        self, z: Tensor, labels: Tensor, partners: Tensor, index: Ids | None = None
    ) -> Tensor:
        """Return the loss of a batch, a scalar.

        Args:
            z: (N, d) embeddings.
            labels: (N,) long, the class y of each.
            partners: (N,) long, the class y' that each is to agree with, which the batch has.
            index: (N,) long, data set positions. Required by per-sample controls.

        Raises:
            ValueError: shapes that do not fit, or a partner class without another sample.
        """
        if not isinstance(z, Tensor) or z.dim() != 2 or not z.is_floating_point():
            got = tuple(z.shape) if isinstance(z, Tensor) else type(z).__name__
            raise ValueError(f"z must be (N, d) floating embeddings, got {got}")
        y = check_index(labels, "labels").to(z.device)
        other = check_index(partners, "partners").to(z.device)
        if not len(y) == len(other) == len(z):
            raise ValueError(
                f"labels and partners must name each of {len(z)} rows, got {len(y)} and "
                f"{len(other)}"
            )
        index = None if index is None else check_index(index).to(z.device)  # type: ignore[arg-type]
        if index is not None and len(index) != len(z):
            raise ValueError(f"index must name each of {len(z)} rows, got {len(index)}")
        check_rows("z", z, index)
        across = self.loss.ranks != "local" and several_processes()
        both = torch.stack([y, other], dim=1)
        parts = [both]
        if across:
            _, parts = self._room.gather(both.new_empty(0), both)
        every = [[(first, second) for first, second in part.tolist()] for part in parts]
        if not any(every):
            raise ValueError("z must have at least one row, got none")
        total = z.new_zeros(())
        for first, second in sorted({pair for part in every for pair in part}):
            rows = ((y == first) & (other == second)).nonzero().squeeze(1)
            columns = ((y != first) | (y == second)).nonzero().squeeze(1)
            pair = torch.tensor([[first], [second]], device=z.device)
            gate = self.gate(pair[0], pair[1])
            if gate.shape != (1, z.shape[1]):
                raise ValueError(
                    f"the gate of one pair of classes must be (1, {z.shape[1]}), as z is "
                    f"{tuple(z.shape)}, got {tuple(gate.shape)}"
                )
            gated = z * gate
            total = total + self._of(gated, rows, columns, y, second, first == second, index, every)
        return total / sum(len(part) for part in every)

    def _of(
        self,
        gated: Tensor,
        rows: Tensor,
        columns: Tensor,
        y: Tensor,
        second: int,
        alike: bool,
        index: Ids | None,
        every: list[list[tuple[int, int]]],
    ) -> Tensor:
        """Return the sum of the losses of the anchors of one pair of classes."""
        ids = None if not isinstance(index, Tensor) else (index[rows], index[columns])
        of_class = torch.full_like(rows, second)
        ignore = None
        if alike:
            here = rows[:, None] == columns[None]
            ignore = here
            if len(every) > 1:  # the columns of all processes, in their order
                rank, sizes = torch.distributed.get_rank(), [len(part) for part in every]
                ignore = here.new_zeros(len(rows), sum(sizes))
                start = sum(sizes[:rank])
                ignore[:, start : start + len(columns)] = here
        value: Tensor = self.loss(
            gated[rows], gated[columns], ids, labels=(of_class, y[columns]), ignore=ignore
        )
        return value
