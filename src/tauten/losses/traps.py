"""Mistakes of a training loop that nothing else would show, each said once as a warning."""

from __future__ import annotations

import gc
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tauten.checks import warn
from tauten.controls import Control
from tauten.controls.tables import SideTables
from tauten.losses.batch import Batch
from tauten.modules import parts
from tauten.reads import ask

if TYPE_CHECKING:
    from tauten.losses.base import ContrastiveLoss

#: training batches without a step() after which it is taken for forgotten
BATCHES = 300
#: batches since the last step at which something is looked at
FOLLOWED = (1, BATCHES)
#: steps, or batches, in a row in which the same thing must be seen
PATIENCE = 25
#: steps in a row in which a control was advanced by something else
_TWICE = 3
#: numbers of a parameter that are compared
_SAMPLE = 64
#: share of a temperature's range that counts as its lower end
_END = 0.01


class UsageWarning(UserWarning):
    """A training loop leaves out something that the loss needs."""


class Traps:
    """Traps that one loss has noticed in the loop around it; no part of its state."""

    def __init__(self) -> None:
        #: training batches since the last step
        self.batches = 0
        self._count = 0
        self._unreached = 0
        self._twice = 0
        self._left: int | None = None
        self._said: set[str] = set()
        self._optimised = False
        self._still: dict[tuple[int, str], tuple[int, Tensor, int]] = {}

    def trained(self, loss_fn: nn.Module) -> None:
        """Look at a training batch, one of ``FOLLOWED``; warn where so many came without a step.

        Controls that another loss advances are stepped; a running mean of this loss is not.
        """
        if self.batches == 1:
            self._count = _steps(parts(loss_fn))
        if self.batches != BATCHES or not _is_stepped(loss_fn):
            return
        if _steps(parts(loss_fn)) != self._count and getattr(loss_fn, "running", None) is None:
            self.batches = 0
            return
        self._say(
            "step",
            f"{BATCHES} training batches without a step(): call loss_fn.step() after each "
            f"optimizer.step(), or what {type(loss_fn).__name__}'s schedules and means say "
            "stands still; schedules by epoch take every=",
        )

    def evaluated(self, loss_fn: nn.Module) -> None:
        """Warn that positions are those of the training set in evaluation too."""
        self._say(
            "positions",
            f"{type(loss_fn).__name__} in eval() was given index=, and looks it up in what it "
            "knows of the training set. That is right for samples of the training set alone. For "
            "another set take a loss without tables, such as tt.InfoNCE(0.07), or a metric",
        )

    def reached(self, loss_fn: ContrastiveLoss, rho: float, batch: Batch) -> None:
        """Warn of a ρ that the weights of no batch can reach.

        KL(w ‖ uniform) over n negatives is at most log n. Without moving averages a larger ρ only
        drives τ down; with them it may be reached, so all τ must be seen at their lower end, too.
        """
        negatives = max(batch.candidates("x2y"), batch.candidates("y2x")) - 1
        negatives += max((hard.vectors.shape[1] for hard in batch.hard.values()), default=0)
        most = math.log(max(negatives, 1))
        if rho <= most or loss_fn.last_tau is None:
            self._unreached = 0
            return
        low, high = loss_fn.strength.range()
        gamma = getattr(loss_fn, "gamma", None)
        averaged = gamma is not None and gamma.range()[0] < 1

        def then(at_end: bool) -> None:
            self._unreached = self._unreached + 1 if at_end or not averaged else 0
            if self._unreached == PATIENCE:
                what = "all temperatures are at their lower end" if at_end else "τ can only fall"
                self._say(
                    "rho",
                    f"{type(loss_fn).__name__} has rho={rho:g}, but the weights of a batch of this "
                    f"size reach log({negatives}) = {most:.2f} at most, and {what}: take a rho "
                    "below that, or larger batches",
                )

        ask((loss_fn.last_tau[1] <= low + _END * (high - low)).all(), then)

    def before_step(
        self, loss_fn: nn.Module, modules: Sequence[nn.Module], controls: bool = True
    ) -> None:
        """Warn of controls that others advance too, and of parameters that stand still.

        A parameter stands still that does not change over many steps though it has gradients. Where
        others of the loss move, an optimiser has them, and small changes may be lost to rounding;
        so it is where an optimiser is found that has them, whose learning rate may be 0 for now.

        Args:
            loss_fn: the loss that is about to step.
            modules: all that it is made of.
            controls: whether it advances its controls.
        """
        self._shared(loss_fn, modules, controls)
        if not self.batches:
            return
        self.batches = 0
        lazy = []
        for key, parameter in self._watched(modules).items():
            if key not in self._still:
                continue
            version, before, times = self._still[key]
            if parameter._version != version or not torch.equal(_sample(parameter), before):
                self._optimised = True
            elif parameter.grad is None or bool(_local(parameter.grad).any()):
                self._still[key] = version, before, times + 1
                lazy += [parameter] if times + 1 == PATIENCE else []
        if lazy and not self._optimised:
            self._optimised = _in_an_optimiser(list(loss_fn.parameters()))
        if lazy and not self._optimised:
            names = [n for n, p in loss_fn.named_parameters() if any(p is part for part in lazy)]
            shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            self._say(
                "optimiser",
                f"{type(loss_fn).__name__} has parameters that no optimiser moves: {shown} did not "
                f"change in {PATIENCE} steps. Give them to it, AdamW([*model.parameters(), "
                "*loss_fn.parameters()]), or freeze them with loss_fn.requires_grad_(False)",
            )

    def _shared(self, loss_fn: nn.Module, modules: Sequence[nn.Module], controls: bool) -> None:
        """Warn where a control that this loss is about to advance was advanced since its step."""
        moved = controls and self._left is not None and _steps(modules) > self._left
        self._twice = self._twice + 1 if moved else 0
        if self._twice == _TWICE:
            self._say(
                "shared",
                f"a control of {type(loss_fn).__name__} is advanced by another loss too, or by a "
                "call of its own, and so twice in each optimiser step: where two losses share a "
                "control, call step(controls=False) of one of them",
            )

    def after_step(self, modules: Sequence[nn.Module]) -> None:
        """Note the controls and parameters as the step left them."""
        self._left = _steps(modules)
        for key, parameter in self._watched(modules).items():
            times = self._still[key][2] if key in self._still else 0
            self._still[key] = parameter._version, _sample(parameter), times

    def _watched(self, modules: Sequence[nn.Module]) -> dict[tuple[int, str], nn.Parameter]:
        """Return the learned parameters of a loss, by the place of their module and their name."""
        if self._optimised or "optimiser" in self._said:
            return {}
        return {
            (at, name): parameter
            for at, part in enumerate(modules)
            for name, parameter in part._parameters.items()
            if parameter is not None
            and parameter.requires_grad
            and not parameter.is_inference()
            and _local(parameter).numel()
        }

    def _say(self, what: str, message: str) -> None:
        if what not in self._said:
            self._said.add(what)
            warn(message, UsageWarning)


