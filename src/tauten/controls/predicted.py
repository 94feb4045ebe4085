"""Temperatures that a network predicts from each embedding."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tauten.checks import flag, two, whole
from tauten.controls.anchors import Anchors, Direction
from tauten.controls.base import BatchControl, Range, finite
from tauten.pairwise.numbers import Number
from tauten.pairwise.sides import within_range
from tauten.spec import Context, ControlSpec, Level, Rate

#: the softmax temperature of TempNet's prototypes at the start
_SHARPNESS = 0.01


def _widths(dim: int | tuple[int, int]) -> tuple[int, int]:
    dims = dim if isinstance(dim, tuple) else (dim, dim)
    if len(dims) != 2:
        raise ValueError(f"dim must be a width >= 1, or those of x and of y, got {dim}")
    return whole("dim", dims[0], 1), whole("dim", dims[1], 1)


def _finer(network: nn.Module, rows: Tensor) -> torch.dtype:
    """Return the finer precision of a network's parameters and of embeddings."""
    return torch.promote_types(next(network.parameters()).dtype, rows.dtype)


def _called(network: nn.Module, rows: Tensor) -> Tensor:
    """Return network(rows), computed in the finer precision of both."""
    rows = rows.to(_finer(network, rows))
    if all(parameter.dtype == rows.dtype for parameter in network.parameters()):
        return network(rows)  # type: ignore[no-any-return]
    finer = {name: parameter.to(rows.dtype) for name, parameter in network.named_parameters()}
    return torch.func.functional_call(network, finer, (rows,))  # type: ignore[no-any-return]


