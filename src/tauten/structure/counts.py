"""How many samples share a sample's class."""

from collections import Counter
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor


def class_counts(labels: Sequence[Hashable], reference: Sequence[Hashable] | None = None) -> Tensor:
    """Count, for each sample, the samples of its class.

    Args:
        labels: (N,) class of each sample: a name, an id, or a tuple such as (verb, noun).
        reference: classes of the samples to count, usually those of the training split when
            `labels` belong to another one. Default: `labels` themselves, so that every count is
            at least 1.

    Returns:
        (N,) int64 counts. A class that `reference` lacks has count 0.

    Raises:
        ValueError: no labels, or a label that is None.
    """
    counts = Counter(
        _checked(labels, "labels") if reference is None else _checked(reference, "reference")
    )
    return torch.tensor([counts[label] for label in _checked(labels, "labels")], dtype=torch.int64)


def _checked(labels: Sequence[Hashable], name: str) -> Sequence[Hashable]:
    if len(labels) == 0:
        raise ValueError(f"{name} is empty: there is no class to count")
    missing = [position for position, label in enumerate(labels) if label is None]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(labels)} {name} are None, first at position {missing[0]}: "
            "give every sample a class or drop it"
        )
    return labels
