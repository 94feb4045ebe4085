"""Prototypes: vectors in the space of the embeddings that samples are assigned to."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tauten.checks import MOST, finite, whole
from tauten.ids import check_index
from tauten.modules import StateModule
from tauten.pairwise.exchange import Ranks, several_processes, total
from tauten.pairwise.sides import EPSILON, compute_dtype
from tauten.pairwise.sinkhorn import Marginal, sinkhorn

Across = Literal["auto", "local"]


class Prototypes(StateModule):
    """K unit vectors, the same on all processes, learned or moved towards their samples.

    ::

        prototypes = Prototypes(300, dim)
        columns, _ = prototypes.columns()
        q = prototypes.assign(z, marginal)               # (N, K), soft, by Sinkhorn
        loss = InfoNCE(0.1, directions="x2y")(view, columns, targets=q)

    Call ``step()`` once after each optimiser step.

    Args:
        count: K.
        dim: width d of the embeddings.
        momentum: in [0, 1): how slowly they move towards the mean of their samples; None for
            vectors that an optimiser learns.
        seed: seed of their start, uniform on the sphere, the same on all processes.

    Raises:
        ValueError: a number or a width below 1, a momentum outside [0, 1).
    """

    vectors: Tensor

    def __init__(
        self, count: int, dim: int, *, momentum: float | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        if whole("count", count, -MOST) < 1 or whole("dim", dim, -MOST) < 1:
            raise ValueError(f"count and dim must be at least 1, got {count} and {dim}")
        if momentum is not None and not 0 <= finite("momentum", momentum) < 1:
            raise ValueError(f"momentum must be in [0, 1), got {momentum!r}")
        self.momentum = momentum
        generator = torch.Generator().manual_seed(seed)
        start = F.normalize(torch.randn(count, dim, generator=generator), dim=1)
        if momentum is None:
            self.vectors = nn.Parameter(start)
        else:
            self.register_buffer("vectors", start)
        self._pending: tuple[Tensor, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.vectors)

    def columns(self, *, ranks: Across = "auto") -> tuple[Tensor, Tensor]:
        """Return the prototypes as rows of y of a loss, (K, d), and their numbers, (K,).

        Over processes each returns its share of them, which a loss brings together in their order.
        """
        share = slice(None)
        if ranks == "auto" and several_processes():
            world = torch.distributed.get_world_size()
            rank = torch.distributed.get_rank()
            share = slice(len(self) * rank // world, len(self) * (rank + 1) // world)
        return self.vectors[share], torch.arange(len(self), device=self.vectors.device)[share]

    @torch.no_grad()
    def assign(
        self,
        embeddings: Tensor,
        marginal: Marginal,
        *,
        eps: float = 0.05,
        iterations: int = 3,
        earlier: Tensor | None = None,
        ranks: Across = "auto",
        vectors: Tensor | None = None,
    ) -> Tensor:
        """Return the soft assignment of each sample, (N, K), by :func:`~tauten.relations.sinkhorn`.

        Args:
            embeddings: (N, d).
            marginal: (K,) the share of all samples that each prototype is to have, such as that of
                classes; ``"uniform"`` for equal ones.
            eps: width of the assignment.
            iterations: iterations of Sinkhorn.
            earlier: (Q, d) embeddings of earlier batches, which are assigned with them where a
                batch is smaller than the number of prototypes.
            ranks: ``"local"`` takes the samples of this process alone.
            vectors: (K, d) prototypes in the place of its own.
        """
        z = embeddings if earlier is None else torch.cat([embeddings, earlier.to(embeddings)])
        scores = self.cosines(z, vectors)
        shares = sinkhorn(scores, marginal, eps=eps, iterations=iterations, ranks=ranks)
        return shares[: len(embeddings)]

    def cosines(self, embeddings: Tensor, vectors: Tensor | None = None) -> Tensor:
        """Return (N, K) the cosines of samples and prototypes, its own or those given.

        Raises:
            ValueError: embeddings of another width.
        """
        if embeddings.dim() != 2 or embeddings.shape[1] != self.vectors.shape[1]:
            raise ValueError(
                f"embeddings must be (N, {self.vectors.shape[1]}), got {tuple(embeddings.shape)}"
            )
        vectors = self.vectors if vectors is None else vectors
        dtype = compute_dtype(embeddings, vectors)
        rows = F.normalize(embeddings.to(dtype), dim=1, eps=EPSILON)
        return rows @ F.normalize(vectors.to(dtype), dim=1, eps=EPSILON).T

    def moved(self, embeddings: Tensor, weights: Tensor, *, ranks: Across = "auto") -> Tensor:
        """Return (K, d) where the prototypes go next, with the gradient of the embeddings.

        p_k ← m·p_k + (1 − m)·Σ_i w_ik z_i / Σ_i w_ik, scaled to length 1, of unit rows z; one
        without a sample stays. In training mode it is kept for the next ``step()``, with the
        batches of one step together.

        Args:
            embeddings: (N, d).
            weights: (N, K) >= 0.
            ranks: ``"local"`` takes the samples of this process alone.

        Raises:
            ValueError: learned prototypes, which an optimiser moves, shapes that do not fit, or
                numbers that are not finite.
        """
        if self.momentum is None:
            raise ValueError("learned prototypes are moved by an optimiser: give momentum=")
        if weights.shape != (len(embeddings), len(self)):
            raise ValueError(
                f"weights must be ({len(embeddings)}, {len(self)}), got {tuple(weights.shape)}"
            )
        if not bool((weights >= 0).all()) or not bool(torch.isfinite(embeddings.detach()).all()):
            raise ValueError("prototypes move by finite embeddings, with weights >= 0 of each")
        dtype = compute_dtype(embeddings, self.vectors)
        units = F.normalize(embeddings.to(dtype), dim=1, eps=EPSILON)
        weights = weights.detach().to(dtype)
        sums, mass = weights.T @ units, weights.sum(0)
        if ranks == "auto" and several_processes():
            group = Ranks(len(units), len(units), units.device)
            sums, mass = total(sums, group), group.sum_(mass)
        if self.training and torch.is_grad_enabled():
            before = self._pending or (torch.zeros_like(sums), torch.zeros_like(mass))
            self._pending = (before[0] + sums.detach(), before[1] + mass)
        return self._towards(sums, mass)

    def _towards(self, sums: Tensor, mass: Tensor) -> Tensor:
        assert self.momentum is not None
        met = (mass > 0).unsqueeze(1)
        means = sums / mass.masked_fill(mass == 0, 1.0).unsqueeze(1)
        vectors = self.vectors.to(sums)
        mixed = self.momentum * vectors + (1 - self.momentum) * means
        return F.normalize(torch.where(met, mixed, vectors), dim=1, eps=EPSILON)

    @torch.no_grad()
    def step(self) -> None:
        """Move to the batches' means, or scale what an optimiser has moved to length 1."""
        if self._pending is not None:
            self.vectors.copy_(self._towards(*self._pending))
            self._pending = None
        elif self.momentum is None:
            self.vectors.copy_(F.normalize(self.vectors, dim=1, eps=EPSILON))

    def extra_repr(self) -> str:
        moved = "learned" if self.momentum is None else f"momentum={self.momentum:g}"
        return f"{len(self)}, dim={self.vectors.shape[1]}, {moved}"


