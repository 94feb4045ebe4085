"""The interface of controls: a value for each sample, or pair, at each step."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from numbers import Real
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tauten.checks import finite as finite
from tauten.checks import names_options, whole
from tauten.controls.anchors import Anchors, Direction
from tauten.ids import check_index
from tauten.modules import StateModule, parts
from tauten.pairwise.numbers import Number

Range = tuple[float, float]
Granularity = Literal["global", "anchor", "pair"]
#: how a value is learned: not at all, by the loss's own gradient, or by that of the robust
#: objective τ·log E exp(h/τ) + ρτ
Learning = Literal["nothing", "gradient", "dual"]
#: steps that a mean goes over
_MOST_MEAN = 10**7


class Control(StateModule):
    """A rule for the temperature τ (or margin m, or weight) of each sample at each step.

    A control is an ``nn.Module``: what it counts or learns is in ``state_dict()``. Controls
    compose by arithmetic: ``a + b``, ``a - b``, ``k * a``, ``k / a``, ``a.clamp(low, high)``.

    A subclass gives :meth:`range` and :meth:`values`, or :meth:`on` when its value depends on
    more of the batch than the ids. What it declares of itself decides which losses it may drive.
    """

    #: whether all samples share the value, each anchor has its own, or each pair
    granularity: Granularity = "global"
    #: whether the value depends on the sample's id, so that a loss must be given ``index``
    needs_index: bool = False
    #: whether samples of x and of y are looked up in tables of their own
    two_sided: bool = False
    #: whether the value depends on embeddings or similarities, so that it exists in a batch only
    needs_batch: bool = False
    #: whether the value is defined for similarities in [−1, 1] only
    needs_cosine: bool = False
    #: what teaches its parameters
    learns: Learning = "nothing"
    #: radius ρ of the robust objective, for values learned by it
    rho: float = 0.0
    #: whether it may be part of a sum or another composition
    composable: bool = True
    #: whether the value, or what it is made of, changes with :meth:`step`
    follows_steps: bool = True
    #: the value, if it is the same for all samples and steps
    fixed: float | None = None

    _step: Tensor

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        names_options(cls, {"min": "low", "max": "high", "tau": "value"})

    def __init__(self) -> None:
        super().__init__()
        self._count = 0
        self.register_buffer("_step", torch.zeros((), dtype=torch.int64))

    @property
    def learned_granularity(self) -> Granularity:
        """Granularity of what is learned: one for all samples, for each anchor, or each pair."""
        return self.granularity

    @property
    def shared(self) -> bool:
        """True where all anchors of a batch have one value."""
        return self.granularity == "global" and not self.needs_index

    @property
    def by_id(self) -> bool:
        """True where the value follows from a sample's id alone, whichever side it is of."""
        if type(self).on is not Control.on or type(self).side is not Control.side:
            return False
        return not self.two_sided and not self.needs_batch

    @property
    def of_ids(self) -> bool:
        """True where the value follows from ids and steps alone, perhaps apart for each side."""
        return type(self).on is Control.on and not self.needs_batch

    def values(self, index: Tensor, step: int) -> Tensor:
        """Return values of these samples at that step.

        Args:
            index: (N,) long, positions in the data set.
            step: optimiser steps done, >= 0.

        Returns:
            (N,) values, or a shape that broadcasts to it when all samples share one; on the device
            of ``index``.
        """
        raise NotImplementedError

    def on(self, anchors: Anchors) -> Number:
        """Return values now for the anchors of a batch: (n,) or (1,), or a number for each pair."""
        return self.values(anchors.index, self.steps)

    def range(self) -> Range:
        """Return the smallest and largest value over all steps and samples."""
        raise NotImplementedError

    def at(self, index: Tensor, step: int | None = None) -> Tensor:
        """Return values of these samples now, or at another step.

        Args:
            index: (N,) long, positions in the data set. Only its length matters to a control that
                is the same for every sample.
            step: optimiser steps done, >= 0; now when not given.

        Returns:
            (N,) floating values on the device of ``index``, attached to the graph of learned
            parameters.

        Raises:
            ValueError: an id outside the control's table, a wrong shape or type, a negative step.
        """
        index = check_index(index)
        step = self.steps if step is None else whole("step", step, 0)
        return self.values(index, step).expand(len(index))

    def side(self, index: Tensor, direction: Direction) -> Tensor:
        """Return (n,) values now of samples of x (``"x2y"``) or of y (``"y2x"``)."""
        return self.at(index)

    def use(self, directions: str) -> None:
        """Note in which directions a loss uses this control: ``"both"``, ``"x2y"`` or ``"y2x"``."""

    @property
    def steps(self) -> int:
        """Optimiser steps done."""
        return self._count

    def step(self) -> None:
        """Advance by one optimiser step, this control and everything it is composed of."""
        advance_controls(self)

    def _advance(self) -> None:
        self._set_steps(self._count + 1)

    def _set_steps(self, steps: int) -> None:
        self._count = steps
        self._step.fill_(steps)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._set_steps(int(self._step))

    def mean(self, index: Tensor, steps: int) -> float:
        """Return the mean value over these samples and the steps 0 ..
        steps-1 (the matched constant).

        Args:
            index: (N,) long, the samples to average over, usually the training set.
            steps: number of optimiser steps, 1 to 10 million.

        Raises:
            ValueError: other steps; ids outside the control's table.
        """
        steps = whole("steps", steps, 1)
        if steps > _MOST_MEAN:
            raise ValueError(
                f"steps={steps} is too many to average over one by one, at most {_MOST_MEAN}: "
                "for a schedule that repeats take the steps of a period"
            )
        with torch.no_grad():
            index = check_index(index)
            total = math.fsum(float(self.values(index, t).double().mean()) for t in range(steps))
        return total / steps

    def __add__(self, other: Control | float) -> Control:
        other = as_control(other)
        if self.fixed is not None and other.fixed is not None:
            return as_control(self.fixed + other.fixed)
        if other.fixed == 0:
            return self
        from tauten.controls.arithmetic import Sum

        return other if self.fixed == 0 else Sum(self, other)

    __radd__ = __add__

    def __neg__(self) -> Control:
        return self * -1.0

    def __sub__(self, other: Control | float) -> Control:
        return self + -as_control(other)

    def __rsub__(self, other: float) -> Control:
        return as_control(other) + -self

    def __mul__(self, factor: float) -> Control:
        factor = finite("factor", factor)
        if self.fixed is not None:
            return as_control(self.fixed * factor)
        from tauten.controls.arithmetic import Scaled

        return self if factor == 1 else Scaled(self, factor)

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> Control:
        if finite("divisor", divisor) == 0:
            raise ValueError("a control cannot be divided by 0")
        return self * (1.0 / divisor)

    def __rtruediv__(self, numerator: float) -> Control:
        from tauten.controls.arithmetic import Reciprocal

        return Reciprocal(self, numerator)

    def clamp(self, low: float, high: float) -> Control:
        """Return the same control, limited to [low, high]; itself if it never leaves them."""
        from tauten.controls.arithmetic import Clamped

        clamped = Clamped(self, low, high)
        least, most = self.range()
        return self if low <= least and most <= high else clamped


