"""The task of views: two random views of each image, judged by classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tauten.outcome.metrics import VIEWS
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
    from tauten.training.tasks.view_module import ViewModule

#: what the best checkpoint may be chosen by
METRICS = ("last", *VIEWS.names)


class Views(Task):
    """Two random views of each image, of one modality."""

    kind = "views"
    one_sided = True
    judged_by = ("train",)

    def check(self, config: Config) -> None:
        """Refuse what has no meaning for two views of one modality."""
        from tauten.training.options.ranges import check_rules
        from tauten.training.specs import known_losses

        data, metric = config.data, config.evaluation.metric
        families = [name for name, known in known_losses().items() if known.views]
        terms = [f"terms.{name}={weight:g}" for name, weight in config.terms.weights().items()]
        unlabelled = data.label is None and data.source not in ("", "emoji_lt")
        check_rules(
            (
                not config.loss.views,
                f"task=views has the families {', '.join(families)}, got {config.family}",
            ),
            (bool(terms), f"terms are added for task=pairs: leave out {', '.join(terms[:1])}"),
            (
                metric not in METRICS,
                f"evaluation.metric={metric!r} is none of task=views: choose one of "
                f"{', '.join(METRICS)}",
            ),
            (
                config.optim.chunk is not None,
                "optim.chunk encodes a batch in parts, but the projector of task=views normalises "
                f"over the batch: leave it out, got {config.optim.chunk}",
            ),
            (
                config.model.freeze != "none",
                f"model.freeze={config.model.freeze}: two views train the image tower alone; leave "
                "it out",
            ),
            (data.frames > 0, f"task=views takes images, got data.frames={data.frames}"),
            (
                unlabelled and metric != "last",
                "task=views is judged by classification: set data.label to the class column of "
                f"{data.source}, or train on pictures without classes with "
                "evaluation.metric=last",
            ),
            (
                unlabelled and data.clusters > 0,
                f"data.clusters={data.clusters} are of captions, which task=views does not read: "
                "leave it out, or set data.label to a class column",
            ),
        )

    def selectable(self, validation: PairData, classes: Classes | None) -> Sequence[str]:
        """Return the metrics of neighbours, and "last" for the last checkpoint."""
        return METRICS

    def build(self, training: Training, start: Initial | None) -> Built:
        """Return encoder and loss as one module, and the batches; there is no tokenizer."""
        from tauten.training.tasks.view_parts import build

        return build(self, training, start)

    def module(self, config: Config, encoder: Any, loss_fn: ContrastiveLoss) -> ViewModule:
        """Return the encoder and the loss as one module."""
        from tauten.training.tasks.view_module import ViewModule

        return ViewModule(encoder, loss_fn, *config.loss.keys_kept)

    def store(
        self,
        train: PairData,
        tokenizer: Tokenizer | None,
        config: DataConfig,
        captions: Tensor | None = None,
    ) -> Store:
        """Return batches of images."""
        from tauten.training.stores.pictures import ViewStore

        return ViewStore(train, config.workers)

    def validate(self, training: Training, built: Built, step: int) -> dict[str, float]:
        """Return how well neighbours in the training split classify the validation split.

        Without classes it is whether the other view of each picture is found.
        """
        from tauten.training.tasks.view_parts import validate

        return validate(training, built.module.encoder, step)

    def write(self, training: Training, probe: TauProbe, clock: Clock) -> None:
        """Evaluate the best checkpoint and write metrics, outcome, features and pictures."""
        from tauten.training.tasks.view_results import write_results

        write_results(training, probe, clock)

    def load(self, checkpoint: Path) -> Loaded:
        """Return the encoder of a checkpoint of two views."""
        from tauten.training.tasks.view_results import load_view_encoder

        encoder, classes = load_view_encoder(checkpoint)
        return Loaded(encoder, None, classes)

    def check_other_data(self) -> None:
        """Refuse other data, whose neighbours in the training split mean nothing."""
        raise ValueError("a run of two views is evaluated on its own data: leave data out")

    def evaluate(
        self,
        loaded: Loaded,
        splits: Mapping[Split, PairData],
        split: Split,
        settings: EvaluationConfig,
        progress: bool,
    ) -> dict[str, float]:
        """Return the accuracies of neighbours in the training split, and of probes.

        Without classes it is what :func:`tauten.training.tasks.instances.instances` finds.
        """
        from tauten.training.tasks.instances import instances, shares
        from tauten.training.tasks.view_features import Sides, encode_features

        if loaded.classes is None:
            right = instances(
                *(loaded.encoder, splits[split], settings.batch_size, progress), together=False
            )
            assert right is not None
            return shares(right, bool(settings.bootstrap))
        x = {
            name: encode_features(
                loaded.encoder, splits[name], settings.batch_size, progress, together=False
            )
            for name in {"train", split}
        }
        known, judged = x["train"], x[split]
        assert known is not None
        assert judged is not None
        sides = Sides.of(known, splits["train"], judged, splits[split], loaded.classes)
        return sides.accuracies(sides.right(settings.probe), settings.bootstrap)
