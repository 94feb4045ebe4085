"""Head, mid and tail: the groups that long-tail results are reported by."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Group = Literal["head", "mid", "tail"]


def count_groups(counts: Tensor | Sequence[int], head: int = 100, tail: int = 20) -> list[Group]:
    """Name each sample's group by the training count of its class.

    "head" where count >= head, "tail" where count < tail, else "mid". The many, medium and few of
    Liu et al., Large-Scale Long-Tailed Recognition in an Open World, CVPR 2019, are *more* than
    100, 20 to 100, and fewer than 20: give head=101 for theirs, as the ImageNet-LT recipe does.

    Args:
        counts: (N,) training samples in the class of each sample, integers >= 0.
        head: smallest count of the head.
        tail: smallest count that is no longer tail.

    Returns:
        N names.

    Raises:
        ValueError: not 0 < tail <= head; counts that are not one-dimensional, not whole or
            negative.
    """
    if not 0 < tail <= head:
        raise ValueError(f"need 0 < tail <= head, got tail = {tail}, head = {head}")
    values = torch.as_tensor(counts)
    if values.ndim != 1:
        raise ValueError(f"counts must be one-dimensional, got shape {tuple(values.shape)}")
    if len(values) and not bool((values == values.long()).all()):
        raise ValueError("counts must be whole numbers")
    if len(values) and int(values.min()) < 0:
        raise ValueError(f"counts must be >= 0, smallest is {int(values.min())}")
    return ["head" if n >= head else "tail" if n < tail else "mid" for n in values.tolist()]
