"""Long-tailed subsets of balanced labelled sets, with the class sizes of the published splits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


def exponential_counts(largest: int, classes: int, ratio: float = 100.0) -> list[int]:
    """Return the class sizes that fall exponentially:
    n_k = int(largest · ratio^(-k / (classes - 1))).

    Cui et al., Class-Balanced Loss, CVPR 2019, with ratio 100. CIFAR-LT comes in two families:

    * 4500 of 10 classes (11,165 samples) and 450 of 100 (9,754): Jiang et al., Self-Damaging
      Contrastive Learning (SDCLR), ICML 2021, and Kukleva et al., Temperature Schedules, ICLR 2023;
      a tenth of the training images is kept for validation first.
    * 5000 of 10 (12,406) and 500 of 100 (10,847): Qiu et al., iSogCLR, ICML 2023.

    Args:
        largest: samples of the first class, at least 1.
        classes: number of classes, at least 2.
        ratio: largest over smallest, at least 1.

    Returns:
        The sizes, from the largest down.

    Raises:
        ValueError: a value out of range, or a smallest class without samples.
    """
    if largest < 1 or classes < 2 or not ratio >= 1:
        raise ValueError(
            f"need largest >= 1, classes >= 2 and ratio >= 1, got {largest}, {classes} and {ratio}"
        )
    counts = [int(largest * (1 / ratio) ** (k / (classes - 1))) for k in range(classes)]
    if counts[-1] < 1:
        raise ValueError(
            f"the smallest of {classes} classes would be empty: {largest} / {ratio:g} < 1"
        )
    return counts


def pareto_counts(largest: int, smallest: int, classes: int, power: float = 6.0) -> list[int]:
    """Return the class sizes spread as quantiles of a Pareto distribution between two ends.

    With q_k = ((k + ½) / classes)^(-1/power), n_k = round(smallest + (largest - smallest) ·
    (q_k - q_last) / (q_0 - q_last)). Power 6 is that of ImageNet-LT (Liu et al., CVPR 2019: 1280 to
    5 of 1,000 classes). The published sizes were drawn at random: for ImageNet-LT and
    ImageNet100-LT themselves read their list files; this makes sets of the same shape.

    Args:
        largest: samples of the first class.
        smallest: samples of the last class, at least 1.
        classes: number of classes, at least 2.
        power: of the distribution, above 0; a lower power has a heavier tail.

    Returns:
        The sizes, from the largest down.

    Raises:
        ValueError: a value out of range.
    """
    if not 1 <= smallest <= largest or classes < 2 or not power > 0:
        raise ValueError(
            "need 1 <= smallest <= largest, classes >= 2 and power > 0, got "
            f"{smallest}, {largest}, {classes} and {power}"
        )
    quantiles = [((k + 0.5) / classes) ** (-1 / power) for k in range(classes)]
    scale = (largest - smallest) / (quantiles[0] - quantiles[-1])
    return [round(smallest + scale * (q - quantiles[-1])) for q in quantiles]


def long_tailed(
    labels: Sequence[int] | Indices,
    counts: Sequence[int],
    *,
    seed: int = 0,
    shuffle_classes: bool = False,
) -> Indices:
    """Draw a subset with exactly these class sizes.

    Class by class in the order of their labels, positions are shuffled by numpy's legacy generator
    and the first n are taken: with `seed=0` and sizes of `exponential_counts`, the very images of
    LDAM's and iSogCLR's CIFAR-LT.

    Args:
        labels: (N,) class of each sample.
        counts: samples to draw of each class. The smallest label takes the first of them.
        seed: seed of the draw.
        shuffle_classes: which class takes which count is drawn too, before the samples.

    Returns:
        (sum of counts,) positions, class after class.

    Raises:
        ValueError: another number of counts than of classes, a class with fewer samples than asked.
    """
    values = np.asarray(labels)
    classes = np.unique(values)
    if len(classes) != len(counts):
        raise ValueError(f"{len(counts)} counts for {len(classes)} classes")
    random = np.random.RandomState(seed)
    order = random.permutation(len(classes)) if shuffle_classes else range(len(classes))
    wanted = dict(zip(classes[list(order)].tolist(), counts, strict=True))
    drawn = [_draw(values, label, wanted[label], random) for label in classes.tolist()]
    return np.concatenate(drawn)


def balanced(labels: Sequence[int] | Indices, per_class: int, *, seed: int = 0) -> Indices:
    """Draw the same number of samples of every class, for a validation split or a probe.

    Args:
        labels: (N,) class of each sample.
        per_class: samples of each.
        seed: seed of the draw.

    Returns:
        (classes · per_class,) positions, class after class.

    Raises:
        ValueError: a class with fewer samples.
    """
    return long_tailed(labels, [per_class] * len(np.unique(np.asarray(labels))), seed=seed)


def _draw(labels: Indices, label: int, count: int, random: np.random.RandomState) -> Indices:
    positions = np.flatnonzero(labels == label)
    if not 0 <= count <= len(positions):
        raise ValueError(f"class {label} has {len(positions)} samples, {count} were asked for")
    random.shuffle(positions)
    return positions[:count]


def read_indices(path: str | Path, length: int) -> Indices:
    """Read the positions of a published split.

    Args:
        path: .npy of integers, or a text file of numbers separated by white space.
        length: number of samples they point into.

    Returns:
        (n,) positions, in the order of the file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that does not parse, positions that are not whole, out of range or twice.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"no such file: {file}")
    try:
        raw = (
            np.load(file, allow_pickle=False)
            if file.suffix == ".npy"
            else np.array(file.read_text(encoding="utf-8").split(), dtype=np.int64)
        )
    except (ValueError, EOFError) as error:
        raise ValueError(f"{file} is not a list of positions: {error}") from error
    if raw.ndim != 1 or not np.issubdtype(raw.dtype, np.integer):
        raise ValueError(
            f"{file}: expected whole numbers (n,), found {raw.dtype} of shape {raw.shape}"
        )
    indices: Indices = raw.astype(np.int64)
    outside = indices[(indices < 0) | (indices >= length)]
    if len(outside):
        raise ValueError(f"{file}: {len(outside)} positions outside 0..{length - 1}: {outside[:3]}")
    if len(np.unique(indices)) != len(indices):
        raise ValueError(f"{file}: {len(indices) - len(np.unique(indices))} positions appear twice")
    return indices
