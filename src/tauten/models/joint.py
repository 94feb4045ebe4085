"""The common space of a model that has both towers, such as CLIP and SigLIP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tauten.models.hf_image import HFImageTower
from tauten.models.hf_text import HFTextTower
from tauten.models.saved import one_line


def is_joint(model: Any) -> bool:
    """Tell a model that embeds pictures and texts in one space."""
    return hasattr(model, "get_image_features") and hasattr(model, "get_text_features")


def joint_width(config: Any) -> int | None:
    """Return the width of a joint model's common space; None: it is no such model."""
    text = getattr(config, "text_config", None)
    if getattr(config, "vision_config", None) is None or text is None:
        return None
    if str(config.model_type).startswith("siglip"):
        return int(text.projection_size)
    width = getattr(config, "projection_dim", None)
    return width if isinstance(width, int) else None


@torch.no_grad()
def joint_projections(
    model: Any, image: HFImageTower, text: HFTextTower, name: str | Path
) -> tuple[Tensor, Tensor]:
    """Find the projections with which two towers embed as the model does that they are parts of.

    They are tried on one picture and one text.

    Args:
        model: with ``get_image_features`` and ``get_text_features``.
        image: tower of its image part.
        text: tower of its text part.
        name: name of the model, for messages.

    Returns:
        The weights (dim, image.width) and (dim, text.width).

    Raises:
        ValueError: the model does something else between its towers and the common space.
    """
    projections = (
        _projection(model, ("visual_projection", "vision_projection"), image.width),
        _projection(model, ("text_projection",), text.width),
    )
    try:
        pixels, ids = _picture(image), _text(text)
        mask = torch.ones_like(ids)
        of_images = model.eval().get_image_features(**image.inputs(pixels))
        # SigLIP's padding counts: no mask
        masked = {} if str(model.config.model_type).startswith("siglip") else {"mask": mask}
        said = model.get_text_features(ids, *masked.values())
        towers = (image.eval()(pixels), text.eval()(ids, mask))
    except Exception as error:  # models of any kind
        raise ValueError(f"{name} cannot be tried: {one_line(error)}") from error
    for tower, weight, theirs in zip(towers, projections, (of_images, said), strict=True):
        wanted = torch.as_tensor(getattr(theirs, "pooler_output", theirs))
        got = tower @ weight.T
        if got.shape != wanted.shape or not torch.allclose(got, wanted, rtol=1e-3, atol=1e-4):
            raise ValueError(f"the common space of {name} is not a linear map of its towers")
    return projections


def _projection(model: Any, names: tuple[str, ...], width: int) -> Tensor:
    for name in names:
        layer = getattr(model, name, None)
        if isinstance(layer, nn.Linear):
            return layer.weight.detach()
    return torch.eye(width)


def _picture(tower: HFImageTower) -> Tensor:
    side = getattr(tower.model.config, "image_size", None)
    side = side if isinstance(side, int) else 4 * int(getattr(tower.model.config, "patch_size", 8))
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))


def _text(tower: HFTextTower) -> Tensor:
    """Return ids that fill all places, so that nothing is padded; the last one ends the text."""
    config = tower.model.config
    length = min(int(getattr(config, "max_position_embeddings", 16)), 64)
    ids = torch.arange(length).remainder(config.vocab_size - 1).view(1, -1)
    end = getattr(config, "eos_token_id", None)
    if isinstance(end, int) and 0 <= end < config.vocab_size:
        ids = torch.where(ids == end, (end + 1) % config.vocab_size, ids)
        ids[0, -1] = end
    return ids