def looks_up(loss_fn: nn.Module) -> bool:
    """Return whether a loss reads numbers of samples by their positions."""
    return any(
        isinstance(part, SideTables) or (isinstance(part, Control) and part.needs_index)
        for part in parts(loss_fn)
    )


def _is_stepped(loss_fn: nn.Module) -> bool:
    """Return whether a step changes anything; losses with tables speak for themselves."""
    if any(isinstance(part, SideTables) for part in parts(loss_fn)):
        return False
    running = getattr(loss_fn, "running", None) is not None
    return running or any(
        isinstance(part, Control) and part.follows_steps for part in parts(loss_fn)
    )


def _steps(modules: Sequence[nn.Module]) -> int:
    """Return how often the controls among these were advanced, by one loss or another."""
    return sum([part.steps for part in modules if isinstance(part, Control)])


def _in_an_optimiser(parameters: Sequence[nn.Parameter]) -> bool:
    """Return whether an optimiser that is alive has any of these parameters."""
    wanted = {id(parameter) for parameter in parameters}
    return any(
        id(parameter) in wanted
        for thing in gc.get_objects()
        if issubclass(type(thing), torch.optim.Optimizer)
        for group in thing.param_groups
        for parameter in group["params"]
    )


def _local(tensor: Tensor) -> Tensor:
    """Return this process's part of a sharded tensor, detached."""
    tensor = tensor.detach()
    local: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return local


def _sample(parameter: Tensor) -> Tensor:
    return _local(parameter).reshape(-1)[:_SAMPLE].clone()
