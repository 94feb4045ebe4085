"""Labels of samples that are available while a model trains, and their partners (InterCLR)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tauten.candidates.own import OwnNegatives
from tauten.checks import MOST, finite, whole
from tauten.ids import check_index, check_stored
from tauten.modules import StateModule
from tauten.pairwise.exchange import Ranks, several_processes
from tauten.pairwise.masks import PairMask
from tauten.pairwise.nearest import topk_pairs
from tauten.pairwise.sides import EPSILON

_NOBODY = -1


class OnlineClusters(StateModule):
    """A slowly moving embedding of each sample, and a cluster label that follows it.

    ::

        clusters.update(slow(x), index)                         # after each batch
        other, negatives = clusters.partners(index, count=64, nearest=512)
        inter = loss_fn(x, other, negatives=negatives, ignore=~torch.eye(len(x), dtype=torch.bool))
        clusters.step()                                         # centroids, every few steps

    The partner of a sample is another one of its cluster, and its negatives are drawn from the
    nearest of other clusters: hard, and not the very hardest alone. Over processes all have one
    table. InterCLR (Xie et al. 2022), there with 10 000 clusters and 16 384 of the 128 000 nearest,
    on labels as those of online deep clustering.

    Args:
        samples: size of the data set.
        dim: width d of the embeddings.
        clusters: K >= 1.
        momentum: in [0, 1): how slowly an embedding follows.
        seed: seed of the centroids' start.

    Raises:
        ValueError: numbers out of range.
    """

    embeddings: Tensor
    labels: Tensor
    centroids: Tensor

    def __init__(
        self, samples: int, dim: int, clusters: int, *, momentum: float = 0.5, seed: int = 0
    ) -> None:
        super().__init__()
        for name, value in (("samples", samples), ("dim", dim), ("clusters", clusters)):
            if whole(name, value, -MOST) < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not 0 <= finite("momentum", momentum) < 1:
            raise ValueError(f"momentum must be in [0, 1), got {momentum!r}")
        self.momentum = momentum
        start = torch.randn(clusters, dim, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("centroids", F.normalize(start, dim=1))
        self.register_buffer("embeddings", torch.zeros(samples, dim))
        self.register_buffer("labels", torch.full((samples,), _NOBODY))

    @torch.no_grad()
    def update(self, embeddings: Tensor, index: Tensor) -> None:
        """Move the embeddings of these samples, and give them the label of the nearest centroid.

        Args:
            embeddings: (N, d).
            index: (N,) long, data set positions; over processes each gives its own.

        Raises:
            ValueError: shapes that do not fit, or positions outside the data set.
        """
        ids = check_index(index).to(self.labels.device)
        width = self.embeddings.shape[1]
        if embeddings.shape != (len(ids), width):
            raise ValueError(
                f"embeddings must be ({len(ids)}, {width}), got {tuple(embeddings.shape)}"
            )
        self._check(ids)
        check_stored("embeddings", embeddings)
        units = F.normalize(embeddings.detach().to(self.embeddings), dim=1, eps=EPSILON)
        if several_processes():
            ranks = Ranks(len(ids), len(ids), ids.device)
            units, ids = ranks.gather(units), ranks.gather(ids)
        before, seen = self.embeddings[ids], (self.labels[ids] >= 0).unsqueeze(1)
        moved = self.momentum * before + (1 - self.momentum) * units
        self.embeddings[ids] = F.normalize(torch.where(seen, moved, units), dim=1, eps=EPSILON)
        self.labels[ids] = (self.embeddings[ids] @ self.centroids.T).argmax(1)

    @torch.no_grad()
    def step(self) -> None:
        """Set each centroid to the mean of its samples, and give an empty one a sample.

        An empty cluster begins at the sample that is farthest from the largest one's centroid.
        """
        seen = (self.labels >= 0).nonzero().squeeze(1)
        if not len(seen):
            return
        code, z = self.labels[seen], self.embeddings[seen]
        sizes = torch.bincount(code, minlength=len(self.centroids))
        sums = torch.zeros_like(self.centroids).index_add(0, code, z)
        means = F.normalize(sums, dim=1, eps=EPSILON)
        self.centroids.copy_(torch.where(sizes.unsqueeze(1) > 0, means, self.centroids))
        for empty in (sizes == 0).nonzero().flatten().tolist():
            largest = int(sizes.argmax())
            if int(sizes[largest]) < 2:
                return
            members = seen[self.labels[seen] == largest]
            far = members[(self.embeddings[members] @ self.centroids[largest]).argmin()]
            self.centroids[empty] = self.embeddings[far]
            self.labels[far] = empty
            sizes[largest] -= 1
            sizes[empty] += 1

    @torch.no_grad()
    def partners(
        self,
        index: Tensor,
        count: int,
        nearest: int,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, OwnNegatives]:
        """Return another sample of each one's cluster, and negatives from nearby other clusters.

        Args:
            index: (N,) long, data set positions that have been updated.
            count: negatives of each, drawn from its nearest with repetition.
            nearest: from how many of the nearest samples of other clusters.
            generator: generator of the random numbers, on the device of the table.

        Returns:
            (N, d), the own embedding where a sample is alone in its cluster; and negatives of x,
            missing where no other cluster has a sample.

        Raises:
            ValueError: positions outside the data set, or of samples not seen yet.
        """
        ids = check_index(index).to(self.labels.device)
        self._check(ids)
        unseen = ids[self.labels[ids] < 0]
        if len(unseen):
            raise ValueError(
                f"{len(unseen)} samples have no label yet, first: {int(unseen[0])}: update() them"
            )
        seen = (self.labels >= 0).nonzero().squeeze(1)
        z, code, own_label = self.embeddings[seen], self.labels[seen], self.labels[ids]
        alike = (own_label[:, None] == code) & (ids[:, None] != seen)
        chance = torch.rand(alike.shape, generator=generator, device=alike.device)
        best, place = chance.masked_fill(~alike, -1.0).max(1)
        partner = torch.where(best >= 0, seen[place], ids)
        nobody = torch.full((len(ids),), -1, device=ids.device)
        mask = PairMask(nobody, own=False, same=((own_label, code),), diagonal=None)
        most = min(whole("nearest", nearest, 1), len(seen))
        _, places = topk_pairs(self.embeddings[ids], z, most, mask)
        available = (places >= 0).sum(1, keepdim=True)
        share = torch.rand(len(ids), count, generator=generator, device=ids.device)
        drawn = places.gather(1, (share * available).long().clamp(max=most - 1))
        missing = (available == 0).expand(len(ids), count)
        return self.embeddings[partner], OwnNegatives(z[drawn.clamp(min=0)], missing_x=missing)

    def _check(self, ids: Tensor) -> None:
        if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < len(self.labels):
            raise ValueError(
                f"index must be in 0 .. {len(self.labels) - 1}, got {int(ids.min())} .. "
                f"{int(ids.max())}"
            )
