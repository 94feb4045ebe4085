"""The interface that a dual encoder needs from each of its towers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

Description = dict[str, Any]


class Tower(nn.Module):
    """Maps one modality to vectors (N, width), and can say how to build itself again.

    An image tower is called with images (N, 3, H, W) in [0, 1], float, or with clips
    (N, T, 3, H, W) if it says so; a text tower with ``input_ids`` (N, L) long and
    ``attention_mask`` (N, L), 1 where there is a token.
    """

    #: width of the vectors that the tower returns
    width: int
    #: whether an image tower is called with clips
    takes_clips: bool = False

    def describe(self) -> Description:
        """Return a JSON-serialisable dict from which ``from_description``
        builds the same architecture.
        """
        raise NotImplementedError


TextInputs = Mapping[str, Tensor]
