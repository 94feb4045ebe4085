"""A batch larger than activations allow: only embeddings and inputs are kept.

Each chunk is encoded without keeping its activations; in the backward pass, when the loss of the
whole batch has given the gradient of its embeddings, the chunk is encoded again, with the same
random numbers, and differentiated (GradCache, Gao et al., 2021). It is one graph, so that data
parallelism, autocast, accumulation and learned temperatures see an ordinary backward pass.

Dropout draws its masks chunk by chunk. Under FSDP2 every chunk gathers the weights, so that all
processes must have equally many chunks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def encode_in_chunks(
    encoder: nn.Module, images: Tensor, texts: Mapping[str, Tensor], size: int
) -> tuple[Tensor, Tensor]:
    """Encode a batch, holding the activations of no more than ``size`` pairs at a time.

    Args:
        encoder: (images, texts) -> (x, y), row by row: without batch normalisation.
        images: (N, ...).
        texts: name -> (N, ...).
        size: pairs of a chunk, >= 1.

    Returns:
        x (N, d) and y (N, d).
    """
    xs, ys = [], []
    with _own_casts(images.device.type):
        for start in range(0, max(len(images), 1), size):
            part = slice(start, start + size)
            x, y = checkpoint(
                encoder,
                images[part],
                {name: ids[part] for name, ids in texts.items()},
                use_reentrant=False,
            )
            xs.append(x)
            ys.append(y)
    return torch.cat(xs), torch.cat(ys)


def texts_in_chunks(encoder: Any, texts: Mapping[str, Tensor], size: int | None) -> Tensor:
    """Encode texts alone, holding the activations of no more than ``size`` of them at a time.

    Args:
        encoder: with ``encode_text``.
        texts: name -> (T, ...).
        size: texts of a chunk, >= 1; None for all at once.

    Returns:
        (T, d).
    """
    if size is None:
        vectors: Tensor = encoder.encode_text(texts)
        return vectors
    count = len(next(iter(texts.values())))
    with _own_casts(next(iter(texts.values())).device.type):
        return torch.cat(
            [
                checkpoint(
                    encoder.encode_text,
                    {name: ids[start : start + size] for name, ids in texts.items()},
                    use_reentrant=False,
                )
                for start in range(0, count, size)
            ]
        )


def _own_casts(device: str) -> torch.autocast:
    """Return an autocast context in which each chunk casts the weights itself.

    Chunks that share one cast would add their gradients in its precision, not in the weights'.
    """
    return torch.autocast(
        device,
        torch.get_autocast_dtype(device),
        enabled=torch.is_autocast_enabled(device),
        cache_enabled=False,
    )


def check_rowwise(encoder: nn.Module) -> None:
    """Refuse an encoder whose rows depend on each other in training.

    Raises:
        ValueError: it has batch normalisation, whose statistics would be those of a chunk, unless
            they stay fixed in training.
    """
    was_training = encoder.training
    encoder.train()
    names = [
        name
        for name, module in encoder.named_modules()
        if isinstance(module, _BatchNorm) and module.training
    ]
    encoder.train(was_training)
    if names:
        raise ValueError(
            f"optim.chunk encodes a batch in parts, but {len(names)} layers normalise over the "
            f"batch ({', '.join(names[:3])}): use towers without batch normalisation, or no chunks"
        )
