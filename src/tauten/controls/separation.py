"""One temperature that falls as fast as embeddings lie close together (GLATE)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from tauten.controls.anchors import Anchors
from tauten.controls.base import BatchControl, Range, finite
from tauten.pairwise.numbers import Number
from tauten.spec import Context, ControlSpec, Level, Share
from tauten.spec import Range as Interval

#: least separation that is divided by, as in the public code
_LEAST = 0.1


class GLATE(BatchControl):
    """One temperature for all, which the separation of the batch lowers (Liu et al., ICDE 2024).

    v ← γ·v + 1/max(U, 0.1),   τ ← max(τ − η·v, low)   at each optimiser step

    U = −log mean_{i≠j} exp(−t‖x_i − x_j‖²) over all rows of x, scaled to length 1, without a
    gradient: where embeddings lie close together τ falls fast, and slowly once they are spread. It
    is the estimator of the public code, "Incorporating Dynamic Temperature Estimation into
    Contrastive Learning on Graphs", which draws 5 to 100 rows and does not scale them. U is one
    more pass over all pairs of x.

    Args:
        init: τ at first, > low; published: 0.8.
        low: where τ stays, > 0; published: 0.2.
        rate: η > 0; published: 0.001 to 0.01, of steps that see the whole data set.
        discount: γ in [0, 1]; published: 0.7 or 1.
        t: sharpness of U, > 0; published: 2.

    Raises:
        ValueError: values outside their range.
    """

    needs_cosine = True
    follows_steps = True

    tau: Tensor
    velocity: Tensor

    def __init__(
        self,
        init: float = 0.8,
        low: float = 0.2,
        rate: float = 1e-3,
        discount: float = 0.7,
        t: float = 2.0,
    ) -> None:
        super().__init__()
        self.init, self.low = finite("init", init), finite("low", low)
        self.rate, self.discount = finite("rate", rate), finite("discount", discount)
        self.t = finite("t", t)
        if not 0 < low < init:
            raise ValueError(f"GLATE needs 0 < low < init, got low={low}, init={init}")
        if rate <= 0 or t <= 0 or not 0 <= discount <= 1:
            raise ValueError(
                f"GLATE needs rate > 0, t > 0 and discount in [0, 1], got {rate}, {t}, {discount}"
            )
        self.register_buffer("tau", torch.tensor(self.init, dtype=torch.float64))
        self.register_buffer("velocity", torch.zeros((), dtype=torch.float64))
        self._seen: list[Tensor] = []

    def values(self, index: Tensor, step: int) -> Tensor:
        if step != self.steps:
            raise ValueError(f"{self!r} follows from the batches, so another step has no value yet")
        return self.tau.to(index.device).reshape(1)

    def on(self, anchors: Anchors) -> Number:
        if self.training and torch.is_grad_enabled():
            anchors.note(partial(self._seen.append, anchors.separation(self.t)))
        return self.tau.to(anchors.index.device, anchors.dtype).reshape(1)

    @torch.no_grad()
    def _advance(self) -> None:
        super()._advance()
        if not self._seen:
            return
        separation = torch.stack([u.to(self.tau) for u in self._seen]).nanmean()
        self._seen.clear()
        known = torch.isfinite(separation)  # a batch of one sample has none
        pull = 1 / separation.clamp(min=_LEAST)
        velocity = self.discount * self.velocity + pull
        tau = (self.tau - self.rate * velocity).clamp(min=self.low)
        self.velocity.copy_(torch.where(known, velocity, self.velocity))
        self.tau.copy_(torch.where(known, tau, self.tau))

    def range(self) -> Range:
        return self.low, self.init

    def __repr__(self) -> str:
        return f"GLATE({self.init:g}, low={self.low:g}, rate={self.rate:g})"


@dataclass
class GLATESpec(ControlSpec):
    """One temperature that falls as fast as embeddings lie close together (GLATE)."""

    kind: ClassVar[str] = "glate"
    title: ClassVar[str] = "GLATE"

    init: Level = 0.2
    """temperature at first"""
    low: Level = 0.05
    """temperature that it does not fall below"""
    rate: Annotated[float, Interval(0.0, 1e3, above=True)] = 1e-4
    """how much it falls in a step, over the separation of the batch"""
    discount: Share = 0.7
    """share of its last fall that goes on"""

    def build(self, context: Context) -> GLATE:
        return GLATE(self.init, self.low, self.rate, self.discount)
