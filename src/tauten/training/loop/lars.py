"""Layer-wise adaptive rate scaling, the optimiser of SogCLR and iSogCLR."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class LARS(Optimizer):
    """SGD with momentum whose rate is scaled for each matrix (You et al., 2017), as in MoCo v3.

    g ← g + λ·w,   g ← g · trust·‖w‖/‖g‖,   v ← μ·v + g,   w ← w − η·v

    Parameters of one dimension (biases, norms) have neither weight decay nor scaling.

    Args:
        params: parameters, or groups of them.
        lr: η.
        momentum: μ.
        weight_decay: λ.
        trust: the trust coefficient.
    """

    def __init__(
        self,
        params: Any,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 0.001,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step with the gradients that the parameters have."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                gradient = weight.grad
                if weight.dim() > 1:
                    gradient = _scaled(gradient + group["weight_decay"] * weight, weight, group)
                state = self.state[weight]
                if "velocity" not in state:
                    state["velocity"] = torch.zeros_like(weight)
                velocity = state["velocity"].mul_(group["momentum"]).add_(gradient)
                weight.sub_(group["lr"] * velocity)
        return loss


def _scaled(gradient: Tensor, weight: Tensor, group: dict[str, Any]) -> Tensor:
    sizes = weight.norm(), gradient.norm()
    ratio = group["trust"] * sizes[0] / sizes[1]
    known = (sizes[0] > 0) & (sizes[1] > 0)
    return gradient * torch.where(known, ratio, torch.ones_like(ratio))
