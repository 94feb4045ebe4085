"""SGD and AdamW whose momentum follows from each step's gradient (adaptive memory)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

#: a denominator of a share, below which both planes are one
_SMALLEST = torch.finfo(torch.float32).tiny


@dataclass
class _Weight:
    """A parameter in a step: its gradient g, direction d and preconditioner P."""

    weight: Tensor
    gradient: Tensor
    direction: Tensor
    metric: Tensor | float
    group: dict[str, Any]
    state: dict[str, Any]


class AdaptiveMemory(Optimizer):
    """SGD or AdamW with a momentum β_t of each step (Topollai & Choromanska, AISTATS 2026).

    d ← (I + λP)⁻¹[(1 − β)·g + (λP + β)·d],   w ← (1 − μη)·w − η·P⁻¹d

    β is the share of the memory d, in [0, limit], in the proximal step on the larger of two planes:
    that of the gradient g at w, and that of d. It is the same for all parameters of SGD, where P =
    1, and of each tensor with AdamW, where P = (1 − limit·Π β)·(√v̂ + ε). SGD begins with d = g.
    The forms are those of a third party's code and agree with the step that they solve.

    Args:
        params: parameters, or groups of them.
        lr: η.
        limit: largest β, in [0, 1); published: 0.9, with AdamW 0.9 − 0.1·λ.
        memory: λ >= 0, how much the step is held near that of d; published: 0.1.
        weight_decay: μ; added to the gradient by SGD, and apart from it with AdamW.
        beta2: AdamW's decay of squared gradients; None for SGD.
        eps: ε.
    """

    def __init__(
        self,
        params: Any,
        lr: float,
        limit: float = 0.9,
        memory: float = 0.1,
        weight_decay: float = 0.0,
        beta2: float | None = None,
        eps: float = 1e-8,
    ) -> None:
        if not 0 <= limit < 1 or memory < 0:
            raise ValueError(
                f"the limit of β must be in [0, 1) and memory >= 0, got {limit} and {memory}"
            )
        usual = {"limit": limit, "memory": memory, "weight_decay": weight_decay}
        super().__init__(params, {"lr": lr, "beta2": beta2, "eps": eps} | usual)
        #: () mean of β in the last step; None before the second one
        self.beta: Tensor | None = None

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step with the gradients that the parameters have."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        given = [part for part in (self._read(*pair) for pair in self._pairs()) if part is not None]
        plain = [part for part in given if part.group["beta2"] is None]
        betas = [self._move(plain)] if plain else []
        betas += [self._move([part]) for part in given if part.group["beta2"] is not None]
        known = [beta for beta in betas if beta is not None]
        self.beta = torch.stack(known).mean() if known else None
        return loss

    def _pairs(self) -> Iterable[tuple[Tensor, dict[str, Any]]]:
        return ((weight, group) for group in self.param_groups for weight in group["params"])

    def _read(self, weight: Tensor, group: dict[str, Any]) -> _Weight | None:
        """Return what a step needs of a parameter; None of one without a gradient."""
        if weight.grad is None:
            return None
        state, double = self.state[weight], weight.dtype == torch.float64
        gradient = weight.grad if double else weight.grad.float()
        if group["beta2"] is None:
            gradient = gradient + group["weight_decay"] * weight
            direction = state.setdefault("direction", gradient.clone())
            return _Weight(weight, gradient, direction, 1.0, group, state)
        if not state:
            state["direction"] = torch.zeros_like(gradient)
            state["square"] = torch.zeros_like(gradient)
            state["product"] = gradient.new_ones(())
        state["taken"] = state.get("taken", 0) + 1
        square = state["square"].lerp_(gradient.square(), 1 - group["beta2"])
        size = (square / (1 - group["beta2"] ** state["taken"])).sqrt() + group["eps"]
        metric = (1 - group["limit"] * state["product"]).clamp(min=_SMALLEST) * size
        return _Weight(weight, gradient, state["direction"], metric, group, state)

    def _move(self, parts: list[_Weight]) -> Tensor | None:
        """Move parameters that share a momentum, and return it; None in the first step."""
        first = "before" not in parts[0].state
        beta = parts[0].gradient.new_full((), parts[0].group["limit"])
        if not first:
            above = below = beta.new_zeros(())
            for part in parts:
                numerator, denominator = _of_planes(part)
                above = above + numerator.to(above.device)
                below = below + denominator.to(above.device)
            beta = (above / below.clamp(min=_SMALLEST)).clamp(0.0, parts[0].group["limit"])
        for part in parts:
            group, state = part.group, part.state
            here, near = beta.to(part.gradient.device), group["memory"] * part.metric
            moved = ((1 - here) * part.gradient + (near + here) * part.direction) / (1 + near)
            part.direction.copy_(moved)
            if group["beta2"] is not None:
                part.weight.mul_(1 - group["lr"] * group["weight_decay"])
                state["product"].mul_(here)
            part.weight.sub_((group["lr"] * moved / part.metric).to(part.weight.dtype))
            state["before"] = group["lr"]
        return None if first else beta


def _of_planes(part: _Weight) -> tuple[Tensor, Tensor]:
    """Return the numerator and denominator of β of one parameter, whose sums over all divide.

    β = [(f̂ − f)/η − ⟨d − g, g + λP·d⟩_M]/‖d − g‖²_M,  M = P⁻¹(I + λP)⁻¹

    f̂ − f, how far the plane of d lies above that of g at w, is η'·g·(P⁻¹d) with the rate η' of the
    step before; weight decay adds its part to it.
    """
    g, d, group = part.gradient, part.direction, part.group
    near = group["memory"] * part.metric
    weighed = (d - g) / (part.metric * (1 + near))
    inner = (weighed * (g + near * d)).sum()
    above = d / part.metric
    if group["beta2"] is not None and group["weight_decay"]:
        decay, w = group["weight_decay"], part.weight.to(g.dtype)
        above = (above + decay * w) * (1 + decay * group["lr"])
        inner = inner + decay * (w * (d - g)).sum()
    rate = part.state["before"] / group["lr"] if group["lr"] else 0.0
    return rate * (g * above).sum() - inner, (weighed * (d - g)).sum()