class _OfSides(BatchControl):
    """A control with a network for each side.

    The network of a side that no loss uses takes no gradient, so that data parallelism doesn't wait
    for it. It keeps its place in ``state_dict()``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._used: set[str] = set()
        self._resting: set[str] = set()

    def _networks(self) -> nn.ModuleDict:
        raise NotImplementedError

    def use(self, directions: str) -> None:
        networks = self._networks()
        self._used |= set(networks) if directions == "both" else {directions}
        for side, network in networks.items():
            if side in self._used:
                if side in self._resting:
                    network.requires_grad_(True)
                self._resting.discard(side)
            elif not any(network is networks[used] for used in self._used):
                if any(parameter.requires_grad for parameter in network.parameters()):
                    self._resting.add(side)
                network.requires_grad_(False)


class TempNet(_OfSides):
    """A small network predicts each anchor's temperature from its embedding (Qiu et al., 2024).

    a = dropout(sigmoid(W·z + c)),  q_m = ⟨a, μ_m/‖μ_m‖⟩,  π = softmax(q/φ)
    τ = τ_min + (τ_max − τ_min) · sigmoid(v·[(π − 1/M) ⊙ sigmoid(q)] + b)

    It needs no table of ids, so that unseen samples have a temperature too. It is trained by the
    gradient of the robust objective τ·log E exp(h/τ) + ρτ and by nothing else, and the encoders get
    none from it: z is detached and normalised. Give its parameters a learning rate of their own;
    published: 6e-6 to 3e-5 beside 8e-4, decayed by 0.9 an epoch, no weight decay.

    Args:
        dim: width of the embeddings, or (of x, of y).
        rho: ρ, > 0; published: 7 to 8.
        tau_range: (τ_min, τ_max); published: (0.005, 0.05).
        prototypes: M.
        dropout: in [0, 1), in training only.
        shared: one network for both sides instead of one for each.

    Raises:
        ValueError: a value outside its range.
    """

    granularity = "anchor"
    learns = "dual"

    def __init__(
        self,
        dim: int | tuple[int, int],
        rho: float = 7.0,
        tau_range: tuple[float, float] = (0.005, 0.05),
        *,
        prototypes: int = 256,
        dropout: float = 0.5,
        shared: bool = False,
    ) -> None:
        super().__init__()
        self.low, self.high = (finite("tau_range", end) for end in two("tau_range", tau_range))
        if not 0 < self.low < self.high:
            raise ValueError(f"tau_range must be 0 < low < high, got {tau_range}")
        if finite("rho", rho) <= 0:
            raise ValueError(f"rho must be > 0, got {rho}")
        dims = _widths(dim)
        whole("prototypes", prototypes, 1)
        if prototypes < 2 or not 0 <= finite("dropout", dropout) < 1:
            raise ValueError(
                f"TempNet needs prototypes >= 2 and dropout in [0, 1), got {prototypes}, {dropout}"
            )
        if flag("shared", shared) and dims[0] != dims[1]:
            raise ValueError(f"shared=True needs one width for both sides, got {dims}")
        self.rho = rho
        first = _Prototypes(dims[0], prototypes, dropout)
        second = first if shared else _Prototypes(dims[1], prototypes, dropout)
        self.networks = nn.ModuleDict({"x2y": first, "y2x": second})

    def _networks(self) -> nn.ModuleDict:
        return self.networks

    def on(self, anchors: Anchors) -> Number:
        return self.predict(anchors.embeddings, anchors.direction)

    def predict(self, embeddings: Tensor, side: Direction = "x2y") -> Tensor:
        """Return (n,) temperatures of embeddings (n, d); ``side="y2x"`` for those of y."""
        rows = embeddings.detach().to(_finer(self.networks[side], embeddings))
        units = F.normalize(within_range(rows), dim=1)
        share = torch.sigmoid(_called(self.networks[side], units))
        return self.low + (self.high - self.low) * share

    def range(self) -> Range:
        return self.low, self.high

    def __repr__(self) -> str:
        return f"TempNet(low={self.low:g}, high={self.high:g}, rho={self.rho:g})"


class _Prototypes(nn.Module):
    def __init__(self, dim: int, prototypes: int, dropout: float) -> None:
        super().__init__()
        self.project = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)
        self.prototypes = nn.Parameter(torch.randn(prototypes, dim))
        self.log_sharpness = nn.Parameter(torch.tensor([math.log(_SHARPNESS)]))
        self.weight = nn.Parameter(torch.ones(prototypes))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, units: Tensor) -> Tensor:
        active = self.dropout(torch.sigmoid(self.project(units)))
        q = active @ F.normalize(self.prototypes, dim=1).T
        shares = torch.softmax(q / self.log_sharpness.exp(), dim=1)
        out: Tensor = ((shares - 1 / len(self.weight)) * torch.sigmoid(q)) @ self.weight + self.bias
        return out


class TaU(_OfSides):
    """Temperature as uncertainty: each embedding says how sure it is (Zhang et al., 2021).

    τ_i = value / sigmoid(a_i),  a_i = w·z_i + b

    so that τ ≥ value, and 1/sigmoid(a) is the uncertainty. a is learned by the loss's own gradient,
    which passes on to the encoder. Published with the positive left out of the denominator, as in
    :class:`tauten.DCL`, and with a one more output of the encoder, which a linear map of its
    embedding is when the last layer is linear.

    Args:
        dim: width of the embeddings, or (of x, of y).
        value: smallest temperature, > 0; published: 0.07.
        high: largest temperature; beyond it τ stays there and has no gradient.

    Raises:
        ValueError: a value outside its range.
    """

    granularity = "anchor"
    learns = "gradient"

    def __init__(self, dim: int | tuple[int, int], value: float = 0.07, high: float = 10.0) -> None:
        super().__init__()
        if not 0 < 2 * finite("value", value) < finite("high", high):
            raise ValueError(f"TaU needs 0 < 2·value < high, got value={value}, high={high}")
        self.value, self.high = value, high
        dims = _widths(dim)
        self.heads = nn.ModuleDict(
            {side: nn.Linear(d, 1) for side, d in zip(("x2y", "y2x"), dims, strict=True)}
        )
        for head in self.heads.values():
            assert isinstance(head, nn.Linear)
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def _networks(self) -> nn.ModuleDict:
        return self.heads

    def on(self, anchors: Anchors) -> Number:
        return self.predict(anchors.embeddings, anchors.direction)

    def predict(self, embeddings: Tensor, side: Direction = "x2y") -> Tensor:
        """Return (n,) temperatures of embeddings (n, d); ``side="y2x"`` for those of y."""
        logit = _called(self.heads[side], embeddings).squeeze(1)
        lowest = -math.log(self.high / self.value - 1)
        return (self.value / torch.sigmoid(logit.clamp(min=lowest))).clamp(max=self.high)

    def range(self) -> Range:
        return self.value, self.high

    def __repr__(self) -> str:
        return f"TaU({self.value:g}, high={self.high:g})"


@dataclass
class TempNetSpec(ControlSpec):
    """A temperature that a small network predicts from each embedding (TempNet)."""

    kind: ClassVar[str] = "tempnet"
    title: ClassVar[str] = "TempNet"

    low: Level = 0.005
    """lowest temperature"""
    high: Level = 0.05
    """highest temperature"""
    rho: Rate = 7.0
    """radius of the uncertainty set; larger values give lower temperatures"""

    def build(self, context: Context) -> TempNet:
        return TempNet(context.dim, tau_range=(self.low, self.high), rho=self.rho)


@dataclass
class TaUSpec(ControlSpec):
    """A temperature that grows with the uncertainty predicted from each embedding (TaU)."""

    kind: ClassVar[str] = "tau_uncertainty"
    title: ClassVar[str] = "TaU"

    value: Level = 0.07
    """lowest temperature"""
    high: Level = 10.0
    """highest temperature"""

    def build(self, context: Context) -> TaU:
        return TaU(context.dim, self.value, self.high)
