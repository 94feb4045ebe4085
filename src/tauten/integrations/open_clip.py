"""open_clip: its own training with a loss of tauten and the positions of the samples.

    python -m tauten.integrations.open_clip LOSS.py OPTIONS OF open_clip_train

``LOSS.py`` sets ``loss_fn``, and may set ``labels``, the class of each sample. What is not said
here is open_clip's: data, model, optimiser, schedule, logging, checkpoints, several processes.
"""

from __future__ import annotations

import logging
import runpy
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tauten.evaluation.temperatures import TauProbe
from tauten.extras import need
from tauten.integrations.open_clip_data import Batches, with_positions
from tauten.losses import ContrastiveLoss

__all__ = ["ControlledClipLoss", "main"]


class ControlledClipLoss(nn.Module):
    """The interface of ``open_clip.ClipLoss``, with τ from a control instead of ``logit_scale``.

    Args:
        loss_fn: any loss of tauten for pairs.
        batches: where the positions of a batch are found, if its caller does not pass them.
    """

    def __init__(self, loss_fn: ContrastiveLoss, batches: Batches | None = None) -> None:
        super().__init__()
        self.loss_fn = loss_fn
        self.batches = batches

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: Tensor | None = None,
        logit_bias: Tensor | None = None,
        index: Tensor | None = None,
        output_dict: bool = False,
    ) -> Tensor | dict[str, Tensor]:
        """Return the loss of a batch; scale and bias of the model do nothing and do not move."""
        if index is None and self.batches is not None:
            index = self.batches.positions(len(image_features)).to(image_features.device)
        total = self.loss_fn(image_features, text_features, index)
        for unused in (logit_scale, logit_bias):
            if unused is not None:  # a gradient of 0, which DistributedDataParallel waits for
                total = total + 0.0 * unused.sum()
        return {"contrastive_loss": total} if output_dict else total


def main(arguments: Sequence[str], loss_fn: ContrastiveLoss, labels: Any = None) -> Any:
    """Train with ``open_clip_train.main``.

    The loss advances with each step of the optimiser that mixed precision does not leave out, its
    parameters are in the optimiser, and its state is in the optimiser's state of each checkpoint,
    so that ``--resume`` goes on with it. At the steps at which open_clip logs, the log, TensorBoard
    and W&B have ``train/tau/mean`` and so on. ``params.txt`` and W&B have the loss as
    ``tauten_loss``.

    Args:
        arguments: the command line of ``open_clip_train``.
        loss_fn: a loss for pairs.
        labels: (N,) the class of each training sample, by position, for temperatures by group.

    Returns:
        What ``open_clip_train.main`` returns.

    Raises:
        ValueError: options that need another loss.
    """
    need("open_clip's training", "open_clip_train", "webdataset")
    module = import_module("open_clip_train.main")
    training = _Training(module, loss_fn, TauProbe.of_labels(loss_fn, labels))
    with _exchanged(training, import_module("open_clip_train.data")):
        return module.main(list(arguments))


