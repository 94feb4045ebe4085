"""Results of a finished run of two views: classification metrics with their protocol."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tauten.data.readers import read
from tauten.evaluation.temperatures import TauProbe
from tauten.files import write_npz
from tauten.models import ViewEncoder
from tauten.outcome import of_views
from tauten.training import checkpoints, processes
from tauten.training.loop.monitor import Clock
from tauten.training.run.names import FEATURES, IMAGES, TRAIN_IMAGES
from tauten.training.run.places import shown
from tauten.training.stores.classes import Classes
from tauten.training.stores.named import is_named
from tauten.training.stores.pair_data import PairData, Split
from tauten.training.tasks.instances import instances, shares
from tauten.training.tasks.loading import built, described, load_classes
from tauten.training.tasks.protocol import cautions
from tauten.training.tasks.results import LARGEST_COPY, Tested, write_record
from tauten.training.tasks.task import Training
from tauten.training.tasks.view_features import Sides, encode_features


def load_view_encoder(checkpoint: Path) -> tuple[ViewEncoder, Classes | None]:
    """Load the encoder and training counts of a checkpoint of two views; None without classes.

    Raises:
        ValueError: the folder is not a whole checkpoint of two views.
    """
    description = described(checkpoint)
    classes = load_classes(checkpoint)
    if description.get("kind") != "views":
        raise ValueError(f"{checkpoint} was not trained on two views")
    return built(checkpoint, lambda: ViewEncoder.from_description(description)), classes


def write_results(training: Training, probe: TauProbe, clock: Clock) -> None:
    """Evaluate the best checkpoint on val and test and write the run's files, results.json last."""
    config, splits = training.config, training.splits
    best = processes.first(lambda: checkpoints.best_of(training.folder.checkpoints))
    with processes.together():
        encoder, classes = load_view_encoder(best)
    x = {
        name: encode_features(encoder, data, config.evaluation.batch_size, config.progress)
        for name, data in splits.items()
    }
    right: dict[str, Any] = {}
    if classes is None:
        right = {
            name: instances(encoder, splits[name], config.evaluation.batch_size, config.progress)
            for name in ("test", "val")
        }
    with processes.together():
        if x["train"] is not None:
            training = dataclasses.replace(training, classes=classes)
            _write(training, probe, clock, x, right, best)


def _write(
    training: Training,
    probe: TauProbe,
    clock: Clock,
    x: Mapping[Split, Any],
    right: Mapping[str, Any],
    best: Path,
) -> None:
    config, splits, classes = training.config, training.splits, training.classes
    settings, train = config.evaluation, splits["train"]
    if classes is None:
        metrics = {name: shares(right[name], bool(settings.bootstrap)) for name in right}
    else:
        sides = {
            name: Sides.of(x["train"], train, x[name], splits[name], classes)
            for name in ("test", "val")
        }
        right = {"test": sides["test"].right(settings.probe), "val": sides["val"].right("none")}
        metrics = {name: sides[name].accuracies(right[name], settings.bootstrap) for name in right}
    features = _features(x, splits, classes)
    write_npz(training.folder.path / FEATURES, features)
    pictures = {IMAGES: splits["test"].images[:], TRAIN_IMAGES: train.images[:]}
    small = sum(part.nbytes for part in pictures.values()) <= LARGEST_COPY
    outcome = of_views(right["test"], features["test_labels"], features["test_groups"])
    tested = Tested(metrics, outcome, protocol(training))
    write_record(training, probe, clock, best, tested, pictures if small else {})


def protocol(training: Training) -> dict[str, str]:
    """Describe how the numbers came about."""
    config, splits = training.config, training.splits
    evaluation, data = config.evaluation, config.data
    sizes = ", ".join(f"{name} {len(part)}" for name, part in splits.items())
    chosen = (
        "the last checkpoint"
        if evaluation.metric == "last"
        else f"checkpoint with the highest {evaluation.metric} on the validation split, of one "
        f"every {evaluation.every:g} epochs"
    )
    lines = {
        "data": f"{_family(data.source)}: {sizes} images",
        "features": "of the tower, before the projector, scaled to length 1",
        "neighbours": "majority vote of the k nearest training images; class_mean: mean of the "
        "classes' own accuracies",
        "selection": f"{chosen}; the test split was used once, after it",
        "intervals": f"95 % percentile bootstrap over the images of each class, "
        f"{evaluation.bootstrap} replicates; they do not cover the spread over seeds",
        "groups": "thirds of the classes by training images"
        if data.groups == "thirds"
        else f"by the class's number of training images: head >= {data.head}, tail < {data.tail}",
    }
    if data.label is None and data.source != "emoji_lt":
        del lines["neighbours"], lines["groups"]
        lines["instances"] = (
            "instance@K: whether the second random view of an image is among the K nearest to its "
            "first view, of those of the whole split, by features; ties count against it"
        )
        lines["intervals"] = "95 % Wilson intervals; they do not cover the spread over seeds"
        return lines | cautions(data, runlocal=config.runlocal)
    lines |= cautions(data, runlocal=config.runlocal)
    if evaluation.probe != "none":
        kind = "LinearSVC" if evaluation.probe == "svm" else "softmax regression by SGD"
        lines["probes"] = (
            f"{kind}; linear_lt on the training split, linear_fs on as many images of each class "
            "as its rarest has"
        )
    return lines


def _family(source: str) -> str:
    """Return the data set, with the variant of its splits where it has one."""
    if not is_named(source):
        return shown(source)
    name, _, root = source.partition(":")
    return f"{name} ({read(name, root).variant})"


def _features(
    x: Mapping[Split, Any], splits: Mapping[Split, PairData], classes: Classes | None
) -> dict[str, Any]:
    """Return features, classes and groups of the training and the test split."""
    arrays: dict[str, Any] = {}
    for name in ("train", "test"):
        labels = splits[name].labels or [""] * len(splits[name])
        arrays[name] = x[name].numpy()
        arrays[f"{name}_labels"] = np.array(labels, dtype=np.str_)
        groups = labels if classes is None else classes.groups(labels)
        arrays[f"{name}_groups"] = np.array(groups, dtype=np.str_)
    return arrays
