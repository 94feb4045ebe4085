"""Positions in a part of a video, and whether the part is in the video."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor


def drawn(count: int, generator: torch.Generator | None) -> Tensor:
    """Return (count,) float64 in [0, 1), where in its segment each position is;
    None for the centres.
    """
    if generator is None:
        return torch.full((count,), 0.5, dtype=torch.float64)
    return torch.rand(count, dtype=torch.float64, generator=generator)


def positions(length: float, inside: Tensor) -> Tensor:
    """Return (T,) float64, (k + inside_k) · length / T."""
    segments = torch.arange(len(inside), dtype=torch.float64)
    return (segments + inside) * (length / len(inside))


def check_span(
    path: Path, start: float, stop: float, end: float, overrun: float, unit: str
) -> None:
    """Refuse a part that begins after its video, or ends later than by the overrun.

    Raises:
        ValueError: with the file's name.
    """
    if start >= end or stop > end + overrun:
        raise ValueError(
            f"{path} ends at {end:.6g} {unit}: no clip from {start:.6g} to {stop:.6g} in it"
        )
