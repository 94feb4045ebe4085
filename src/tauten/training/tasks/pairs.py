"""The task of pairs: images and texts, validated by retrieval both ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tauten.training.tasks.task import Built, Loaded, Task, Training

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from tauten.evaluation.temperatures import TauProbe
    from tauten.losses import ContrastiveLoss
    from tauten.models import Tokenizer
    from tauten.training.initial import Initial
    from tauten.training.loop.monitor import Clock
    from tauten.training.options.config import Config, DataConfig, EvaluationConfig
    from tauten.training.stores.classes import Classes
    from tauten.training.stores.pair_data import PairData, Split
    from tauten.training.stores.store import Store
    from tauten.training.tasks.module import ContrastiveModule


class Pairs(Task):
    """Images and texts that belong together."""

    kind = "pairs"
    watched = "mean_recall"

    def selectable(self, validation: PairData, classes: Classes | None) -> Sequence[str]:
        """Return the metrics of retrieval, and of classes and relevancies where there are any."""
        from tauten.training.tasks.selectable import selectable

        return selectable(validation, classes)

    def build(self, training: Training, start: Initial | None) -> Built:
        """Return towers and loss as one module, the batches, and the tokenizer of the texts."""
        from tauten.training.tasks.pair_parts import build

        return build(self, training, start)

    def module(self, config: Config, encoder: Any, loss_fn: ContrastiveLoss) -> ContrastiveModule:
        """Return both towers and the loss as one module."""
        return self.module_type()(
            encoder,
            loss_fn,
            config.loss.mask_duplicates,
            config.optim.chunk,
            config.loss.relevance == "positives",
            *config.loss.keys_kept,
            terms=config.terms.build(),
            teacher=config.loss.teacher,
            mixed=config.loss.mixed,
        )

    def module_type(self) -> type[ContrastiveModule]:
        """Return the class of the module, which a task of one's own may change."""
        from tauten.training.tasks.module import ContrastiveModule

        return ContrastiveModule

    def store(
        self,
        train: PairData,
        tokenizer: Tokenizer | None,
        config: DataConfig,
        captions: Tensor | None = None,
    ) -> Store:
        """Return batches of images and texts, from memory, videos or shards."""
        assert tokenizer is not None
        return train.store(tokenizer, config, captions)

    def validate(self, training: Training, built: Built, step: int) -> dict[str, float]:
        """Return retrieval on the validation split."""
        from tauten.training import processes
        from tauten.training.tasks.encode import encode

        assert built.tokenizer is not None
        config = training.config
        encoded = encode(
            built.module.encoder,
            built.tokenizer,
            training.splits["val"],
            training.classes,
            config.evaluation.batch_size,
            config.progress,
            together=True,
        )

        def metrics() -> dict[str, float]:
            assert encoded is not None
            return encoded.retrieval()

        return processes.first(metrics)

    def write(self, training: Training, probe: TauProbe, clock: Clock) -> None:
        """Evaluate the best checkpoint and write metrics, outcome, embeddings and pictures."""
        from tauten.training.tasks.results import write_results

        write_results(training, probe, clock)

    def load(self, checkpoint: Path) -> Loaded:
        """Return the towers of a checkpoint, with their tokenizer."""
        from tauten.training.tasks.loading import load_encoder

        return Loaded(*load_encoder(checkpoint))

    def evaluate(
        self,
        loaded: Loaded,
        splits: Mapping[Split, PairData],
        split: Split,
        settings: EvaluationConfig,
        progress: bool,
    ) -> dict[str, float]:
        """Return retrieval and geometry."""
        from tauten.training.tasks.encode import encode

        assert loaded.tokenizer is not None
        size, data = settings.batch_size, splits[split]
        encoded = encode(loaded.encoder, loaded.tokenizer, data, loaded.classes, size, progress)
        assert encoded is not None
        return encoded.retrieval(settings.bootstrap) | encoded.geometry()
