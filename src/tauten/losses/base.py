"""What all contrastive losses share: checks, precision, force, weight, reduction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypedDict

import torch
from torch import Tensor, nn

from tauten.controls import Control, as_control
from tauten.controls.base import advance_controls
from tauten.ids import check_index
from tauten.losses.batch import Batch, Direction
from tauten.losses.force import RunningMean
from tauten.pairwise.engine import Tile, check_tile
from tauten.relations import Ids, relate

Force = Literal["plain", "equalized"]
Directions = Literal["both", "x2y", "y2x"]
ReductionMode = Literal["mean", "sum", "none"]


class SharedOptions(TypedDict, total=False):
    """Keywords that every loss takes; :class:`InfoNCE` says what they mean."""

    weight: Control | float | None
    directions: Directions
    normalize: bool
    tile: Tile
    reduction: ReductionMode


class Options(SharedOptions, total=False):
    """Keywords of losses whose force can be equalized."""

    force: Force


class NonFiniteLossError(FloatingPointError, ValueError):
    """The loss, or an embedding that it was given, is NaN or infinite."""


class ContrastiveLoss(nn.Module):
    """Base of the losses between x and y; see :class:`InfoNCE` for the arguments.

    A subclass gives :meth:`_anchor_losses` and, for ``force="equalized"``, says in
    :meth:`_inverse_size` what divides the size of its force out.
    """

    #: the name of what the control sets: "temperature" or "margin"
    strength_name: str = "temperature"

    _step: Tensor

    def __init__(
        self,
        strength: Control | float,
        *,
        force: Force = "plain",
        weight: Control | float | None = None,
        directions: Directions = "both",
        normalize: bool = True,
        tile: Tile = "auto",
        reduction: ReductionMode = "mean",
    ) -> None:
        super().__init__()
        self.strength = as_control(strength)
        self._check_strength()
        self.force = _one_of("force", force, ("plain", "equalized"))
        self.directions = _one_of("directions", directions, ("both", "x2y", "y2x"))
        self.reduction = _one_of("reduction", reduction, ("mean", "sum", "none"))
        self.normalize = normalize
        self.tile = check_tile(tile)
        self.weight = None if weight is None else as_control(weight)
        if self.weight is not None:
            check_range("weight", self.weight, 0.0, strict=False)
        self.running = RunningMean() if force == "equalized" else None
        self.register_buffer("_step", torch.zeros((), dtype=torch.int64))

    def forward(
        self,
        x: Tensor,
        y: Tensor,
        index: Ids | None = None,
        *,
        positives: Tensor | None = None,
        labels: Ids | None = None,
        same: Tensor | Sequence[Ids] = (),
        ignore: Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch of pairs.

        Args:
            x: (N, d) embeddings of one side, rows normalised here unless ``normalize=False``.
            y: (M, d) embeddings of the other; x[i] and y[i] are a pair unless told otherwise.
            index: (N,) long, data set positions of the pairs, or ((N,), (M,)) when the sides have
                ids of their own. Required by per-sample controls.
            positives: (N,) long, the row of y that belongs to each row of x.
            labels: (N,) or ((N,), (M,)) long; every pair of equal labels is positive.
            same: id vectors, e.g. ``(image_ids, caption_ids)``; pairs other than positives that
                agree in any of them are not used as negatives.
            ignore: (N, M) bool, further pairs not to use.

        Returns:
            A scalar; (N,) with ``reduction="none"``, the value of each anchor.

        Raises:
            ValueError: wrong shapes, a missing index, ids outside a control's table.
            NonFiniteLossError: an embedding or the loss is NaN or infinite.
        """
        return self._reduce(self._batch(x, y, index, positives, labels, same, ignore))

    def tau(self, index: Ids) -> Tensor | tuple[Tensor, Tensor]:
        """The temperature (or margin) that these samples have now, detached.

        Args:
            index: (N,) long, or a pair of id vectors, for which a pair is returned.
        """
        with torch.no_grad():
            if isinstance(index, tuple):
                return self.strength.at(index[0]), self.strength.at(index[1])
            return self.strength.at(index)

    @property
    def steps(self) -> int:
        """Optimiser steps done."""
        return int(self._step)

    def step(self) -> None:
        """Advance by one optimiser step: schedules move, running means are updated.

        Call it once after each ``optimizer.step()``. A control that several losses share is
        advanced by each of them: step only one.
        """
        advance_controls(self)
        if self.running is not None:
            self.running.commit()
        self._step += 1

    def _anchor_losses(self, batch: Batch, directions: Sequence[Direction]) -> list[Tensor]:
        """For each direction the loss of each of its anchors."""
        raise NotImplementedError

    def _inverse_size(self, batch: Batch, direction: Direction) -> Tensor:
        """What an anchor's loss is multiplied by so that τ leaves its size alone; detached."""
        return batch.values(self.strength, direction).detach()

    def _check_strength(self) -> None:
        check_range(f"{type(self).__name__}'s temperature", self.strength, 0.0, strict=True)

    def _batch(
        self,
        x: Tensor,
        y: Tensor,
        index: Ids | None,
        positives: Tensor | None = None,
        labels: Ids | None = None,
        same: Tensor | Sequence[Ids] = (),
        ignore: Tensor | None = None,
    ) -> Batch:
        if x.dim() != 2 or y.dim() != 2 or x.shape[1] != y.shape[1] or not x.numel():
            raise ValueError(
                f"x and y must be (N, d) and (M, d) with the same d > 0 and N > 0, "
                f"got {tuple(x.shape)} and {tuple(y.shape)}"
            )
        relation = relate(
            len(x),
            len(y),
            x.device,
            positives=positives,
            labels=labels,
            same=same,
            ignore=ignore,
            both=self.directions != "x2y",
        )
        if self.directions != "x2y":
            taken = torch.bincount(relation.positive, minlength=len(y))
            if len(x) != len(y) or bool((taken != 1).any()):
                raise ValueError(
                    f"directions={self.directions!r} needs every row of y to be the positive of "
                    f"exactly one row of x, got {len(x)} and {len(y)} rows; use directions='x2y'"
                )
        ids = self._ids(index, len(x), len(y), x.device)
        return Batch(x, y, ids, relation, self.tile, cosine=self.normalize)

    def _ids(
        self, index: Ids | None, rows: int, cols: int, device: torch.device
    ) -> dict[Direction, Tensor]:
        if index is None:
            for name, part in self.named_children():
                if isinstance(part, Control) and part.needs_index:
                    name = self.strength_name if name == "strength" else name
                    raise ValueError(
                        f"{type(self).__name__}'s {name} is per sample ({part!r}): pass "
                        "index=, the data set positions of this batch's pairs"
                    )
            index = (torch.arange(rows, device=device), torch.arange(cols, device=device))
        sides = index if isinstance(index, tuple) else (index, index)
        checked = [check_index(side) for side in sides]
        if len(checked) != 2 or (len(checked[0]), len(checked[1])) != (rows, cols):
            lengths = [len(side) for side in checked]
            raise ValueError(
                f"index must name every row, {rows} of x and {cols} of y, got {lengths}"
            )
        return {"x2y": checked[0].to(device), "y2x": checked[1].to(device)}

    def _reduce(self, batch: Batch) -> Tensor:
        directions: list[Direction] = ["x2y", "y2x"]
        if self.directions != "both":
            directions = [d for d in directions if d == self.directions]
        with torch.autocast(batch.x.device.type, enabled=False):
            losses = self._anchor_losses(batch, directions)
            if self.running is not None:
                sizes = [self._inverse_size(batch, d) for d in directions]
                mean = self.running(sizes, self.training).to(batch.dtype)
                losses = [loss * (size / mean) for loss, size in zip(losses, sizes, strict=True)]
            if self.weight is not None:
                losses = [
                    loss * batch.values(self.weight, d)
                    for loss, d in zip(losses, directions, strict=True)
                ]
            if "y2x" in directions:
                losses[-1] = losses[-1][batch.relation.positive]
            per_anchor = losses[0] if len(losses) == 1 else (losses[0] + losses[1]) / 2
        self._check_finite(per_anchor, batch)
        if self.reduction == "none":
            return per_anchor
        return per_anchor.mean() if self.reduction == "mean" else per_anchor.sum()

    def _check_finite(self, per_anchor: Tensor, batch: Batch) -> None:
        if bool(torch.isfinite(per_anchor.detach()).all()):
            return
        for name, side in (("x", batch.x), ("y", batch.y)):
            rows = (~torch.isfinite(side.detach())).any(1).nonzero().squeeze(1)
            if len(rows):
                ids = batch.ids["x2y" if name == "x" else "y2x"][rows]
                raise NonFiniteLossError(
                    f"{name} has NaN or infinite embeddings in {len(rows)} of {len(side)} rows: "
                    f"{_some(rows)}; data set ids {_some(ids)}"
                )
        rows = (~torch.isfinite(per_anchor.detach())).nonzero().squeeze(1)
        tau = batch.values(self.strength, "x2y").detach()
        raise NonFiniteLossError(
            f"the loss of {len(rows)} of {len(per_anchor)} anchors is NaN or infinite: rows "
            f"{_some(rows)}, data set ids {_some(batch.ids['x2y'][rows])}, {self.strength_name} "
            f"in [{float(tau.min()):g}, {float(tau.max()):g}]"
        )


def _some(rows: Tensor) -> str:
    shown = ", ".join(str(int(row)) for row in rows[:5])
    return f"{shown}, ..." if len(rows) > 5 else shown


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {list(allowed)}, got {value!r}")
    return value


def check_range(name: str, control: Control, floor: float, *, strict: bool) -> None:
    """Refuse a control that can leave the finite numbers above the floor."""
    low, high = control.range()
    if not (math.isfinite(low) and math.isfinite(high)) or low < floor or (strict and low == floor):
        bound = f"> {floor:g}" if strict else f">= {floor:g}"
        raise ValueError(
            f"{name} must stay finite and {bound}, but {control!r} reaches "
            f"[{low:g}, {high:g}]; raise its lower end (for mmts: shift low > alpha / 2) "
            "or clamp it"
        )
