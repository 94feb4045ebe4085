"""Rows of a whole split, encoded batch by batch, by one process or by all of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from tqdm import tqdm

from tauten.training import processes

#: samples from which on a split has a bar
_BAR_FROM = 5000


@contextlib.contextmanager
def evaluating(encoder: nn.Module) -> Iterator[None]:
    """Have an encoder in evaluation mode, without gradients; its mode is restored."""
    was_training = encoder.training
    encoder.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        encoder.train(was_training)


def hides(progress: bool, size: int) -> bool:
    """Return whether a split of this size is encoded without a bar."""
    return not progress or size < _BAR_FROM


def encode_rows(
    encode_from: Callable[[int], Tensor], starts: range, name: str, hidden: bool, together: bool
) -> Tensor | None:
    """Encode the rows of all batches; if together, process r of W takes r, r + W, ..."""
    turn, turns = (processes.rank(), processes.count()) if together else (0, 1)
    encoded = [encode_from(s) for s in tqdm(starts[turn::turns], desc=name, disable=hidden)]
    rows = processes.collect(encoded) if together else [encoded]
    if rows is None:
        return None
    return torch.cat([rows[k % turns][k // turns] for k in range(len(starts))])
