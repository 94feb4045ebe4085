"""Linear probes on frozen features, as the long-tail papers run them.

==============  ============================  ==========================================
protocol        probe                         training features
==============  ============================  ==========================================
TS "LT"         :func:`svm_probe`             the whole long-tailed split
TS "FS"         :func:`svm_probe`             :func:`few_shot` of it, rarest class's size
SDCLR           :func:`sgd_probe`             the balanced full split, lr 30, 30 epochs
iSogCLR         :func:`sgd_probe`             the split, lr 30, 100 epochs, ×0.2 at 40, 60, 80
==============  ============================  ==========================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tauten.evaluation.checks import integers, positive, whole
from tauten.evaluation.classification import accuracy
from tauten.evaluation.correspondence import unit
from tauten.evaluation.neighbours import classes, features


def few_shot(labels: Any, per_class: int | None = None, seed: int = 42) -> Tensor:
    """Return positions of a balanced subset.

    Args:
        labels: (N,) class of each sample.
        per_class: samples of each class; by default the size of the rarest one.
        seed: seed of the draw.

    Returns:
        (C · per_class,) long, ascending.

    Raises:
        ValueError: a class has fewer samples than asked for.
    """
    of = integers(labels, "labels")
    if of.ndim != 1 or not len(of) or int(of.min()) < 0:
        raise ValueError(
            f"labels must be classes from 0 on, (N,) with N >= 1, got shape {tuple(of.shape)}"
        )
    sizes = torch.bincount(of)
    smallest = int(sizes[sizes > 0].min())
    wanted = smallest if per_class is None else whole(per_class, "per_class")
    if not 1 <= wanted <= smallest:
        raise ValueError(f"per_class must be within 1..{smallest}, the rarest class, got {wanted}")
    generator = torch.Generator().manual_seed(seed)
    chosen = []
    for c in of.unique().tolist():
        rows = (of == c).nonzero().squeeze(1)
        chosen.append(rows[torch.randperm(len(rows), generator=generator)[:wanted]])
    return torch.cat(chosen).sort().values


def svm_probe(
    train: Any,
    train_labels: Any,
    x: Any,
    labels: Any,
    groups: Sequence[str] | None = None,
    *,
    name: str = "svm",
    bootstrap: int = 1000,
    seed: int = 42,
) -> dict[str, float]:
    """Train a linear support vector machine on unit vectors: ``LinearSVC`` with its defaults.

    Args:
        train: (N, d) frozen features.
        train_labels: (N,) their classes.
        x: (Q, d) features to classify.
        labels: (Q,) their classes.
        groups: group of each class.
        name: what the keys begin with.
        bootstrap: replicates of the intervals.
        seed: ``random_state`` of the solver.

    Returns:
        See :func:`tauten.evaluation.accuracy`; TS reports the plain ``NAME``.

    Raises:
        ValueError: shapes or values that do not fit.
        ImportError: scikit-learn is missing.
    """
    of_x = classes(labels, features(x, "x"), "x")
    right = svm_predict(train, train_labels, x, seed=seed) == of_x
    return accuracy(right, of_x, groups, name=name, bootstrap=bootstrap)


def svm_predict(train: Any, train_labels: Any, x: Any, *, seed: int = 42) -> Tensor:
    """Return the (Q,) long classes that :func:`svm_probe` predicts, by the same arguments."""
    try:
        from sklearn.svm import LinearSVC
    except ImportError as error:
        raise ImportError("svm_probe needs scikit-learn: pip install scikit-learn") from error
    known, of_known, queries = _checked(train, train_labels, x)
    if len(of_known.unique()) < 2:
        raise ValueError("svm_probe needs samples of two or more classes, all are of one")
    machine = LinearSVC(random_state=seed)
    machine.fit(known.numpy(), of_known.numpy())
    return torch.as_tensor(machine.predict(queries.numpy()))


def sgd_probe(
    train: Any,
    train_labels: Any,
    x: Any,
    labels: Any,
    groups: Sequence[str] | None = None,
    *,
    lr: float = 30.0,
    epochs: int = 100,
    milestones: Sequence[int] = (40, 60, 80),
    factor: float = 0.2,
    batch_size: int = 128,
    name: str = "linear",
    bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, float]:
    """Train softmax regression on unit vectors, by SGD with momentum 0.9 and no weight decay.

    The defaults are those of iSogCLR; SDCLR has 30 epochs with ×0.1 at 10 and 20 on the balanced
    split, and 100 with ×0.1 at 40 and 60 on a few-shot split.

    Args:
        train: (N, d) frozen features.
        train_labels: (N,) their classes.
        x: (Q, d) features to classify.
        labels: (Q,) their classes.
        groups: group of each class.
        lr: first learning rate.
        epochs: passes over the training features.
        milestones: epochs at which the rate is multiplied by ``factor``.
        factor: see above.
        batch_size: samples of a step.
        name: what the keys begin with.
        bootstrap: replicates of the intervals.
        seed: seed of the order of the samples.

    Returns:
        See :func:`tauten.evaluation.accuracy`.

    Raises:
        ValueError: shapes or values that do not fit.
    """
    of_x = classes(labels, features(x, "x"), "x")
    predicted = sgd_predict(
        train,
        train_labels,
        x,
        lr=lr,
        epochs=epochs,
        milestones=milestones,
        factor=factor,
        batch_size=batch_size,
        seed=seed,
        least=int(of_x.max()) + 1,
    )
    return accuracy(predicted == of_x, of_x, groups, name=name, bootstrap=bootstrap)


def sgd_predict(
    train: Any,
    train_labels: Any,
    x: Any,
    *,
    lr: float = 30.0,
    epochs: int = 100,
    milestones: Sequence[int] = (40, 60, 80),
    factor: float = 0.2,
    batch_size: int = 128,
    seed: int = 0,
    least: int = 1,
) -> Tensor:
    """Return the (Q,) long classes that :func:`sgd_probe` predicts, by the same arguments.

    Args:
        least: outputs that the layer has at least, also where fewer classes are in training.
            :func:`sgd_probe` gives it those of its test labels.
    """
    known, of_known, queries = _checked(train, train_labels, x)
    positive(lr, "lr")
    positive(factor, "factor")
    whole(epochs, "epochs", 0)
    whole(batch_size, "batch_size", 1)
    generator = torch.Generator().manual_seed(seed)
    number = max(int(of_known.max()) + 1, least)
    layer = nn.utils.skip_init(nn.Linear, known.shape[1], number, dtype=known.dtype)
    nn.init.normal_(layer.weight, std=0.01, generator=generator)
    nn.init.zeros_(layer.bias)
    optimizer = torch.optim.SGD(layer.parameters(), lr=lr, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(milestones), factor)
    with torch.enable_grad():
        for _ in range(epochs):
            for rows in torch.randperm(len(known), generator=generator).split(batch_size):
                optimizer.zero_grad()
                F.cross_entropy(layer(known[rows]), of_known[rows]).backward()
                optimizer.step()
            scheduler.step()
    with torch.no_grad():
        predicted: Tensor = layer(queries).argmax(dim=1)
    return predicted


def _checked(train: Any, train_labels: Any, x: Any) -> tuple[Tensor, Tensor, Tensor]:
    known, queries = features(train, "train"), features(x, "x")
    if known.shape[1] != queries.shape[1]:
        raise ValueError(f"train has width {known.shape[1]} but x has width {queries.shape[1]}")
    of_known = classes(train_labels, known, "train")
    return unit(known), of_known, unit(queries)
