"""A queue of keys in partitions, whose members are further positives (BECLR's DyCE)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tauten.candidates.prototypes import Prototypes
from tauten.candidates.queue import KeyQueue
from tauten.checks import finite, whole
from tauten.ids import check_index, check_stored
from tauten.modules import StateModule
from tauten.pairwise.masks import PairMask
from tauten.pairwise.nearest import topk_pairs
from tauten.pairwise.sides import EPSILON
from tauten.pairwise.sinkhorn import Marginal


class ClusteredMemory(StateModule):
    """The last keys, each in the partition of a prototype, which follows the mean of its partition.

    ::

        memory.push(slow(x), index)                              # keys of a MomentumEncoder
        near, missing = memory.neighbours(slow(x), index, k=3)   # further positives of each

    A key goes to the prototype that has most of it in an assignment by Sinkhorn, so that no
    partition takes all. The public code of BECLR hands Sinkhorn distances where it takes
    similarities; here they are cosines. Over processes all have one memory. DyCE of BECLR
    (Poulakakis-Daktylidis & Jamali-Rad, ICLR 2024), with ε = 0.05 and 10 iterations.

    Args:
        size: keys that are kept.
        dim: width d of a key.
        partitions: K.
        marginal: (K,) > 0, the share of a batch that each partition is to have, or ``"uniform"``.
        momentum: in [0, 1): how slowly a prototype follows.
        eps: ε > 0 of Sinkhorn.
        iterations: iterations of Sinkhorn, >= 1.
        seed: seed of the start.

    Raises:
        ValueError: numbers out of range.
    """

    def __init__(
        self,
        size: int,
        dim: int,
        partitions: int,
        marginal: Marginal,
        *,
        momentum: float = 0.9,
        eps: float = 0.05,
        iterations: int = 10,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.keys = KeyQueue(size, dim, ids=2, shared=True)
        self.prototypes = Prototypes(partitions, dim, momentum=momentum, seed=seed)
        self.eps, self.iterations = finite("eps", eps), whole("iterations", iterations, 1)
        self.seed = seed
        if isinstance(marginal, Tensor):
            self.register_buffer("marginal", marginal.detach().clone())
        else:
            self.marginal = marginal
        self.prototypes.assign(self.prototypes.vectors[:0], marginal, eps=eps, ranks="local")

    def __len__(self) -> int:
        return len(self.keys)

    def partition(self, keys: Tensor) -> Tensor:
        """Return (N,) long, the partition of each key of a batch."""
        shares = self.prototypes.assign(
            keys, self.marginal, eps=self.eps, iterations=self.iterations
        )
        return shares.argmax(1)

    @torch.no_grad()
    def push(self, keys: Tensor, index: Tensor) -> None:
        """Add a batch's keys in the place of the oldest, and let the prototypes follow.

        Args:
            keys: (N, d).
            index: (N,) long, their data set positions.

        Raises:
            ValueError: shapes that do not fit, or keys that are not finite.
        """
        samples = _named(keys, index)
        self.keys.push(keys, torch.stack([samples, self.partition(keys)], dim=1))
        self._follow(self.prototypes.momentum or 0.0)

    @torch.no_grad()
    def recluster(self, rounds: int = 10) -> None:
        """Begin again with the partitions of k-means over the memory, as once it has filled.

        Raises:
            ValueError: fewer keys than partitions.
        """
        stored, _, _ = self.stored()
        if len(stored) < len(self.prototypes):
            raise ValueError(
                f"{len(self.prototypes)} partitions need as many keys, and the memory has "
                f"{len(stored)}"
            )
        generator = torch.Generator().manual_seed(self.seed)
        drawn = torch.randperm(len(stored), generator=generator)[: len(self.prototypes)]
        self.prototypes.vectors.copy_(stored[drawn.to(stored.device)])
        for _ in range(whole("rounds", rounds, 1)):
            nearest = self.prototypes.cosines(stored).argmax(1)
            self.keys._ids[: len(stored), 1] = nearest
            self._follow(0.0)

    def stored(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the keys, (M, d) of length 1, their positions and their partitions, (M,)."""
        held = slice(len(self.keys))
        ids = self.keys._ids[held]
        return F.normalize(self.keys._keys[held], dim=1, eps=EPSILON), ids[:, 0], ids[:, 1]

    @torch.no_grad()
    def neighbours(self, keys: Tensor, index: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return the k nearest keys in the partition of each, (N, k, d), and which are missing.

        Args:
            keys: (N, d).
            index: (N,) long; a key's own sample is none of its neighbours.
            k: how many; where a partition has fewer, the rest is missing, (N, k) bool.
        """
        stored, ids, parts = self.stored()
        samples, k = _named(keys, index), whole("k", k, 1)
        code = self.partition(keys)
        if not len(stored):
            return keys.new_zeros(len(keys), k, keys.shape[1]), keys.new_ones(
                len(keys), k, dtype=torch.bool
            )
        nobody = torch.full((len(keys),), -1, device=keys.device)
        mask = PairMask(
            nobody,
            own=False,
            labels=(code, parts),
            ignore=samples[:, None] == ids,
            only_positives=True,
        )
        _, places = topk_pairs(keys, stored, min(k, len(stored)), mask)
        places = F.pad(places, (0, k - places.shape[1]), value=-1)
        return stored[places.clamp(min=0)].to(keys.dtype), places < 0

    def purity(self, labels: Tensor) -> float:
        """Return the share of the keys whose partition is mostly of their class.

        Args:
            labels: (num_samples,) the class of each position.

        Raises:
            ValueError: an empty memory, or a position beyond the labels.
        """
        _, ids, parts = self.stored()
        if not len(ids) or labels.dim() != 1 or int(ids.max()) >= len(labels):
            raise ValueError(
                f"labels must be a class of each data set position, got {tuple(labels.shape)}, "
                f"and the memory has {len(ids)} keys"
                + (f" up to position {int(ids.max())}" if len(ids) else ": push() some first")
            )
        code = labels.to(ids.device)[ids].unique(return_inverse=True)[1]
        counts = torch.zeros(len(self.prototypes), int(code.max()) + 1, device=ids.device)
        counts.index_put_((parts, code), torch.ones(len(ids), device=ids.device), accumulate=True)
        return float(counts.amax(1).sum() / len(ids))

    def _follow(self, momentum: float) -> None:
        stored, _, parts = self.stored()
        sums = torch.zeros_like(self.prototypes.vectors).index_add(0, parts, stored)
        sizes = torch.bincount(parts, minlength=len(self.prototypes)).unsqueeze(1)
        means = F.normalize(sums, dim=1, eps=EPSILON)
        moved = momentum * self.prototypes.vectors + (1 - momentum) * means
        moved = F.normalize(moved, dim=1, eps=EPSILON)
        self.prototypes.vectors.copy_(torch.where(sizes > 0, moved, self.prototypes.vectors))


def _named(keys: Tensor, index: Tensor) -> Tensor:
    """Return the position of each key, on its device, refused where keys have none."""
    samples = check_index(index).to(keys.device)
    if len(samples) != len(keys):
        raise ValueError(f"index must name each of {len(keys)} keys, got {len(samples)}")
    check_stored("keys", keys)
    return samples
