"""InfoNCE on the volume that several modalities span."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

import torch
from torch import Tensor
from torch.nn import functional as F

from tauten.checks import finite
from tauten.controls import Control, as_control
from tauten.losses.dro import DRO
from tauten.losses.infonce import InfoNCE
from tauten.losses.options import Directions, Force, ReductionMode
from tauten.pairwise.exchange import gather_columns
from tauten.pairwise.reduction import compute_dtype
from tauten.pairwise.sides import within_range
from tauten.relations import Ids

if TYPE_CHECKING:
    from typing_extensions import Unpack


class TupleOptions(TypedDict, total=False):
    """Keywords of a loss over tuples; :class:`InfoNCE` says what they mean."""

    force: Force
    weight: Control | float | None
    directions: Directions
    label_smoothing: float
    margin: Control | float | None
    reduction: ReductionMode | DRO


def volumes(anchors: Tensor, others: Sequence[Tensor], eps: float = 1e-6) -> Tensor:
    """Return (N, M) volumes of the parallelotopes of anchor i and the tuples j.

    V_ij = √(det(AᵀA) + ε), A = [t_i, v_j, a_j, ...], rows scaled to length 1 first. Of two vectors
    it is |sin θ|; the sign of a vector makes no difference.

    Args:
        anchors: (N, d).
        others: k − 1 times (M, d).
        eps: ε > 0, which bounds the gradient where the vectors span nothing.
    """
    dtype = compute_dtype(anchors, others[0])
    t, *sides = (F.normalize(within_range(z).to(dtype), dim=1) for z in (anchors, *others))
    rows, cols, size = len(t), len(sides[0]), len(sides) + 1
    across = torch.stack([t @ z.T for z in sides], dim=-1)
    stacked = torch.stack(sides, dim=1)
    inside = (stacked @ stacked.mT).expand(rows, cols, size - 1, size - 1)
    top = torch.cat([across.new_ones(rows, cols, 1), across], dim=-1).unsqueeze(-2)
    rest = torch.cat([across.unsqueeze(-1), inside], dim=-1)
    squared: Tensor = torch.linalg.det(torch.cat([top, rest], dim=-2))
    return (squared.clamp(min=0) + eps).sqrt()


class GRAM(InfoNCE):
    """InfoNCE whose similarity is minus the volume of k modalities: ``loss_fn([t, v, a], index)``.

    s_ij = −V(t_i, v_j, a_j, ...),  V = √(det(AᵀA) + ε) of unit vectors

    The first modality (text) meets the tuples of the others, both ways. Cicchetti et al., ICLR
    2025, "Gramian Multimodal Representation Learning and Alignment", with label smoothing 0.1 and a
    learned temperature. A volume does not see the sign of a vector: log cosines too. Of two
    modalities it is |sin θ|, for which :class:`InfoNCE` is the better loss, and refused.

    All volumes are held: O(N·M·k²) memory.

    Args:
        temperature: a control or a number; must stay > 0 over all steps and samples.
        eps: ε > 0.

    The other arguments are those of :class:`InfoNCE`, without ``normalize``, ``tile`` and
    ``ranks``; ``margin`` is in units of the volume.

    Raises:
        ValueError: a temperature that can reach 0 or below, or that follows from embeddings or
            cosines, which a tuple does not have.
    """

    no_keys = "a negative is a whole tuple of modalities, and keys are of one"

    def __init__(
        self,
        temperature: Control | float,
        *,
        eps: float = 1e-6,
        **options: Unpack[TupleOptions],
    ) -> None:
        control = as_control(temperature)
        if control.needs_batch:
            raise ValueError(
                f"{control!r} cannot be GRAM's temperature: it follows from embeddings or their "
                "cosines, and a tuple of modalities has neither"
            )
        super().__init__(control, normalize=False, tile="dense", **options)
        if finite("eps", eps) <= 0:
            raise ValueError(f"eps must be > 0, got {eps!r}")
        self.eps = eps

    def forward(  # type: ignore[override]
        self,
        modalities: Sequence[Tensor],
        index: Ids | None = None,
        *,
        same: Tensor | Sequence[Ids] = (),
        ignore: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of a batch of tuples.

        Args:
            modalities: at least 3, each (N, d); row i of all belongs to sample i. The first is the
                anchor.
            index: (N,) long, data set positions. Required by per-sample controls.
            same: id vectors; tuples that agree in any are no negatives of each other.
            ignore: (N, N) bool, further pairs not to use.

        Raises:
            ValueError: fewer than 3 modalities, or modalities that differ in shape.
        """
        listed = [modalities] if isinstance(modalities, Tensor) else list(modalities)
        shapes = [tuple(z.shape) if isinstance(z, Tensor) else type(z).__name__ for z in listed]
        if len(listed) < 3 or len(set(shapes)) > 1 or len(shapes[0]) != 2:
            raise ValueError(
                "GRAM takes a list of at least 3 modalities, each (N, d) with sample i in row i; "
                f"for two take InfoNCE; got {shapes}"
            )
        anchors, *others = listed
        rows = len(anchors)
        ranks = self._ranks(rows, rows, anchors.device)
        every = others if ranks is None else [gather_columns(z, ranks) for z in others]
        score = -volumes(anchors, every, self.eps)
        columns = torch.eye(score.shape[1], dtype=score.dtype, device=score.device)
        shard = columns[:rows] if ranks is None else columns[ranks.own]
        return super().forward(score, shard, index, same=same, ignore=ignore)