class _Training:
    """One training of open_clip: what takes the place of names in its main module."""

    def __init__(self, module: Any, loss_fn: ContrastiveLoss, probe: TauProbe) -> None:
        self.module = module
        self.loss_fn = loss_fn
        self.probe = probe
        self.batches = Batches()
        self.args: Any = None
        self.writer: Any = None
        self.steps_before = 0
        self.hooks: list[Any] = []
        self._parse, self._optim, self._train = (
            module.parse_args,
            module.optim,
            module.train_one_epoch,
        )

    def parse_args(self, arguments: list[str]) -> Any:
        """Return open_clip's options, with the loss as one more."""
        args = self._parse(arguments)
        refused = {
            "--distill-model": args.distill_model is not None,
            "--model coca": "coca" in args.model.lower(),
            "--horovod": args.horovod,
            f"--opt {args.opt}": args.opt.startswith("timm/"),
            "--dataset-type synthetic": args.dataset_type == "synthetic",
        }
        if any(refused.values()):
            options = ", ".join(option for option, given in refused.items() if given)
            raise ValueError(f"{options} cannot be used with a loss of tauten: leave it out")
        args.tauten_loss = repr(self.loss_fn)
        self.args, self.batches.number = args, args.accum_freq
        return args

    def create_loss(self, args: Any) -> nn.Module:
        """Return the loss in the interface of open_clip's."""
        return ControlledClipLoss(self.loss_fn, self.batches)

    def AdamW(self, groups: list[dict[str, Any]], **options: Any) -> torch.optim.Optimizer:  # noqa: N802 (torch's name)
        """Return open_clip's optimiser, which carries the loss with it."""
        self.loss_fn.to(self.args.device)
        learned = [p for p in self.loss_fn.parameters() if p.requires_grad]
        if learned:
            groups = [*groups, {"params": learned, "weight_decay": 0.0}]
        # open_clip goes backward once for each accumulated batch
        self.hooks = [p.register_hook(lambda part: part / self.args.accum_freq) for p in learned]
        optimizer: torch.optim.Optimizer = self._optim.AdamW(groups, **options)
        optimizer.register_step_post_hook(self._stepped)
        optimizer.register_state_dict_post_hook(self._saved)
        optimizer.register_load_state_dict_pre_hook(self._loaded)
        return optimizer

    def train_one_epoch(
        self, model: Any, data: Any, loss: Any, epoch: int, *rest: Any, tb_writer: Any = None
    ) -> Any:
        """Train an epoch, and note where its numbers are written."""
        loader = data["train"].dataloader
        self.steps_before = epoch * (loader.num_batches // self.args.accum_freq)
        self.writer, self.batches.count = tb_writer, 0
        return self._train(model, data, loss, epoch, *rest, tb_writer=tb_writer)

    def _stepped(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        step = self.batches.count // self.args.accum_freq - 1  # of the epoch, as open_clip counts
        if step % self.args.log_every_n_steps == 0:
            self._report(self.probe.summary(), self.steps_before + step)
        self.loss_fn.step()

    def _saved(self, optimizer: Any, state: dict[str, Any]) -> dict[str, Any]:
        return {**state, "tauten_loss": self.loss_fn.state_dict()}

    def _loaded(self, optimizer: Any, state: dict[str, Any]) -> dict[str, Any]:
        if "tauten_loss" not in state:
            raise ValueError(
                "the checkpoint has no state of a loss of tauten: train on from its weights with "
                "--pretrained instead of --resume"
            )
        self.loss_fn.load_state_dict(state["tauten_loss"])
        return {name: value for name, value in state.items() if name != "tauten_loss"}

    def _report(self, values: dict[str, float], step: int) -> None:
        if not self.module.is_master(self.args):
            return
        shown = {name: value for name, value in values.items() if name.count("/") == 1}
        logging.info(" ".join(f"{name}: {value:#.5g}" for name, value in shown.items()))
        named = {f"train/{name}": value for name, value in values.items()}
        if self.writer is not None:
            for name, value in named.items():
                self.writer.add_scalar(name, value, step)
        if self.args.wandb:
            self.module.wandb.log({**named, "step": step}, step=step)


@contextmanager
def _exchanged(training: _Training, data: Any) -> Iterator[None]:
    """Let open_clip's training find the parts of this one in the place of its own."""
    module = training.module
    names: dict[tuple[Any, str], Any] = {
        (module, "parse_args"): training.parse_args,
        (module, "create_loss"): training.create_loss,
        (module, "train_one_epoch"): training.train_one_epoch,
        (module, "optim"): training,
        (data, "get_wds_dataset"): with_positions(data, "wds", training.batches),
        (data, "get_csv_dataset"): with_positions(data, "csv", training.batches),
    }
    before = {(owner, name): getattr(owner, name) for owner, name in names}
    try:
        for (owner, name), value in names.items():
            setattr(owner, name, value)
        yield
    finally:
        for hook in training.hooks:
            hook.remove()
        for (owner, name), value in before.items():
            setattr(owner, name, value)


def _command() -> None:
    program = "python -m tauten.integrations.open_clip"
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(f"usage: {program} LOSS.py [options of open_clip_train]")
    path, *options = sys.argv[1:]
    if not Path(path).is_file():
        sys.exit(f"{path}: no such file; it sets loss_fn, and may set labels")
    names = runpy.run_path(path)
    loss_fn = names.get("loss_fn")
    if not isinstance(loss_fn, ContrastiveLoss):
        sys.exit(f"{path} sets no loss_fn, or one that is not a loss of tauten")
    main(options, loss_fn, names.get("labels"))


if __name__ == "__main__":
    _command()
