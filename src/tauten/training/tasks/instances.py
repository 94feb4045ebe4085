"""Two views of pictures without classes: is the other view of a picture the nearest one?"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from tauten.evaluation import ranks
from tauten.evaluation.intervals import share_interval
from tauten.models import ViewEncoder
from tauten.outcome.metrics import INSTANCE
from tauten.training.stores.pair_data import PairData
from tauten.training.tasks.rows import encode_rows, evaluating, hides

#: numbers of nearest pictures
_KS = (1, 10)


def instances(
    encoder: ViewEncoder,
    data: PairData,
    batch_size: int = 512,
    progress: bool = True,
    *,
    together: bool = True,
) -> dict[str, Tensor] | None:
    """Find the second view of each picture among those of all, by the features of its first view.

    Two views are drawn of each picture, always the same ones; the encoder's mode is restored.

    Args:
        encoder: its tower is used, and how it draws views.
        data: the split.
        batch_size: images at a time.
        progress: show a bar for large splits.
        together: all processes call it and each encodes some of the batches.

    Returns:
        (Q,) bool by rule on the first process, ``instance@1`` and ``instance@10``: whether it is
        among so many nearest, ties counted against it. None on the others.
    """
    device = next(encoder.parameters()).device

    def both(start: int) -> Tensor:
        pixels = data.images[start : start + batch_size].to(device)
        with torch.random.fork_rng():
            torch.manual_seed(start)
            views = encoder.views(pixels)
        return torch.stack([encoder.features(view).float().cpu() for view in views], dim=1)

    hidden = hides(progress, len(data))
    with evaluating(encoder):
        sides = encode_rows(both, range(0, len(data), batch_size), "views", hidden, together)
    if sides is None:
        return None
    first, second = F.normalize(sides, dim=2).unbind(dim=1)
    second_of_first = [[row] for row in range(len(data))]
    ranked = ranks(first, second, second_of_first)["x2y"]
    return {f"{INSTANCE}{k}": ranked.hit(k).bool() for k in _KS}


def shares(right: Mapping[str, Tensor], intervals: bool = True) -> dict[str, float]:
    """Return the share of pictures that are right, by rule, with 95 % intervals and their number.

    Args:
        right: what :func:`instances` returns.
        intervals: whether they are wanted.
    """
    metrics: dict[str, float] = {"n": float(len(next(iter(right.values()))))}
    for name, found_right in right.items():
        share = found_right.double()
        metrics[name] = float(share.mean())
        if intervals:
            low, high = share_interval(share[:, None])
            metrics |= {f"{name}/low": float(low), f"{name}/high": float(high)}
    return metrics
