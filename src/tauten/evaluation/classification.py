"""Accuracy of predicted classes: plain, averaged over classes, by groups of classes.

Shape suffixes: Q samples, C classes, K means, R replicates.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from tauten.evaluation.bootstrap import percentile_interval, resample
from tauten.evaluation.checks import group_names, integers, numbers, whole
from tauten.evaluation.intervals import wilson

#: names of the groups by thirds, from the largest classes to the smallest
THIRDS = ("head", "mid", "tail")


def thirds(counts: Any) -> list[str]:
    """Group of each class by its rank in size, as SDCLR and TS split CIFAR-LT.

    The ⌊C/3⌋ smallest classes are "tail" (minor), the next ⌊C/3⌋ "mid" (moderate), the rest "head"
    (major): 4/3/3 of 10 classes, 34/33/33 of 100. Of classes of one size the later counts as
    smaller.

    Args:
        counts: (C,) training samples of each class.

    Raises:
        ValueError: fewer than three classes, or not one-dimensional.
    """
    size = numbers(counts, "counts")
    if size.ndim != 1 or len(size) < len(THIRDS):
        raise ValueError(f"counts must be (C,) of 3 or more classes, got shape {tuple(size.shape)}")
    share = len(size) // len(THIRDS)
    ranked = torch.argsort(size, descending=True, stable=True).tolist()
    of_rank = ["head"] * (len(size) - 2 * share) + ["mid"] * share + ["tail"] * share
    names = dict(zip(ranked, of_rank, strict=True))
    return [names[c] for c in range(len(size))]


def accuracy(
    correct: Any,
    labels: Any,
    groups: Sequence[str] | None = None,
    *,
    name: str = "accuracy",
    bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, float]:
    """Return shares of samples that are right, with 95 % intervals.

    Keys: ``NAME`` over all samples; ``NAME/class_mean``, the mean of the classes' own accuracies;
    ``NAME/class_mean/GROUP`` of the classes in a group; ``NAME/balancedness``, the standard
    deviation (over all groups, ddof 0) of the groups' means, lower is more balanced;
    ``NAME/n``, the number of samples; ``.../low`` and ``.../high``, percentile bootstrap over the
    samples of each class, classes held fixed. Where all samples of a mean are right, or none,
    the interval is Wilson's.

    Args:
        correct: (Q,) whether each sample's prediction is right.
        labels: (Q,) its class, in 0..C-1; a class without samples is left out of all means.
        groups: name of each class's group, (C,).
        name: what the keys begin with.
        bootstrap: replicates; 0 leaves the intervals out.
        seed: seed of the resampling.

    Raises:
        ValueError: lengths that differ, nothing to score, values that are not right or wrong,
            labels that are no integers or without a group, bootstrap < 0.
    """
    right, of = numbers(correct, "correct").double(), integers(labels, "labels")
    whole(bootstrap, "bootstrap", 0)
    whole(seed, "seed")
    if right.ndim != 1 or right.shape != of.shape or not len(right):
        raise ValueError(
            f"correct and labels must be vectors of one length, not empty, got "
            f"{tuple(right.shape)} and {tuple(of.shape)}"
        )
    if int(of.min()) < 0 or (groups is not None and int(of.max()) >= len(groups)):
        have = "no limit" if groups is None else f"{len(groups)} groups"
        raise ValueError(f"labels span {int(of.min())}..{int(of.max())}, with {have} given")
    if bool(((right != 0) & (right != 1)).any()):
        raise ValueError("correct must be true or false, 1 or 0, for each sample")
    if groups is not None:
        group_names(groups, "groups", "class")
        groups = list(groups)
    size_C = torch.bincount(of)
    keys, weight_KC = _means(size_C, groups, name)
    right_C = [right[of == c] for c in range(len(size_C))]
    of_class_C = torch.stack([scores.mean() if len(scores) else scores.sum() for scores in right_C])
    out = dict(zip(keys, _values(of_class_C[None], weight_KC)[0].tolist(), strict=True))
    out[f"{name}/n"] = float(len(right))
    if bootstrap:
        generator = torch.Generator().manual_seed(seed)
        drawn_RC = torch.stack(
            [_redrawn(scores, bootstrap, generator) for scores in right_C], dim=1
        )
        low, high = percentile_interval(_values(drawn_RC, weight_KC))
        low, high = _with_extremes(of_class_C, size_C, weight_KC, low, high)
        for key, lower, upper in zip(keys, low.tolist(), high.tolist(), strict=True):
            out |= {f"{key}/low": lower, f"{key}/high": upper}
    return out


def _means(size_C: Tensor, groups: Sequence[str] | None, name: str) -> tuple[list[str], Tensor]:
    """Return names of all values, and the weights (K, C) of the classes in those that are means."""
    present = (size_C > 0).double()
    keys = [name, f"{name}/class_mean"]
    rows = [size_C.double() / size_C.sum(), present / present.sum()]
    for group in sorted(set(groups or ())):
        member = torch.tensor([g == group for g in groups or ()][: len(size_C)]) * present
        if member.any():
            keys.append(f"{name}/class_mean/{group}")
            rows.append(member / member.sum())
    if len(rows) > 2:
        keys.append(f"{name}/balancedness")
    return keys, torch.stack(rows)


def _values(of_class_RC: Tensor, weight_KC: Tensor) -> Tensor:
    """Return the means for each row of class accuracies,
    and their spread over groups if there are any.
    """
    means = of_class_RC @ weight_KC.T
    groups = means[:, 2:]
    if not groups.shape[1]:
        return means
    return torch.cat([means, groups.std(dim=1, correction=0, keepdim=True)], dim=1)


def _with_extremes(
    of_class_C: Tensor, size_C: Tensor, weight_KC: Tensor, low: Tensor, high: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the ends with Wilson's for the means in which all samples are right, or none.

    A mean over classes of sizes n_c with weights w_c has the variance of 1/Σ(w_c²/n_c) samples.
    """
    mean_K, means = weight_KC @ of_class_C, len(weight_KC)
    samples_K = 1 / (weight_KC.square() @ (1 / size_C.clamp(min=1).double()))
    extreme_K = (mean_K < 1e-9) | (mean_K > 1 - 1e-9)
    few = wilson(mean_K.round(), samples_K)
    low, high = low.clone(), high.clone()
    low[:means] = torch.where(extreme_K, few[0], low[:means])
    high[:means] = torch.where(extreme_K, few[1], high[:means])
    return low, high


def _redrawn(scores: Tensor, bootstrap: int, generator: torch.Generator) -> Tensor:
    """Return (R,) means of a class's scores, drawn with replacement."""
    if not len(scores):
        return scores.new_zeros(bootstrap)
    parts = resample(len(scores), bootstrap, generator)
    return torch.cat([weight @ scores for weight in parts]) / len(scores)


def class_numbers(
    trained: Iterable[str], *sides: Sequence[str]
) -> tuple[list[str], tuple[Tensor, ...]]:
    """Return the class names as numbers, those of training first, both parts sorted.

    Args:
        trained: names of the classes in training, perhaps several times.
        sides: class of each sample, for any number of sets of samples.

    Returns:
        The names in the order of their numbers; and for each side (N,) long.
    """
    first = set(trained)
    names = [*sorted(first), *sorted({name for side in sides for name in side} - first)]
    number = {name: position for position, name in enumerate(names)}
    return names, tuple(torch.tensor([number[name] for name in side]) for side in sides)
