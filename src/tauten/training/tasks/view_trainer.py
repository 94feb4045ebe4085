"""Two-view training on the trainer of pairs: another batch, another evaluation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tauten.models.batch_norm import with_whole_batches
from tauten.models.rebuild import check_rebuilds, check_repeats
from tauten.training import processes
from tauten.training.build import build_loss, build_view_encoder
from tauten.training.initial import Initial
from tauten.training.loop.compute import compiled, fitted
from tauten.training.loop.steps import Steps
from tauten.training.loop.trainer import ContrastiveTrainer
from tauten.training.options.config import Config
from tauten.training.stores.splits import Classes, PairData
from tauten.training.tasks.instances import instances, shares
from tauten.training.tasks.view_features import Sides, encode_features
from tauten.training.tasks.view_module import ViewModule, ViewStore


class ViewTrainer(ContrastiveTrainer):
    """A trainer of an encoder on two views, validated by nearest neighbours of its features.

    Without classes it is validated by whether it finds the other view of each picture.
    """

    contrastive: Any
    store: Any

    def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], *_: Any, **__: Any) -> Any:
        """Make the batch and return its loss."""
        index = inputs["index"]
        self.last_batch = {"index": index}
        batch = self.store.batch(index.cpu())
        return model(**{name: part.to(self.args.device) for name, part in batch.items()})["loss"]

    def _validate(self) -> dict[str, float]:
        """Return neighbours of the validation split in the training split."""
        settings = self.config.evaluation
        if self.classes is None:
            right = instances(
                *(self.contrastive.encoder, self.validation, settings.batch_size),
                self.config.progress,
            )
            return processes.first(lambda: self._of_instances(right))
        splits = (self.store.data, self.validation)
        x = [
            encode_features(
                self.contrastive.encoder, data, settings.batch_size, self.config.progress
            )
            for data in splits
        ]
        return processes.first(lambda: self._scores(x, splits))

    def _of_instances(self, right: dict[str, Tensor] | None) -> dict[str, float]:
        assert right is not None
        return shares(right, intervals=False) | {"last": float(self.state.global_step)}

    def _scores(
        self, x: list[Tensor | None], splits: tuple[PairData, PairData]
    ) -> dict[str, float]:
        assert self.classes is not None
        known, found = x
        assert known is not None
        assert found is not None
        sides = Sides.of(known, splits[0], found, splits[1], self.classes)
        metrics = sides.accuracies(sides.right("none"), bootstrap=0)
        return metrics | {"last": float(self.state.global_step)}


def build_views(
    config: Config,
    train: PairData,
    classes: Classes | None,
    steps: Steps,
    start: Initial | None = None,
) -> tuple[ViewModule, None, ViewStore]:
    """Build the module and the batches of two-view training; there is no tokenizer.

    Raises:
        ValueError: images that the tower cannot take, or see
            :func:`tauten.training.build.build_loss`.
    """
    counts = classes.per_sample(train.labels) if classes and train.labels else None
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        encoder = build_view_encoder(config.model)
        if start is not None:
            encoder = start.views(config, encoder)
        loss_fn = build_loss(
            config, len(train), counts, steps.total, train.labels, per_epoch=steps.per_epoch
        )
        if start is not None:
            start.loss(config, loss_fn)
        check_rebuilds(encoder.tower)
        with torch.no_grad():
            check_repeats(encoder.tower, *(encoder.eval()(train.images[:1]) for _ in range(2)))
    fitted(encoder, config)
    if processes.count() > 1:
        with_whole_batches(encoder)
    compiled(encoder, config)
    module = ViewModule(encoder.train(), loss_fn, *config.loss.keys_kept)
    return module, None, ViewStore(train)
