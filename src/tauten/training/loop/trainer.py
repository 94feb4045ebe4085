"""Hugging Face ``Trainer`` for a contrastive module."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grads_with_norm_
from torch.utils.data import Sampler
from transformers import PrinterCallback, Trainer, TrainingArguments, set_seed
from transformers.trainer_callback import ProgressCallback

from tauten.data.problems import Skipped
from tauten.files import naming, read_json, read_tensors
from tauten.losses import NonFiniteLossError
from tauten.reads import Questions, ask
from tauten.training import checkpoints, processes
from tauten.training.checkpoints.sharded import read_state, write_state
from tauten.training.loop.allocator import give_back
from tauten.training.loop.arguments import make_optimizer
from tauten.training.loop.failures import failure
from tauten.training.loop.interrupt import Stopper
from tauten.training.loop.monitor import Clock, Monitor
from tauten.training.options.config import OptimConfig
from tauten.training.run.run_folder import CONFIG, RunFolder
from tauten.training.stores.splits import Classes
from tauten.training.stores.stream import SKIPPED, total
from tauten.training.tasks.followed import Follow
from tauten.training.tasks.results import ENCODER_PREFIX
from tauten.training.tasks.task import Built

WEIGHTS, ENCODER, CLOCK = "model.safetensors", "encoder.json", "clock.json"
CLASSES, OPTIMIZER, SCHEDULER = "classes.json", "optimizer.pt", "scheduler.pt"
SCALER = "scaler.pt"

logger = logging.getLogger("tauten.training")


class ContrastiveTrainer(Trainer):  # type: ignore[misc]
    """A trainer of towers and loss; checkpoints are whole or absent, and resume bit-exactly.

    Batches are made inside the training step, from memory or of videos, so that everything random
    comes from the generators that a checkpoint restores, one for each process. Of pairs in shards
    the pictures are read before it, where nothing is random.

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

    optimizer: torch.optim.Optimizer | None
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
        self._sharded = sharded
        self.folder = folder
        self.tokenizer = built.tokenizer
        self.store = built.store
        self.reads = built.store.reads(arguments.seed)
        self.validation = validation
        self.classes = classes
        self.clock = clock
        self.contrastive = module = built.module
        self.running_loss = monitor.loss
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
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)
        # only parameters are exchanged: buffers are the same everywhere, and tables may be large
        names = [name for name, _ in module.named_buffers()]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, names)
        if processes.rank() > 0:
            self._draw_anew(step=0)

    # ---- the order of the data

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

    # ---- checkpoints

    def _get_output_dir(self, trial: Any) -> str:
        return str(self.folder.checkpoints / checkpoints.STAGING)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        staging = self.folder.checkpoints / checkpoints.STAGING
        if self.args.should_save:
            shutil.rmtree(staging, ignore_errors=True)
        processes.barrier()
        try:
            with naming(staging):
                self._stage(model, trial, staging)
        except OSError:
            shutil.rmtree(staging, ignore_errors=True)
            raise

    def _stage(self, model: nn.Module, trial: Any, staging: Path) -> None:
        """Write a checkpoint aside, and put it in its place."""
        super()._save_checkpoint(model, trial)
        if self._skipped is not None:
            skipped = total(processes.gather(self._skipped))
            if self.args.should_save:
                step = f"checkpoint-{self.state.global_step}"
                self._record_skipped(skipped, staging / step / SKIPPED)
        processes.barrier()
        # our own record of the best is best_global_step; the staged path means nothing later
        self.state.best_model_checkpoint = None
        if self.args.should_save:
            self.folder.sync_history()
            self._publish(self.folder.checkpoints, staging)

    @property
    def _skipped(self) -> Skipped | None:
        """Samples that could not be used; None where all are in memory."""
        return self.store.skipped

    def _record_skipped(self, skipped: Skipped, path: Path) -> None:
        """Keep with the checkpoint what training could not use so far, and say it."""
        path.write_text(json.dumps(asdict(skipped)), encoding="utf-8")
        if skipped.count:
            logger.warning(
                "step %d: skipped %d samples so far (%s); first: %s",
                self.state.global_step,
                skipped.count,
                ", ".join(f"{count} {kind}" for kind, count in skipped.kinds.items()),
                skipped.first[0],
            )

    def _publish(self, root: Path, staging: Path) -> None:
        """Put the staged checkpoint, which all processes have written, in its place."""
        step = self.state.global_step
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
        if self._sharded:
            write_state(folder / checkpoints.SHARDED, self.contrastive, self.optimizer)
        if not self.args.should_save:
            return
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            name: value.detach().cpu().contiguous().clone()
            for name, value in self.contrastive.state_dict().items()
            if not self._sharded or name.startswith(ENCODER_PREFIX)
        }
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        description = self.contrastive.encoder.describe() | self.described
        (folder / ENCODER).write_text(json.dumps(description), encoding="utf-8")
        if self.classes is not None:
            (folder / CLASSES).write_text(json.dumps(vars(self.classes)), encoding="utf-8")
        if self.tokenizer is not None:
            self.tokenizer.save(folder)
        shutil.copy2(self.folder.path / CONFIG, folder / CONFIG)
        counters = {"wall_s": self.clock.seconds(), "loss": self.running_loss.state()}
        counters["history"] = self.folder.history_sum()
        (folder / CLOCK).write_text(json.dumps(counters), encoding="utf-8")

    def restore(self, checkpoint: Path) -> None:
        """Load the module of a checkpoint after which no step is left to train."""
        if self._sharded:
            read_state(checkpoint / checkpoints.SHARDED, self.contrastive)
        self._load_from_checkpoint(str(checkpoint))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if not self._sharded:
            tensors = read_tensors(Path(resume_from_checkpoint) / WEIGHTS)
            with checkpoints.reading(Path(resume_from_checkpoint), WEIGHTS):
                self.contrastive.load_state_dict(tensors)
        if self._skipped is not None and processes.rank() == 0:
            path = Path(resume_from_checkpoint) / SKIPPED
            skipped = read_json(path)
            with checkpoints.reading(path.parent, SKIPPED):
                self.store.skipped = Skipped(**skipped)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self._sharded:
            super()._save_optimizer_and_scheduler(output_dir)
        elif self.args.should_save:
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        folder = Path(checkpoint)
        if self._sharded:
            read_state(folder / checkpoints.SHARDED, self.contrastive, self.optimizer)
        with checkpoints.reading(folder, f"{OPTIMIZER} or {SCHEDULER}"):
            if not self._sharded:
                super()._load_optimizer_and_scheduler(checkpoint)
            else:
                saved = torch.load(folder / SCHEDULER, weights_only=True)
                self.lr_scheduler.load_state_dict(saved)
        self._check_loaded(folder)

    def _check_loaded(self, folder: Path) -> None:
        """Refuse to go on if a file vanished meanwhile, for the trainer skips what is missing."""
        step, there = int(folder.name.split("-")[1]), self.state.global_step
        wanted = [SCHEDULER, checkpoints.SHARDED if self._sharded else OPTIMIZER]
        if self.accelerator.scaler is not None:
            wanted.append(SCALER)
        missing = [name for name in wanted if not (folder / name).exists()]
        if missing or there != step:
            what = f"{', '.join(missing)} vanished" if missing else f"the training is at {there}"
            raise ValueError(
                f"{folder} was not read as a whole ({what}): does another process write to "
                f"{self.folder.path}? Start the same command again"
            )

    # ---- random numbers

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Restore this process's generators; begin anew if another number of processes saved."""
        if checkpoint is None:
            return
        if len(list(Path(checkpoint).glob("rng_state*.pth"))) == processes.count():
            with checkpoints.reading(Path(checkpoint), "rng_state"):
                super()._load_rng_state(checkpoint)
        else:
            self._draw_anew(self.state.global_step)

    def _draw_anew(self, step: int) -> None:
        """Seed random numbers of this process's own from here on, the same in every such start."""
        name = f"{self.args.seed} {processes.count()} {processes.rank()} {step}"
        set_seed(int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big"))


def moved(part: Any, device: torch.device) -> Any:
    """Return a part of a batch with its tensors on a device."""
    if isinstance(part, Mapping):
        return {name: moved(value, device) for name, value in part.items()}
    if isinstance(part, tuple):
        return tuple(moved(value, device) for value in part)
    return part.to(device)
