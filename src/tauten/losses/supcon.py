"""Supervised contrastive loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from tauten.controls import Control
from tauten.losses.batch import Batch
from tauten.losses.composition import Composition, Refused
from tauten.losses.infonce import InfoNCE, Several
from tauten.losses.keyed import labels_of
from tauten.losses.options import Force, Options, RelationOptions
from tauten.relations import Ids

if TYPE_CHECKING:
    from typing_extensions import Unpack

_SEVERAL = Refused("it needs one positive for each anchor, and labels give several")


class SupCon(InfoNCE):
    """Each anchor against all samples of its class (Khosla et al., NeurIPS 2020, L_out).

    ℓ_i = −1/|P(i)| Σ_{p∈P(i)} log( exp(s_ip/τ_i) / Σ_{a∈A(i)} exp(s_ia/τ_i) )

    P(i) are the samples whose label is that of i. For one set of embeddings,
    ``loss_fn(z, labels=...)``, A(i) is every sample but i, and P(i) is without i too; for two
    modalities, ``loss_fn(x, y, labels=...)``, A(i) is the whole other side, and both directions are
    averaged. It is :class:`InfoNCE` with the labels required. The public code multiplies the mean
    by τ/0.07, which only a constant τ does not notice.

    Args:
        temperature: a control or a number; must stay > 0 over all steps and samples; published: 0.1
            (0.07 in the public code).

    The other arguments are those of :class:`InfoNCE`, without ``force="reweighted"`` and
    ``margin=``.

    Raises:
        ValueError: a temperature that can reach 0 or below, one of pairs, or one that is learned by
            the robust objective; a call without ``labels=``, or with an anchor alone in its class.
    """

    forces: tuple[Force, ...] = ("plain", "equalized")
    composition = Composition(dual=_SEVERAL, pair=_SEVERAL)
    no_targets = "its targets are its labels: use InfoNCE, which takes both"

    def __init__(
        self,
        temperature: Control | float,
        *,
        label_smoothing: float = 0.0,
        positives: Several = "mean",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(
            temperature, label_smoothing=label_smoothing, positives=positives, **options
        )

    def batch(
        self,
        x: Tensor,
        y: Tensor | None = None,
        index: Ids | None = None,
        **relation: Unpack[RelationOptions],
    ) -> Batch:
        if labels_of(relation) is None:
            raise ValueError("SupCon needs labels=, (N,); with one positive each use InfoNCE")
        return super().batch(x, y, index, **relation)
