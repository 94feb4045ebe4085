"""Hugging Face ``Trainer`` for a contrastive module."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grads_with_norm_
from torch.utils.data import DataLoader, Sampler
from transformers import PrinterCallback, TrainingArguments
from transformers.trainer_callback import ProgressCallback

from tauten.losses import NonFiniteLossError
from tauten.reads import Questions, ask
from tauten.training import processes
from tauten.training.loop.allocator import give_back
from tauten.training.loop.arguments import make_optimizer
from tauten.training.loop.epochs import Epochs
from tauten.training.loop.failures import failure
from tauten.training.loop.interrupt import Stopper
from tauten.training.loop.monitor import Clock, Monitor
from tauten.training.loop.saving import SavingTrainer
from tauten.training.options.config import OptimConfig
from tauten.training.run.run_folder import RunFolder
from tauten.training.stores.classes import Classes
from tauten.training.tasks.followed import Follow
from tauten.training.tasks.task import Built


class ContrastiveTrainer(SavingTrainer):
    """A trainer of towers and loss; checkpoints are whole or absent, and resume bit-exactly.

    Batches are made inside the training step, so that everything random comes from the generators
    that a checkpoint restores, one for each process. What is not random may be read before it, by
    workers: pixels and tokens.

    Over several processes each has its part of every batch, and the first one writes.

    Args:
        arguments: of Hugging Face's trainer.
        optim: options of the optimiser.
        sharded: whether all processes write their share of a checkpoint.
        folder: where the run writes.
        built: module, batches and tokenizer.
        described: what a checkpoint says of the encoder beside its own description.
        validation: from the step to the metrics of the validation split, the same on all processes.
        classes: training counts, or None.
        monitor: records the run and steps the loss.
        stopper: ends the training when the process is told to.
        clock: counts the seconds of all starts.
    """

    control: Any

    def __init__(
        self,
        arguments: TrainingArguments,
        optim: OptimConfig,
        sharded: bool,
        folder: RunFolder,
        built: Built,
        described: Mapping[str, Any],
        validation: Callable[[int], dict[str, float]],
        classes: Classes | None,
        monitor: Monitor,
        stopper: Stopper,
        clock: Clock,
    ) -> None:
        self.optim = optim
        self.described = dict(described)
        self.sharded = sharded
        self.folder = folder
        self.tokenizer = built.tokenizer
        self.store = built.store
        self.reads = built.store.reads(arguments.seed)
        arguments.dataloader_num_workers = self.reads.workers
        self.validation = validation
        self.classes = classes
        self.clock = clock
        self.contrastive = module = built.module
        self.running_loss = monitor.loss
        self.stopper = stopper
        self.last_batch: dict[str, Any] = {}
        #: of a step's losses and gradients, answered together before the optimiser's step
        self.questions = Questions()
        super().__init__(
            model=module,
            args=arguments,
            train_dataset=self.reads,
            eval_dataset=self.reads,
            data_collator=self.reads.collate,
            callbacks=[monitor, stopper],
        )
        self.add_callback(Follow(module))
        self.add_callback(Epochs(self.reads, optim))
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)
        # only parameters are exchanged: buffers are the same everywhere, and tables may be large
        names = [name for name, _ in module.named_buffers()]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, names)
        if processes.rank() > 0:
            self._draw_anew(step=0)

    # ---- the order of the data

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the loader of what is read before the steps."""
        if self.args.dataloader_num_workers:
            # after a fork, tokenizers wait for threads that are not there, unless told not to
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        loader: DataLoader[Any] = super().get_train_dataloader()
        return loader

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        """Return the order of the store, or the trainer's own where it has none."""
        order = self.reads.sampler()
        if order is None:
            order = super()._get_train_sampler(train_dataset)
        return order

    # ---- one step

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *_: Any, **__: Any) -> Any:
        """Make the batch, of those of its samples that can be used, and return its loss."""
        batch = self.store.batch(inputs["index"].positions, inputs.get("reading"))
        self.last_batch = {"index": batch["index"]}
        if not len(batch["index"]) and processes.count() == 1:
            return self._no_loss()
        with self.stopper.asking(self.args.device):
            return model(**moved(batch, self.args.device))["loss"]

    def _no_loss(self) -> Tensor:
        """Return the loss of a batch without a usable sample: 0, with gradients of 0."""
        trained = [p for p in self.contrastive.parameters() if p.requires_grad]
        return torch.stack([parameter.sum() for parameter in trained]).sum() * 0

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """Run forward and backward; a loss that is not finite ends the run."""
        try:
            with self.questions.collect():
                loss: Tensor = super().training_step(*args, **kwargs)
        except NonFiniteLossError as error:
            raise self._failure(str(error)) from error
        self.running_loss.add(loss)
        return loss

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        norm = self._finite_grad_norm()
        if self.accelerator.scaler is None:
            return super()._clip_grad_norm(model)
        clip_grads_with_norm_(model.parameters(), self.args.max_grad_norm, norm)
        return norm

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        return self._finite_grad_norm() if grad_norm is None else grad_norm

    def _finite_grad_norm(self) -> Tensor:
        """Return the norm of all gradients; one that is not finite ends the run.

        With scaled losses they are brought to their size. One that is not finite means that the
        step is left out and the scale halved, unless that is 1 already.
        """
        scaler = self.accelerator.scaler
        if scaler is not None:
            self.accelerator.unscale_gradients()
        gradients = {
            name: parameter.grad
            for name, parameter in self.contrastive.named_parameters()
            if parameter.grad is not None
        }
        norm = torch.nn.utils.get_total_norm(list(gradients.values()))
        finite = norm.isfinite()

        def then(finite: bool) -> None:
            if not finite and (scaler is None or scaler.get_scale() <= 1):
                bad = [name for name, grad in gradients.items() if not bool(grad.isfinite().all())]
                raise NonFiniteLossError(
                    f"the gradient is NaN or infinite in {len(bad)} parameters: "
                    f"{', '.join(bad[:5]) or 'none alone, only their norm'}"
                )

        try:
            with self.questions.collect():
                ask(finite.full_tensor() if hasattr(finite, "full_tensor") else finite, then)
            self.questions.answer()
        except NonFiniteLossError as error:
            raise self._failure(str(error)) from error
        return norm

    def _failure(self, reason: str) -> ValueError:
        if self.optim.precision == "fp16":
            reason += "; float16 ends at 65,504: optim.precision=bf16 has the range of float32"
        return failure(
            reason,
            self.state.global_step,
            self.last_batch["index"],
            self.contrastive.loss_fn,
            self.folder,
        )

    # ---- optimiser

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Create AdamW, decaying only the towers' matrices; the loss may have its own rate."""
        if self.optimizer is None:
            self.optimizer = make_optimizer(self.optim, self.contrastive)
        return self.optimizer

    # ---- evaluation

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Evaluate on the validation split; never on test."""
        scores = self.validation(self.state.global_step)
        give_back()
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in scores.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics


def moved(part: Any, device: torch.device) -> Any:
    """Return a part of a batch with its tensors on a device; a copy to a GPU does not wait.

    Ids of ``same`` stay where they are: a loss looks there, without a wait, whether any agree.
    """
    if isinstance(part, Mapping):
        return {
            name: value if name == "same" else moved(value, device) for name, value in part.items()
        }
    if isinstance(part, tuple):
        return tuple(moved(value, device) for value in part)
    if device.type == "cuda":
        return part.pin_memory().to(device, non_blocking=True)
    return part.to(device)
