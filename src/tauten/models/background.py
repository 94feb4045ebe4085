"""Clips with the background of another one (CoMix)."""

from __future__ import annotations

import torch
from torch import Tensor

from tauten.checks import finite


def mix_backgrounds(
    clips: Tensor,
    most: float = 0.5,
    *,
    others: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return each clip with a part of another clip's background.

    x̃ = (1 − γ)·x + γ·median over time of another clip,  γ ~ U(0, most)

    The motion stays that of x, and so does the class: a mixed clip is one more positive of its
    clip, ``SupCon(...)(z, labels=ids)`` with its id once more. CoMix (Sahoo et al., NeurIPS 2021).

    Args:
        clips: (B, T, ...) floating frames, B >= 2, or 1 with ``others``.
        most: largest share of the background, in [0, 1].
        others: (B, T', ...) whose backgrounds are taken, as of another domain; the next clip's of
            the batch where it is not given.
        generator: generator of the random numbers, on the device of the clips.

    Raises:
        ValueError: shapes that do not fit, a share outside [0, 1], or no other clip.
    """
    if not 0 <= finite("most", most) <= 1:
        raise ValueError(f"most must be in [0, 1], got {most!r}")
    if not clips.is_floating_point() or clips.dim() < 3:
        raise ValueError(f"clips must be floating (B, T, ...), got {tuple(clips.shape)}")
    if others is None:
        if len(clips) < 2:
            raise ValueError("a background comes from another clip: give others=, or two clips")
        others = clips.roll(1, 0)
    if (len(others), others.shape[2:]) != (len(clips), clips.shape[2:]):
        raise ValueError(
            f"others must hold a clip for each of {tuple(clips.shape)}, got {tuple(others.shape)}"
        )
    backgrounds = others.median(dim=1, keepdim=True).values
    share = most * torch.rand(
        len(clips), generator=generator, dtype=clips.dtype, device=clips.device
    )
    share = share.view(-1, *[1] * (clips.dim() - 1))
    return (1 - share) * clips + share * backgrounds
