"""Hugging Face ``Trainer``: a model of two towers, such as ``CLIPModel``, with a loss of tauten."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from tauten.extras import need
from tauten.integrations.evaluating import evaluation_loss, loss_of_mode
from tauten.losses import ContrastiveLoss

need("tauten.integrations.transformers", "transformers", "accelerate")
from transformers import Trainer, default_data_collator
from transformers.trainer_utils import get_last_checkpoint

from tauten.integrations.loss_callback import LossCallback, attach

__all__ = ["Collator", "ContrastiveTrainer", "LossCallback", "Positions", "attach"]

#: the column of positions
INDEX = "index"


class Positions(Dataset[dict[str, Any]]):
    """A data set whose rows also have their position, as ``index``.

    Args:
        rows: rows by position, each a dict without ``index``.
    """

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> dict[str, Any]:
        row = self.rows[position]
        if INDEX in row:
            raise ValueError(f"row {position} has a column {INDEX!r} already: take the rows as is")
        return {**row, INDEX: int(position)}


class Collator:
    """A collator that makes positions a tensor and leaves all else to another one.

    Args:
        collate: makes a batch of rows without ``index``, such as a processor's padding.
    """

    def __init__(
        self, collate: Callable[[list[dict[str, Any]]], dict[str, Any]] = default_data_collator
    ) -> None:
        self.collate = collate

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        with_positions = [INDEX in row for row in rows]
        if not any(with_positions):
            return self.collate(list(rows))
        if not all(with_positions):
            raise ValueError(f"{with_positions.count(False)} of {len(rows)} rows have no {INDEX!r}")
        batch = self.collate([{k: v for k, v in row.items() if k != INDEX} for row in rows])
        return {**batch, INDEX: torch.tensor([int(row[INDEX]) for row in rows])}


class ContrastiveTrainer(Trainer):  # type: ignore[misc]
    """A trainer whose loss is one of tauten, between the two embeddings of the model's outputs.

    The loss stands beside the model, so that the model is saved as it is. Its parameters are in the
    optimiser, without weight decay; its state is in each checkpoint's ``loss.pt``; what the trainer
    reports to has its temperatures, and the model's configuration names it. Rows need a column
    ``index``, their positions in the training set, see :class:`Positions`.

    ``predict`` returns the embeddings of both sides.

    Args:
        model: returns ``image_embeds`` and ``text_embeds``, or what ``outputs`` names.
        args: of Hugging Face's trainer, as all further ones.
        loss_fn: the loss.
        labels: (N,) the class of each training sample, by position, for temperatures by group.
        eval_loss_fn: loss of the evaluation set; needed where the loss looks up numbers of samples.
        outputs: names of the two embeddings in the model's outputs.

    Raises:
        ValueError: an evaluation set whose positions the loss would take for training samples.
    """

    def __init__(
        self,
        model: nn.Module | None = None,
        args: Any = None,
        *,
        loss_fn: ContrastiveLoss,
        labels: Any = None,
        eval_loss_fn: ContrastiveLoss | None = None,
        outputs: tuple[str, str] = ("image_embeds", "text_embeds"),
        **further: Any,
    ) -> None:
        if further.get("eval_dataset") is not None:
            evaluation_loss(loss_fn, eval_loss_fn)
        further["data_collator"] = Collator(further.get("data_collator") or default_data_collator)
        super().__init__(model, args, **further)
        self.loss_fn = loss_fn.to(self.args.device)
        self.eval_loss_fn = eval_loss_fn
        self.outputs = outputs
        # columns of the data with such names are kept
        self.label_names: list[str] = [*self.label_names, INDEX]
        self.model_accepts_loss_kwargs = False  # a mean over pairs, which accumulation divides
        self.can_return_loss = False
        self.loss_callback = attach(self, loss_fn, labels)
        if hasattr(getattr(self.model, "config", None), "to_json_string"):
            self.model.config.tauten_loss = repr(loss_fn)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return the loss of a batch, and its embeddings if asked.

        Raises:
            ValueError: outputs without the two embeddings.
        """
        index: Tensor | None = inputs.get(INDEX)
        outputs = model(**{name: value for name, value in inputs.items() if name != INDEX})
        missing = [name for name in self.outputs if name not in outputs]
        if missing:
            raise ValueError(
                f"{type(self.model).__name__} returns {', '.join(outputs.keys())}, and not "
                f"{', '.join(missing)}: name the two embeddings with outputs="
            )
        x, y = (outputs[name] for name in self.outputs)
        loss_fn = loss_of_mode(self.loss_fn, self.eval_loss_fn, training=model.training)
        loss = loss_fn(x, y, index)
        return (loss, dict(zip(self.outputs, (x, y), strict=True))) if return_outputs else loss

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Build the optimiser, with the parameters of the loss."""
        optimizer: torch.optim.Optimizer = super().create_optimizer(*args, **kwargs)
        known = {id(p) for group in optimizer.param_groups for p in group["params"]}
        learned = [p for p in self.loss_fn.parameters() if p.requires_grad and id(p) not in known]
        if learned:
            optimizer.add_param_group({"params": learned, "weight_decay": 0.0})
        return optimizer

    def train(self, resume_from_checkpoint: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Train, or go on from a checkpoint with the state of its loss."""
        folder = resume_from_checkpoint
        if folder is True:
            folder = get_last_checkpoint(self.args.output_dir)
        self.loss_callback.resume_from = Path(folder) if isinstance(folder, str | Path) else None
        return super().train(resume_from_checkpoint, *args, **kwargs)
