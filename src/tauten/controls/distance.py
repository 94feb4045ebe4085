"""A temperature for each pair from what is known of the two samples."""

from __future__ import annotations

import math
from numbers import Real
from typing import Literal, cast

import torch
from torch import Tensor

from tauten.checks import two
from tauten.controls.anchors import Anchors
from tauten.controls.base import Range, finite
from tauten.controls.fingerprint import OfData
from tauten.ids import check_ids
from tauten.pairwise.numbers import Number, PairNumber


class PairDistance(OfData):
    """A temperature that grows with the distance of the two samples' metadata.

    τ_ij = value / w_ij,  w_ij = (d_max − d_ij)/(d_max − d_min)  or  1/(1 + exp(λ·(d_ij − μ)))

    with d_ij the Euclidean distance of metadata vectors, such as the joints of two hands (SiMHand,
    where w multiplies the cosine: exactly a temperature of the pair). A pair of w = 0 would have
    an infinite temperature, so w is kept at ``floor`` or above.

    Args:
        metadata: (num_samples, k) finite numbers, by data set position; or a pair (of x, of y) of
            such tables where the sides have ids of their own; twice the same table for two ids each
            pair in one numbering.
        value: temperature of a pair with w = 1, > 0; published: 0.5.
        kind: ``"linear"`` or ``"logistic"``.
        distances: (d_min, d_max) of the linear weight; by default 0 and twice the largest distance
            from the mean, which no distance exceeds.
        steepness: λ of the logistic weight, > 0.
        middle: μ of the logistic weight.
        floor: smallest weight, in (0, 1].

    Raises:
        ValueError: metadata of a wrong shape or not finite, values outside their range, an id
            outside the table, a ``state_dict`` made with other metadata.
    """

    granularity = "pair"
    needs_index = True
    follows_steps = False
    metadata: Tensor
    metadata_of_y: Tensor | None

    def __init__(
        self,
        metadata: Tensor | tuple[Tensor, Tensor],
        value: float = 0.5,
        kind: Literal["linear", "logistic"] = "linear",
        *,
        distances: tuple[float, float] | None = None,
        steepness: float = 1.0,
        middle: float = 0.0,
        floor: float = 0.05,
    ) -> None:
        super().__init__()
        given = metadata if isinstance(metadata, tuple) and len(metadata) == 2 else (metadata,)
        self.two_sided = len(given) == 2
        tables = [_checked(side) for side in cast(tuple[Tensor, ...], given)]
        if tables[0].shape[1] != tables[-1].shape[1]:
            widths = tables[0].shape[1], tables[-1].shape[1]
            raise ValueError(f"metadata of x and of y must have one width, got {widths}")
        table = torch.cat(tables)
        if kind not in ("linear", "logistic"):
            raise ValueError(f"kind must be 'linear' or 'logistic', got {kind!r}")
        if not 0 < finite("floor", floor) <= 1:
            raise ValueError(f"floor must be in (0, 1], got {floor}")
        if finite("value", value) <= 0 or finite("steepness", steepness) <= 0:
            raise ValueError(f"value and steepness must be > 0, got {value} and {steepness}")
        if distances is None:
            reach = float((table - table.mean(0)).norm(dim=1).max())
            distances = (0.0, 2 * reach or 1.0)
        nearest, farthest = two("distances", distances)
        if (
            not _is_number(nearest)
            or not _is_number(farthest)
            or not (0 <= nearest < farthest < math.inf)
        ):
            raise ValueError(f"distances must be 0 <= d_min < d_max, finite, got {distances}")
        self.value, self.kind, self.floor = value, kind, floor
        self.distances, self.steepness = distances, steepness
        self.middle = finite("middle", middle)
        of_y = tables[1] if self.two_sided else None
        self.register_buffer("metadata", tables[0], persistent=False)
        self.register_buffer("metadata_of_y", of_y, persistent=False)
        bits = table.float().view(torch.int32).flatten()
        self._fingerprint(bits if of_y is None else torch.cat([bits, bits.new_tensor([len(of_y)])]))

    def values(self, index: Tensor, step: int) -> Tensor:
        raise ValueError(
            f"{self!r} has a value for each pair, not for each sample: read loss_fn.last_tau "
            "after a forward pass"
        )

    def on(self, anchors: Anchors) -> Number:
        of_y = self.metadata if self.metadata_of_y is None else self.metadata_of_y
        of_anchors, of_keys = self.metadata, of_y
        if anchors.direction == "y2x":
            of_anchors, of_keys = of_keys, of_anchors
        check_ids(anchors.index, len(of_anchors))
        check_ids(anchors.keys, len(of_keys))
        return PairNumber(self._rule, anchors.both(self.metadata, of_y))

    def _rule(self, s: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        finer = torch.promote_types(s.dtype, rows.dtype)
        rows, cols = rows.to(finer), cols.to(finer)
        if rows.dim() == 3:
            distance = torch.cdist(rows[:, 0], cols[0], compute_mode="donot_use_mm_for_euclid_dist")
        else:
            distance = (rows - cols).norm(dim=-1)
        if self.kind == "linear":
            low, high = self.distances
            weight = (high - distance) / (high - low)
        else:
            weight = torch.sigmoid(self.steepness * (self.middle - distance))
        return self.value / weight.clamp(self.floor, 1.0).to(s)

    def range(self) -> Range:
        return self.value, self.value / self.floor

    def _foreign(self, numbers: int) -> str:
        return (
            f"this state was saved with the metadata of another data set: {numbers} "
            f"numbers there, {self.metadata.numel()} here, or other values"
        )

    def __repr__(self) -> str:
        return f"PairDistance({len(self.metadata)} samples, {self.value:g}, {self.kind!r})"


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _checked(metadata: Tensor) -> Tensor:
    """Return the metadata of one side as a table of floats, or refuse it."""
    try:
        table = torch.as_tensor(metadata).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"metadata must be (num_samples, k) numbers, or (of x, of y), got "
            f"{type(metadata).__name__}: {error}"
        ) from error
    if table.dim() != 2 or not table.numel() or table.is_complex():
        raise ValueError(
            f"metadata must be (num_samples, k), got {tuple(table.shape)} of {table.dtype}"
        )
    table = table.to(torch.get_default_dtype())
    if not bool(table.isfinite().all()):
        row = int((~table.isfinite()).any(1).nonzero()[0])
        raise ValueError(f"metadata must be finite, but row {row} is {table[row].tolist()}")
    return table
