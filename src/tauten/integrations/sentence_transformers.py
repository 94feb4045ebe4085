"""sentence-transformers: losses of tauten for ``SentenceTransformerTrainer``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tauten.checks import whole
from tauten.extras import need
from tauten.integrations.evaluating import loss_of_mode
from tauten.losses import ContrastiveLoss

need("tauten.integrations.sentence_transformers", "sentence_transformers", "transformers")

from tauten.integrations.loss_callback import LossCallback, attach

try:
    from sentence_transformers.base.losses.gradcache import CachedLossMixin
except ImportError:  # before version 5.7
    CachedLossMixin = object

__all__ = ["CachedControlledLoss", "ControlledLoss", "LossCallback", "attach"]


class ControlledLoss(nn.Module):
    """A loss of tauten between anchors, positives and, in further columns, hard negatives.

    A negative is a candidate of all anchors. Positions come in the column ``index``, if
    :func:`attach` was called with the trainer, or in ``label``. The trainer gives the parameters of
    the loss to its optimiser; its steps and its state are the callback's.

    ::

        loss_fn = tt.InfoNCE(tt.mmts(counts, alpha=0.04, shift=(0.05, 0.09), period=1000))
        trainer = SentenceTransformerTrainer(model, args, data, loss=ControlledLoss(model, loss_fn))
        attach(trainer, loss_fn)
        trainer.train()

    Args:
        model: the sentence encoder.
        loss_fn: the loss.
        eval_loss_fn: loss of the evaluation set; needed where the loss looks up numbers of samples.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: ContrastiveLoss,
        eval_loss_fn: ContrastiveLoss | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.loss_fn = loss_fn
        self.eval_loss_fn = eval_loss_fn

    def forward(
        self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor | None = None
    ) -> Tensor:
        """Return the loss of a batch.

        Args:
            sentence_features: inputs of the model for anchors, positives and negatives.
            labels: (N,) positions of the anchors in the training set; None without positions.
        """
        columns = [self.model(part)["sentence_embedding"] for part in sentence_features]
        return self.between(columns, labels)

    def between(self, columns: Sequence[Tensor], labels: Tensor | None) -> Tensor:
        """Return the loss between the embeddings (N, d) of each column.

        Raises:
            ValueError: one column alone, or positions that are no whole numbers.
        """
        if len(columns) < 2:
            raise ValueError(f"the data have {len(columns)} column: anchors and positives are two")
        if labels is not None and (labels.is_floating_point() or labels.dim() != 1):
            raise ValueError(
                f"the label column must hold positions, whole numbers, got {labels.dtype} of shape "
                f"{tuple(labels.shape)}"
            )
        x, *rest = columns
        y = rest[0] if len(rest) == 1 else torch.cat(rest)
        index: Any = labels
        if labels is not None and len(rest) > 1:
            index = labels, labels.repeat(len(rest))
        loss_fn = loss_of_mode(self.loss_fn, self.eval_loss_fn, training=self.model.training)
        loss: Tensor = loss_fn(x, y, index)
        return loss

    def get_config_dict(self) -> dict[str, Any]:
        """Return the options of the loss, for the model card."""
        return {"loss_fn": repr(self.loss_fn)}


class CachedControlledLoss(CachedLossMixin, ControlledLoss):  # type: ignore[misc]
    """A loss whose batch is embedded in parts, by sentence-transformers' gradient cache.

    The value and the gradients are those of the whole batch. The encoder keeps no more than one
    part in memory, and embeds each text twice.

    Args:
        model: the sentence encoder.
        loss_fn: the loss.
        eval_loss_fn: loss of the evaluation set; needed where the loss looks up numbers of samples.
        mini_batch_size: texts of one part.

    Raises:
        ImportError: sentence-transformers before 5.7.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: ContrastiveLoss,
        eval_loss_fn: ContrastiveLoss | None = None,
        mini_batch_size: int = 32,
    ) -> None:
        if CachedLossMixin is object:
            raise ImportError("CachedControlledLoss needs sentence-transformers 5.7 or newer")
        super().__init__(model, loss_fn, eval_loss_fn)
        self.mini_batch_size = whole("mini_batch_size", mini_batch_size, 1)
        self._gradients: list[tuple[nn.Parameter, Tensor]] = []

    def forward(
        self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor | None = None
    ) -> Tensor:
        """Return the loss of a batch; arguments as those of :class:`ControlledLoss`."""
        loss: Tensor = self.forward_cached(list(sentence_features), labels)  # type: ignore[operator]
        gradients, self._gradients = self._gradients, []
        if gradients:
            loss.register_hook(lambda scale: _accumulate(gradients, scale))
        return loss

    def calculate_loss(
        self,
        reps: list[list[Tensor]],
        labels: Tensor | None = None,
        *,
        with_backward: bool = False,
    ) -> Tensor:
        """Return the loss between parts of embeddings, with their gradients if asked.

        Gradients of the loss's own parameters are kept until the trainer's backward pass, which
        scales them as all others.
        """
        loss = self.between([torch.cat(parts) for parts in reps], labels)
        if not with_backward:
            return loss
        learned = [p for p in self.loss_fn.parameters() if p.requires_grad]
        parts = [part for column in reps for part in column]
        gradients = torch.autograd.grad(loss, [*parts, *learned], allow_unused=True)
        for part, gradient in zip(parts, gradients, strict=False):
            part.grad = gradient
        of_loss = zip(learned, gradients[len(parts) :], strict=True)
        self._gradients = [(p, gradient) for p, gradient in of_loss if gradient is not None]
        return loss.detach()

    def get_config_dict(self) -> dict[str, Any]:
        """Return the options of the loss, for the model card."""
        return super().get_config_dict() | {"mini_batch_size": self.mini_batch_size}


def _accumulate(gradients: list[tuple[nn.Parameter, Tensor]], scale: Tensor) -> None:
    for parameter, gradient in gradients:
        scaled = gradient * scale
        parameter.grad = scaled if parameter.grad is None else parameter.grad + scaled