@torch.no_grad()
def concentrations(
    embeddings: Tensor, prototypes: Tensor, classes: Tensor, alpha: float = 10.0
) -> Tensor:
    """Return φ_k, (K,), how far the samples of a prototype lie from it: its own temperature.

    φ_k = Σ_{i of k} ‖z_i − c_k‖ / (n_k·log(n_k + α)), rows of length 1. A prototype without samples
    has the largest φ of the others. PCL (Li et al., ICLR 2021), as MEOW takes it; there φ is then
    scaled so that its mean is the temperature.

    Args:
        embeddings: (N, d).
        prototypes: (K, d).
        classes: (N,) long, the prototype of each sample.
        alpha: α >= 1, which keeps small clusters from a tiny φ.

    Raises:
        ValueError: shapes that do not fit, a class out of range, α below 1.
    """
    if finite("alpha", alpha) < 1:
        raise ValueError(f"alpha must be >= 1, got {alpha!r}")
    code = check_index(classes).long().to(embeddings.device)
    if len(code) != len(embeddings) or not len(code):
        raise ValueError(f"classes must name each of {len(embeddings)} rows, got {len(code)}")
    if not 0 <= int(code.min()) <= int(code.max()) < len(prototypes):
        raise ValueError(
            f"classes must be in 0 .. {len(prototypes) - 1}, got {int(code.min())} .. "
            f"{int(code.max())}"
        )
    dtype = compute_dtype(embeddings, prototypes)
    z, c = (F.normalize(part.to(dtype), dim=1, eps=EPSILON) for part in (embeddings, prototypes))
    sums = z.new_zeros(len(c)).index_add(0, code, (z - c[code]).norm(dim=1))
    sizes = torch.bincount(code, minlength=len(c)).to(dtype)
    phi = sums / (sizes * (sizes + alpha).log()).clamp(min=torch.finfo(dtype).tiny)
    return torch.where(sizes > 0, phi, phi[sizes > 0].max())
