"""Inversion of embeddings into the inputs of another encoder."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from tauten.evaluation.checks import positive, whole


def inverted(
    targets: Tensor,
    encode: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    steps: int = 150,
    lr: float = 0.02,
) -> Tensor:
    """Return inputs of an encoder whose embeddings are nearest to given ones, by AdamW.

    v_i* = argmin_v 1 − cos(t_i, encode(v)_i). With t of images, and encode the text encoder on
    vectors in the place of a word, it is the textual inversion (OTI) of "Cross the Gap" (Mistretta
    et al., ICLR 2025), after which images are compared with images across modalities; with both
    exchanged it is OVI.

    Args:
        targets: (N, d), as given.
        encode: (N, ...) inputs to (N, d); its parameters stay as they are.
        start: (N, ...), where each search begins.
        steps: steps of AdamW.
        lr: its rate.

    Returns:
        (N, ...), detached.

    Raises:
        ValueError: another number of inputs than of targets, or steps or lr out of range.
    """
    whole(steps, "steps", 1)
    positive(lr, "lr")
    if len(start) != len(targets) or not len(targets):
        raise ValueError(f"start must have an input for each of {len(targets)} targets")
    if not start.is_floating_point() or not bool(start.isfinite().all() & targets.isfinite().all()):
        raise ValueError(f"start and targets must be finite floating numbers, start {start.dtype}")
    with torch.inference_mode(False), torch.enable_grad():
        wanted = targets.detach().clone()
        inputs = start.detach().clone().requires_grad_()
        optimizer = torch.optim.AdamW([inputs], lr=lr, weight_decay=0.0)
        for _ in range(steps):
            loss = (1 - F.cosine_similarity(encode(inputs), wanted, dim=-1)).sum()
            (inputs.grad,) = torch.autograd.grad(loss, [inputs])
            optimizer.step()
    return inputs.detach()
