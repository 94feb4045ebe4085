"""Noise on embeddings, which makes a second view of them (XSimGCL)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tauten.checks import finite


class SignNoise(nn.Module):
    """Noise of a given length that leaves each embedding in its orthant.

    e' = e + ε·sign(e) ⊙ u/‖u‖,  u ~ U(0, 1)^d, so that ‖e' − e‖ = ε

    Two passes through it are two views, without an augmentation of the data: of a graph's layers,
    or of any tower's embeddings. The noise has no gradient. In evaluation mode it does nothing.
    XSimGCL (Yu et al. 2023), which adds it at every layer, with ε = 0.2.

    Args:
        eps: ε >= 0.

    Raises:
        ValueError: a length below 0.
    """

    def __init__(self, eps: float = 0.2) -> None:
        super().__init__()
        self.eps = finite("eps", eps)
        if self.eps < 0:
            raise ValueError(f"eps must be >= 0, got {eps!r}")

    def forward(self, embeddings: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the embeddings with noise, (..., d).

        Args:
            embeddings: (..., d), where a component is 0 it stays so.
            generator: generator of the random numbers, on the device of the embeddings.
        """
        if not self.training or not self.eps:
            return embeddings
        with torch.no_grad():
            drawn = torch.rand(
                embeddings.shape,
                generator=generator,
                dtype=embeddings.dtype,
                device=embeddings.device,
            )
            noise = self.eps * embeddings.sign() * F.normalize(drawn, dim=-1)
        return embeddings + noise

    def extra_repr(self) -> str:
        return f"eps={self.eps:g}"
