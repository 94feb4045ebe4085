"""A trainer whose checkpoints are whole or absent, and whose random numbers go on from them."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import Trainer, set_seed

from tauten.data.problems import Skipped
from tauten.files import naming, read_json, read_tensors
from tauten.models import Tokenizer
from tauten.training import checkpoints, processes
from tauten.training.checkpoints.sharded import read_state, write_state
from tauten.training.loop.monitor import Clock, RunningLoss
from tauten.training.run.names import CONFIG
from tauten.training.run.run_folder import RunFolder
from tauten.training.stores.classes import Classes
from tauten.training.stores.store import Store
from tauten.training.stores.stream import SKIPPED, total
from tauten.training.tasks.followed import FollowedModule
from tauten.training.tasks.loading import ENCODER_PREFIX

WEIGHTS, ENCODER, CLOCK = "model.safetensors", "encoder.json", "clock.json"
CLASSES, OPTIMIZER, SCHEDULER = "classes.json", "optimizer.pt", "scheduler.pt"
SCALER = "scaler.pt"

logger = logging.getLogger("tauten.training")


class SavingTrainer(Trainer):  # type: ignore[misc]
    """A trainer that writes and reads the checkpoints of a run, one process or all of them.

    Attributes:
        contrastive: encoder and loss.
        folder: where the run writes.
        store: counts the samples that could not be used.
        tokenizer: is saved with each checkpoint; None where there are no texts.
        classes: training counts, or None.
        described: what a checkpoint says of the encoder beside its own description.
        clock: counts the seconds of all starts.
        running_loss: since the last line of history.
        sharded: whether all processes write their share of a checkpoint.
    """

    optimizer: torch.optim.Optimizer | None
    contrastive: FollowedModule
    folder: RunFolder
    store: Store
    tokenizer: Tokenizer | None
    classes: Classes | None
    described: dict[str, Any]
    clock: Clock
    running_loss: RunningLoss
    sharded: bool

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
            self.folder.history.sync()
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
        if self.sharded:
            write_state(folder / checkpoints.SHARDED, self.contrastive, self.optimizer)
        if not self.args.should_save:
            return
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            name: value.detach().cpu().contiguous().clone()
            for name, value in self.contrastive.state_dict().items()
            if not self.sharded or name.startswith(ENCODER_PREFIX)
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
        counters["history"] = self.folder.history.sum()
        (folder / CLOCK).write_text(json.dumps(counters), encoding="utf-8")

    def restore(self, checkpoint: Path) -> None:
        """Load the module of a checkpoint after which no step is left to train."""
        if self.sharded:
            read_state(checkpoint / checkpoints.SHARDED, self.contrastive)
        self._load_from_checkpoint(str(checkpoint))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if not self.sharded:
            tensors = read_tensors(Path(resume_from_checkpoint) / WEIGHTS)
            with checkpoints.reading(Path(resume_from_checkpoint), WEIGHTS):
                self.contrastive.load_state_dict(tensors)
        if self._skipped is not None and processes.rank() == 0:
            path = Path(resume_from_checkpoint) / SKIPPED
            skipped = read_json(path)
            with checkpoints.reading(path.parent, SKIPPED):
                self.store.skipped = Skipped(**skipped)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.sharded:
            super()._save_optimizer_and_scheduler(output_dir)
        elif self.args.should_save:
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        folder = Path(checkpoint)
        if self.sharded:
            read_state(folder / checkpoints.SHARDED, self.contrastive, self.optimizer)
        with checkpoints.reading(folder, f"{OPTIMIZER} or {SCHEDULER}"):
            if not self.sharded:
                super()._load_optimizer_and_scheduler(checkpoint)
            else:
                saved = torch.load(folder / SCHEDULER, weights_only=True)
                self.lr_scheduler.load_state_dict(saved)
        self._check_loaded(folder)

    def _check_loaded(self, folder: Path) -> None:
        """Refuse to go on if a file vanished meanwhile, for the trainer skips what is missing."""
        step, there = int(folder.name.split("-")[1]), self.state.global_step
        wanted = [SCHEDULER, checkpoints.SHARDED if self.sharded else OPTIMIZER]
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