def advance_controls(owner: nn.Module) -> None:
    """Advance every control in this module by one optimiser step, each once."""
    advance(parts(owner))


def advance(modules: Iterable[nn.Module]) -> None:
    """Advance those of these modules that are controls by one optimiser step."""
    for module in modules:
        if isinstance(module, Control):
            module._advance()


def as_control(value: Control | float) -> Control:
    """Return a control as it is, or a number as a ``Constant``."""
    if isinstance(value, Control):
        return value
    if isinstance(value, Real) and not isinstance(value, bool):
        from tauten.controls.constant import Constant

        return Constant(finite("a control's value", value))
    raise TypeError(
        f"expected a control or a number, got {type(value).__name__}; "
        "wrap per-sample tensors in a control such as ClusterShift"
    )


class Scheduled(Control):
    """A control with one number for all samples at each step."""

    def number(self, step: int) -> float:
        """Return the value at a step."""
        raise NotImplementedError

    def rounded(self, dtype: torch.dtype) -> float:
        """Return the value now as a number of this precision."""
        value = self.number(self.steps)
        if dtype == torch.float64:
            return value
        (single,) = struct.unpack("f", struct.pack("f", value))
        return float(single)

    #: () float64, the value now, for graphs that must not be compiled anew at every step
    _now: Tensor | None = None

    @property
    def by_id(self) -> bool:
        return True

    @property
    def of_ids(self) -> bool:
        return True

    def values(self, index: Tensor, step: int) -> Tensor:
        return torch.full((1,), self.number(step), device=index.device)

    def on(self, anchors: Anchors) -> Number:
        device = anchors.index.device
        if torch.compiler.is_compiling() and self._now is not None:
            return self._now.to(device, anchors.dtype).reshape(1)
        return torch.full((1,), self.number(self.steps), dtype=anchors.dtype, device=device)

    def _set_steps(self, steps: int) -> None:
        super()._set_steps(steps)
        self._now = torch.tensor(self.number(steps), dtype=torch.float64, device="cpu")


class BatchControl(Control):
    """A control whose value exists only for the batch at hand."""

    needs_batch = True
    follows_steps = False

    def values(self, index: Tensor, step: int) -> Tensor:
        raise ValueError(
            f"{self!r} follows from the batch's embeddings, so ids alone have no value: "
            "read loss_fn.last_tau after a forward pass"
        )

    def on(self, anchors: Anchors) -> Number:
        raise NotImplementedError
