"""Lightning: a callback that steps the losses of a module and logs their temperatures."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from tauten.evaluation.temperatures import TauProbe
from tauten.extras import need
from tauten.losses import ContrastiveLoss

if TYPE_CHECKING or "pytorch_lightning" not in sys.modules:
    if find_spec("pytorch_lightning") is None:
        need("tauten.integrations.lightning", "lightning")
    from lightning.pytorch import Callback
else:
    from pytorch_lightning import Callback

__all__ = ["LossCallback"]


class LossCallback(Callback):  # type: ignore[misc]
    """A callback that advances each loss once per optimiser step, and saves those that stand apart.

    Losses that are attributes of the module are found, and Lightning saves them with it. A loss
    that is no part of the module is passed, and its state goes into the callback's part of the
    checkpoint. A step that mixed precision leaves out is none.

    At the steps at which the trainer logs, all its loggers have ``tau/mean``, ``tau/min``,
    ``tau/max`` and, with labels, ``tau/head``, ``tau/mid``, ``tau/tail`` and more; with several
    losses their names stand before. The losses are hyper-parameters of the run.

    Args:
        loss_fn: a loss that is no part of the module.
        labels: (N,) the class of each training sample, by position, for values by group.

    Raises:
        ValueError: no loss, or one apart that has parameters, which the optimiser does not know.
    """

    def __init__(self, loss_fn: ContrastiveLoss | None = None, labels: Any = None) -> None:
        super().__init__()
        if loss_fn is not None and any(p.requires_grad for p in loss_fn.parameters()):
            raise ValueError(
                f"{type(loss_fn).__name__} has parameters that are learned: make it an attribute "
                "of the LightningModule, whose optimiser then has them, and pass it not"
            )
        self.loss_fn = loss_fn
        self.labels = labels
        self.losses: dict[str, ContrastiveLoss] = {}
        self._probes: dict[str, TauProbe] = {}
        self._step = 0
        self._scale: float | None = None

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Find the losses."""
        if stage != "fit":
            return
        self.losses = _outermost(pl_module)
        if self.loss_fn is not None:
            self.losses[""] = self.loss_fn.to(pl_module.device)
        if not self.losses:
            raise ValueError(
                f"{type(pl_module).__name__} has no loss of tauten among its attributes: make "
                "it one, or pass LossCallback(loss_fn)"
            )
        self._probes = {n: TauProbe.of_labels(loss, self.labels) for n, loss in self.losses.items()}

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin to count at the step where training begins or goes on."""
        if self.loss_fn is not None:
            self.loss_fn.to(pl_module.device)
        self._step, self._scale = trainer.global_step, _scale(trainer)
        for logger in trainer.loggers:
            logger.log_hyperparams(
                {_key("loss_fn", name): repr(loss) for name, loss in self.losses.items()}
            )

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log and advance the losses if the batch ended in an optimiser step."""
        if trainer.global_step == self._step:
            return
        due = trainer.global_step // trainer.log_every_n_steps
        if due > self._step // trainer.log_every_n_steps:
            for name, probe in self._probes.items():
                values = {_key(key, name): value for key, value in probe.summary().items()}
                pl_module.log_dict(values, on_step=True, on_epoch=False)
        self._step = trainer.global_step
        before, self._scale = self._scale, _scale(trainer)
        if before is not None and self._scale is not None and self._scale < before:
            return  # gradients overflowed, and the scaler left the step out
        for loss_fn in self.losses.values():
            loss_fn.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the loss that is no part of the module."""
        return {} if self.loss_fn is None else {"loss_fn": self.loss_fn.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state of the loss that is no part of the module."""
        if self.loss_fn is not None:
            state: dict[str, Tensor] = state_dict["loss_fn"]
            self.loss_fn.load_state_dict(state)


def _outermost(module: nn.Module) -> dict[str, ContrastiveLoss]:
    """Return the losses of a module by name, without those that are part of another loss."""
    losses = {n: part for n, part in module.named_modules() if isinstance(part, ContrastiveLoss)}
    return {
        name: loss
        for name, loss in losses.items()
        if not any(name.startswith(f"{other}.") for other in losses)
    }


def _key(key: str, name: str) -> str:
    return key if name in ("", "loss_fn") else f"{name}/{key}"


def _scale(trainer: Any) -> float | None:
    """Return the scale of mixed precision's scaler, if there is one."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return None if scaler is None else float(scaler.get_scale())
