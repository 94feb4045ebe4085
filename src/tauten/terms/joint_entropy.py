"""Joint entropy of two heads, which keeps what they hold apart (SepCLR)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tauten.pairwise import Reduction, Scaled, reduce_pairs
from tauten.pairwise.reduction import compute_dtype
from tauten.pairwise.sides import EPSILON, within_range
from tauten.terms.base import Across, AddedTerm, batch_mean, check_rows, positive


class JointEntropy(AddedTerm):
    """Log of the mean kernel of both heads together, minus an estimate of their joint entropy.

    J(c, s) = mean_i log mean_j exp(−‖c_i − c_j‖²/2τ)·exp(−‖s_i − s_j‖²/2τ)

    Rows are scaled to length 1, and j runs over all rows, i too. c are embeddings of what two data
    sets have in common and s of what one of them has beside it. Lowering J spreads the pairs
    (c_i, s_i), and so lowers the information that one head has of the other. SepCLR (Louiset et
    al., ICLR 2024), with τ = 0.5 and a weight of 10.

    Args:
        temperature: τ > 0 of both kernels.
        ranks: see :class:`~tauten.terms.base.AddedTerm`.

    Raises:
        ValueError: a temperature that is not above 0.
    """

    def __init__(self, temperature: float = 0.5, *, ranks: Across = "auto") -> None:
        super().__init__(ranks)
        self.temperature = positive("temperature", temperature)

    def forward(self, common: Tensor, salient: Tensor) -> Tensor:
        """Return the term, a scalar.

        Args:
            common: (N, d) embeddings of one head.
            salient: (N, e) embeddings of the other; row i of both is sample i.
        """
        if len(common) != len(salient):
            raise ValueError(
                f"common and salient need a row for each sample, got {len(common)} and "
                f"{len(salient)}"
            )
        group = self._group(len(common), common.device)
        rows = check_rows("common", common, 2, group)
        check_rows("salient", salient, 2, group)
        with torch.autocast(common.device.type, enabled=False):
            dtype = compute_dtype(common, salient)
            sides = (within_range(side).to(dtype) for side in (common, salient))
            both = torch.cat([F.normalize(side, dim=1, eps=EPSILON) for side in sides], dim=1)
            # unit rows: (‖c − c'‖² + ‖s − s'‖²)/2 = 2 − 2·cos of the rows side by side
            scale = torch.full((1, 1), 2 / self.temperature, device=both.device, dtype=dtype)
            (per_row,) = reduce_pairs(
                both,
                both,
                [Reduction("rows", "logsumexp", Scaled(), (scale,))],
                cosine=True,
                ranks=group,
            )
            mean = batch_mean(per_row, group)
            return mean - 2 / self.temperature - torch.tensor(float(rows), dtype=dtype).log()

    def extra_repr(self) -> str:
        return f"temperature={self.temperature:g}"
