"""Counts of the samples that share a sample's class."""

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor


def class_counts(labels: Sequence[Hashable], reference: Sequence[Hashable] | None = None) -> Tensor:
    """Return count, for each sample, the samples of its class.

    Args:
        labels: (N,) class of each sample: a name, an id, or a tuple such as (verb, noun); a list,
            an array or a tensor.
        reference: classes of the samples to count, usually those of the training split when
            `labels` belong to another one. Default: `labels` themselves, so that every count is
            at least 1.

    Returns:
        (N,) int64 counts. A class that `reference` lacks has count 0.

    Raises:
        ValueError: no labels, or a label that is None or NaN.
    """
    known = _checked(labels, "labels")
    counts = Counter(known if reference is None else _checked(reference, "reference"))
    return torch.tensor([counts[label] for label in known], dtype=torch.int64)


def _checked(labels: Sequence[Hashable], name: str) -> list[Any]:
    if isinstance(labels, str) or not hasattr(labels, "__len__"):
        raise ValueError(f"{name} must be a list of classes, one for each sample, not {labels!r}")
    if getattr(labels, "ndim", 1) != 1:
        shape = tuple(labels.shape)  # type: ignore[attr-defined]
        raise ValueError(f"{name} must be (N,), one class for each sample, not {shape}")
    # a tensor is hashed by its identity: what is counted is the number in it
    names = labels.tolist() if hasattr(labels, "tolist") else list(labels)
    names = [label.item() if isinstance(label, Tensor) else label for label in names]
    if not names:
        raise ValueError(f"{name} is empty: there is no class to count")
    gaps = [position for position, label in enumerate(names) if label is None or label != label]
    if gaps:
        raise ValueError(
            f"{len(gaps)} of {len(names)} {name} are None or NaN, first at position "
            f"{gaps[0]}: give every sample a class or drop it"
        )
    return names
