"""The interface of a task: its batches, its module, its validation, its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from tauten.spec import Spec

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from tauten.evaluation.temperatures import TauProbe
    from tauten.losses import ContrastiveLoss
    from tauten.models import Tokenizer
    from tauten.training.initial import Initial
    from tauten.training.loop.monitor import Clock
    from tauten.training.loop.steps import Steps
    from tauten.training.options.config import Config, DataConfig, EvaluationConfig
    from tauten.training.run.run_folder import RunFolder
    from tauten.training.stores.classes import Classes
    from tauten.training.stores.pair_data import PairData, Split
    from tauten.training.stores.store import Store
    from tauten.training.tasks.followed import FollowedModule


@dataclass(frozen=True)
class Training:
    """A training, as its task knows it.

    Attributes:
        config: configuration of the run.
        folder: where it writes.
        splits: train, val and test.
        classes: training counts; None where the data have no classes.
        steps: of the training and between evaluations.
    """

    config: Config
    folder: RunFolder
    splits: Mapping[Split, PairData]
    classes: Classes | None
    steps: Steps


@dataclass(frozen=True)
class Built:
    """Parts of a training that its task builds.

    Attributes:
        module: encoder and loss; ``module(**batch)`` is ``{"loss": scalar}``.
        store: gives batches of the training split, whose keys are the arguments of the module.
        tokenizer: is saved with each checkpoint; None where there are no texts.
    """

    module: FollowedModule
    store: Store
    tokenizer: Tokenizer | None = None


@dataclass(frozen=True)
class Loaded:
    """A trained encoder of a checkpoint, for evaluation.

    Attributes:
        encoder: with its weights.
        tokenizer: None where there are no texts.
        classes: training counts; None where the data had no classes.
    """

    encoder: Any
    tokenizer: Tokenizer | None
    classes: Classes | None


class Task(Spec):
    """A way to train: what a batch becomes, how it is validated, what is written at the end.

    A subclass with a ``kind`` is known by that name as ``task=KIND``, also one of a plugin. What it
    needs of torch and transformers it imports inside its methods, for the command line reads it.
    """

    known: ClassVar[dict[str, Any]] = {}
    #: whether the loss compares samples of one modality, which need classes and no captions
    one_sided: ClassVar[bool] = False
    #: splits by which another one is judged
    judged_by: ClassVar[tuple[Split, ...]] = ()
    #: the metric of the validation that the progress bar shows; None for that of the selection
    watched: ClassVar[str | None] = None

    @property
    def form(self) -> str:
        """ "views" or "pairs": the task of the package whose options it takes."""
        return "views" if self.one_sided else "pairs"

    def check(self, config: Config) -> None:
        """Refuse options that mean nothing to the task, before data are read.

        Raises:
            ValueError: naming the option, its value and what it may be.
        """

    def selectable(self, validation: PairData, classes: Classes | None) -> Sequence[str]:
        """Return the metrics by which the best checkpoint may be chosen; higher is better."""
        raise NotImplementedError

    def build(self, training: Training, start: Initial | None) -> Built:
        """Return module, batches and tokenizer of a training.

        Args:
            training: whose splits are there, and whose folder is not written to.
            start: a run whose weights it begins with; None for none.

        Raises:
            ValueError: data or options that cannot be trained on.
        """
        raise NotImplementedError

    def module(self, config: Config, encoder: Any, loss_fn: ContrastiveLoss) -> FollowedModule:
        """Return an encoder and a loss as the module that is trained."""
        raise NotImplementedError

    def store(
        self,
        train: PairData,
        tokenizer: Tokenizer | None,
        config: DataConfig,
        captions: Tensor | None = None,
    ) -> Store:
        """Return the batches of a training split.

        Args:
            train: the split.
            tokenizer: texts to ids; None where there are no texts.
            config: of the data.
            captions: see :func:`tauten.training.stores.pairs.caption_counts`.
        """
        raise NotImplementedError

    def validate(self, training: Training, built: Built, step: int) -> dict[str, float]:
        """Return the metrics of the validation split at a step; all processes call, and have it."""
        raise NotImplementedError

    def write(self, training: Training, probe: TauProbe, clock: Clock) -> None:
        """Evaluate the best checkpoint on val and test and write the run's files, results last."""
        raise NotImplementedError

    def load(self, checkpoint: Path) -> Loaded:
        """Return the encoder of a whole checkpoint, for evaluation.

        Raises:
            ValueError: the folder is no whole checkpoint of this task.
        """
        raise NotImplementedError

    def check_other_data(self) -> None:
        """Refuse data other than the run's own, where they cannot be evaluated."""

    def evaluate(
        self,
        loaded: Loaded,
        splits: Mapping[Split, PairData],
        split: Split,
        settings: EvaluationConfig,
        progress: bool,
    ) -> dict[str, float]:
        """Return the metrics of one split, with intervals of ``settings.bootstrap`` replicates.

        Args:
            loaded: of :meth:`load`.
            splits: the one that is evaluated, and those of ``judged_by``.
            split: its name.
            settings: of the evaluation.
            progress: show bars for large data.
        """
        raise NotImplementedError
