"""Hard negatives mixed from the hardest candidates of each anchor (MoCHi)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from tauten.candidates.keys import Keys
from tauten.candidates.own import OwnNegatives
from tauten.checks import whole
from tauten.pairwise.masks import PairMask
from tauten.pairwise.nearest import topk_pairs
from tauten.pairwise.sides import as_reduced

#: the most of an anchor in a mixture with it, so that the other stays the larger part
_MOST_OF_ANCHOR = 0.5


class Mixer:
    """Mixtures of the hardest keys of each anchor, as its own negatives.

    From the ``hardest`` keys n of an anchor q, all of length 1, it draws

        h = α·n_i + (1 − α)·n_j,  α ~ U(0, 1)        of two of them
        h' = β·q + (1 − β)·n_j,   β ~ U(0, 0.5)      of one and the anchor, harder than its parent

    scaled to length 1 and without a gradient. Kalantidis et al., NeurIPS 2020 (1024 hardest, 1024
    of two, 128 with the anchor, after some epochs without).

    Args:
        hardest: keys of each anchor that are mixed, >= 1.
        pairs: mixtures of two of them, >= 0.
        with_anchor: mixtures of one of them and the anchor, >= 0.

    Raises:
        ValueError: no mixtures at all, or numbers that are too small.
    """

    def __init__(self, hardest: int = 64, pairs: int = 32, with_anchor: int = 8) -> None:
        self.hardest = whole("hardest", hardest, 1)
        self.pairs, self.with_anchor = (
            whole("pairs", pairs, 0),
            whole("with_anchor", with_anchor, 0),
        )
        if not self.pairs + self.with_anchor:
            raise ValueError("Mixer needs pairs or with_anchor above 0: leave it out instead")

    @torch.no_grad()
    def __call__(
        self, x: Tensor, y: Tensor, keys: Keys, generator: torch.Generator | None = None
    ) -> OwnNegatives:
        """Return the own negatives of both sides: x's are mixed of keys of y, y's of keys of x.

        Args:
            x: (N, d).
            y: (N, d).
            keys: those of the batch first; with labels, keys of an anchor's label are left out.
            generator: generator of the random numbers, on the device of the anchors.

        Raises:
            ValueError: fewer keys than anchors, or another width.
        """
        ids = [*keys.relation(len(x))["same"]]
        if keys.labels is not None:
            ids.append((keys.labels[: len(x)], keys.labels))
        of_x, missing_x = self.of(x, keys.y, ids, generator)
        of_y, missing_y = self.of(y, keys.x, ids, generator)
        return OwnNegatives(of_x, of_y, missing_x, missing_y)

    @torch.no_grad()
    def of(
        self,
        anchors: Tensor,
        keys: Tensor,
        same: Sequence[tuple[Tensor, Tensor]],
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the mixtures of one side, (N, K, d), and which of them are missing, (N, K).

        Args:
            anchors: (N, d).
            keys: (M, d).
            same: id vectors ((N,), (M,)); keys that agree with an anchor in any of them, such as
                its own, are not mixed. An anchor without any other key has no mixtures.
            generator: generator of the random numbers.
        """
        nobody = torch.full((len(anchors),), -1, device=anchors.device)
        mask = PairMask(nobody, own=False, same=tuple(same), diagonal=None)
        _, places = topk_pairs(anchors, keys, min(self.hardest, len(keys)), mask)
        counts = (places >= 0).sum(1)
        anchor, units = as_reduced(anchors, keys, cosine=True)

        def drawn(number: int) -> Tensor:
            """Return (N, number, d) hardest keys of each anchor."""
            share = torch.rand(len(places), number, generator=generator, device=places.device)
            at = (share * counts.unsqueeze(1)).long().clamp(max=places.shape[1] - 1)
            return units[places.gather(1, at).clamp(min=0)]

        def random(number: int, most: float) -> Tensor:
            shape = (len(places), number, 1)
            parts = torch.rand(shape, generator=generator, device=places.device)
            return most * parts.to(units.dtype)

        first, alpha = drawn(self.pairs), random(self.pairs, 1.0)
        of_two = alpha * first + (1 - alpha) * drawn(self.pairs)
        beta = random(self.with_anchor, _MOST_OF_ANCHOR)
        with_one = beta * anchor.unsqueeze(1) + (1 - beta) * drawn(self.with_anchor)
        mixtures = F.normalize(torch.cat([of_two, with_one], dim=1), dim=2)
        return mixtures, (counts == 0).unsqueeze(1).expand(mixtures.shape[:2])
