"""Hugging Face ``Trainer`` for a contrastive module."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import PrinterCallback, Trainer
from transformers.trainer_callback import ProgressCallback

from tauten.losses import NonFiniteLossError
from tauten.models import Tokenizer
from tauten.training import checkpoints
from tauten.training.arguments import arguments, make_optimizer
from tauten.training.config import Config
from tauten.training.encode import encode
from tauten.training.module import ContrastiveModule
from tauten.training.monitor import Clock, Monitor
from tauten.training.pairs import PairStore
from tauten.training.run_folder import CONFIG, FAILURE, RunFolder
from tauten.training.splits import Classes, PairData

WEIGHTS, ENCODER, CLOCK = "model.safetensors", "encoder.json", "clock.json"
CLASSES = "classes.json"


class Positions(Dataset[int]):
    """The data set that the trainer shuffles: positions only, the store makes the batch."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, position: int) -> int:
        return position


def collate(positions: Sequence[int]) -> dict[str, Tensor]:
    """A batch of positions."""
    return {"index": torch.tensor(positions, dtype=torch.int64)}


class ContrastiveTrainer(Trainer):  # type: ignore[misc]
    """Trains towers and loss together; checkpoints are whole or absent, and resume bit-exactly.

    Batches are made from the memory cache inside the training step, so that everything random
    comes from the generators that a checkpoint restores.

    Args:
        config: of the run.
        folder: where the run writes.
        module: towers and loss.
        tokenizer: saved with each checkpoint.
        store: the training split.
        validation: the validation split.
        classes: training counts, or None.
        monitor: records the run and steps the loss.
        clock: counts the seconds of all starts.
        total_steps: optimiser steps of the whole training.
        eval_steps: optimiser steps between evaluations.
    """

    optimizer: torch.optim.Optimizer | None
    control: Any

    def __init__(
        self,
        config: Config,
        folder: RunFolder,
        module: ContrastiveModule,
        tokenizer: Tokenizer,
        store: PairStore,
        validation: PairData,
        classes: Classes | None,
        monitor: Monitor,
        clock: Clock,
        total_steps: int,
        eval_steps: int,
    ) -> None:
        self.config = config
        self.folder = folder
        self.tokenizer = tokenizer
        self.store = store
        self.validation = validation
        self.classes = classes
        self.clock = clock
        self.contrastive = module
        self.last_batch: dict[str, Any] = {}
        super().__init__(
            model=module,
            args=arguments(config, folder, total_steps, eval_steps),
            train_dataset=Positions(len(store)),
            eval_dataset=Positions(len(validation)),
            data_collator=collate,
            callbacks=[monitor],
        )
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)

    # ---- one step

    def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], *_: Any, **__: Any) -> Any:
        """Make the batch and return its loss."""
        device = self.args.device
        index = inputs["index"]
        self.last_batch = {"index": index}
        batch = self.store.batch(index.cpu())
        return model(
            images=batch["images"].to(device),
            texts={name: ids.to(device) for name, ids in batch["texts"].items()},
            index=index.to(device),
            same=tuple(ids.to(device) for ids in batch["same"]),
        )["loss"]

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """Forward and backward; a loss that is not finite ends the run."""
        try:
            loss: Tensor = super().training_step(*args, **kwargs)
        except NonFiniteLossError as error:
            raise self._failure(str(error)) from error
        return loss

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        self._finite_grad_norm()
        return super()._clip_grad_norm(model)

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> float:
        return float(self._finite_grad_norm() if grad_norm is None else grad_norm)

    def _finite_grad_norm(self) -> Tensor:
        """Norm of all gradients; one that is not finite ends the run before the optimiser steps."""
        gradients = {
            name: parameter.grad
            for name, parameter in self.contrastive.named_parameters()
            if parameter.grad is not None
        }
        norm = torch.nn.utils.get_total_norm(list(gradients.values()))
        if not bool(norm.isfinite()):
            bad = [name for name, grad in gradients.items() if not bool(grad.isfinite().all())]
            raise self._failure(
                f"the gradient is NaN or infinite in {len(bad)} parameters: "
                f"{', '.join(bad[:5]) or 'none alone, only their norm'}"
            )
        return norm

    def _failure(self, reason: str) -> NonFiniteLossError:
        """The error that ends the run; all of the batch's indices go to ``failure.json``.

        The range of τ is that of the last batch that had a loss.
        """
        index = self.last_batch["index"].tolist()
        last = self.folder.resumable()
        name = self.contrastive.loss_fn.strength_name
        known = self.contrastive.loss_fn.last_tau
        ends = None if known is None else [float(known[1].min()), float(known[1].max())]
        span = "not known yet" if ends is None else f"in [{ends[0]:g}, {ends[1]:g}]"
        step = self.state.global_step
        report = {
            "step": step,
            "reason": reason,
            "index": index,
            f"{name}_range": ends,
            "last_good_checkpoint": last.name if last else None,
        }
        checkpoints.replace_text(self.folder.path / FAILURE, json.dumps(report, indent=1))
        shown = ", ".join(map(str, index[:10])) + (", ..." if len(index) > 10 else "")
        return NonFiniteLossError(
            f"training stopped at step {step}: {reason}. Batch of {len(index)} samples: {shown} "
            f"(all in {FAILURE}); {name} {span}; "
            f"last good checkpoint: {last.name if last else 'none'}. A lower learning rate, "
            f"optim.max_grad_norm, or a higher {name} usually helps"
        )

    # ---- optimiser

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW: weight decay on the towers' matrices only; the loss may have its own rate."""
        if self.optimizer is None:
            self.optimizer = make_optimizer(self.config.optim, self.contrastive)
        return self.optimizer

    # ---- evaluation

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Retrieval on the validation split; never on test."""
        config = self.config.evaluation
        encoded = encode(
            self.contrastive.encoder,
            self.tokenizer,
            self.validation,
            self.classes,
            config.batch_size,
            self.config.progress,
        )
        metrics = encoded.retrieval()
        if config.metric not in metrics:
            raise ValueError(
                f"evaluation.metric={config.metric!r} is unknown; choose one of {sorted(metrics)}"
            )
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    # ---- checkpoints

    def _get_output_dir(self, trial: Any) -> str:
        return str(self.folder.checkpoints / checkpoints.STAGING)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        root = self.folder.checkpoints
        staging = root / checkpoints.STAGING
        shutil.rmtree(staging, ignore_errors=True)
        super()._save_checkpoint(model, trial)
        step = self.state.global_step
        # our own record of the best is best_global_step; the staged path means nothing later
        self.state.best_model_checkpoint = None
        self.state.save_to_json(str(staging / f"checkpoint-{step}" / "trainer_state.json"))
        published = checkpoints.publish(staging / f"checkpoint-{step}", root)
        best = self.state.best_global_step
        if best == step:
            checkpoints.set_best(published, root)
        checkpoints.rotate(root, keep=[step] if best is None else [step, best])

    def _save(
        self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None
    ) -> None:
        assert output_dir is not None
        folder = Path(output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            name: value.detach().cpu().contiguous().clone()
            for name, value in self.contrastive.state_dict().items()
        }
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        description = self.contrastive.encoder.describe()
        (folder / ENCODER).write_text(json.dumps(description), encoding="utf-8")
        if self.classes is not None:
            (folder / CLASSES).write_text(json.dumps(vars(self.classes)), encoding="utf-8")
        self.tokenizer.save(folder)
        shutil.copy2(self.folder.path / CONFIG, folder / CONFIG)
        (folder / CLOCK).write_text(json.dumps({"wall_s": self.clock.seconds()}), encoding="utf-8")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self.contrastive.load_state_dict(load_file(Path(resume_from_checkpoint) / WEIGHTS))
