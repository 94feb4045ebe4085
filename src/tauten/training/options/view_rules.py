"""Rules for a configuration of two-view training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tauten.outcome.metrics import VIEWS
from tauten.training.specs import known_losses

if TYPE_CHECKING:
    from tauten.training.options.config import Config

#: what the best checkpoint may be chosen by
METRICS = ("last", *VIEWS.names)


def check_views(config: Config) -> None:
    """Refuse what has no meaning for two views of one modality, or only for them.

    Raises:
        ValueError: naming the field, its value and what it may be.
    """
    if config.task != "views":
        return
    if not config.loss.views:
        families = [name for name, known in known_losses().items() if known.views]
        raise ValueError(f"task=views has the families {', '.join(families)}, got {config.family}")
    if config.terms.weights():
        name, weight = next(iter(config.terms.weights().items()))
        raise ValueError(f"terms are added for task=pairs: leave out terms.{name}={weight:g}")
    metric = config.evaluation.metric
    if metric not in METRICS:
        raise ValueError(
            f"evaluation.metric={metric!r} is none of task=views: choose one of "
            f"{', '.join(METRICS)}"
        )
    if config.optim.chunk is not None:
        raise ValueError(
            "optim.chunk encodes a batch in parts, but the projector of task=views normalises over "
            f"the batch: leave it out, got {config.optim.chunk}"
        )
    if config.data.frames:
        raise ValueError(f"task=views takes images, got data.frames={config.data.frames}")
    if config.data.label is None and config.data.source not in ("", "emoji_lt"):
        if metric != "last":
            raise ValueError(
                "task=views is judged by classification: set data.label to the class column of "
                f"{config.data.source}, or train on pictures without classes with "
                "evaluation.metric=last"
            )
        if config.data.clusters:
            raise ValueError(
                f"data.clusters={config.data.clusters} are of captions, which task=views does not "
                "read: leave it out, or set data.label to a class column"
            )
