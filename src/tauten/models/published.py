"""Published video-text dual encoders, AVION and LaViLa, from their checkpoints."""

from __future__ import annotations

import argparse
import math
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPTextConfig

from tauten.models.augmentation import Augmentation
from tauten.models.augmentation_options import AugmentationConfig
from tauten.models.clip_names import BLOCK, TEXT, apart
from tauten.models.dual_encoder import DualEncoder
from tauten.models.hf_text import HFTextTower
from tauten.models.space_time import SpaceTimeViT

Kind = Literal["avion", "lavila"]

_VISION: dict[Kind, dict[str, str]] = {
    "avion": {
        "class_embedding": "class_token",
        "positional_embedding": "positions",
        "temporal_embedding": "times",
        "conv1.": "patches.",
        "ln_pre.": "norm_before.",
        "ln_post.": "norm_after.",
        "transformer.resblocks.": "layers.",
    }
    | BLOCK,
    "lavila": {
        "cls_token": "class_token",
        "pos_embed": "positions",
        "temporal_embed": "times",
        "patch_embed.proj.": "patches.",
        "ln_pre.": "norm_before.",
        "blocks.": "layers.",
        ".norm1.": ".layer_norm1.",
        ".norm2.": ".layer_norm2.",
        ".norm3.": ".temporal_norm.",
        ".attn.": ".self_attn.",
        ".timeattn.": ".temporal_attn.",
        "_attn.proj.": "_attn.out_proj.",
    },
}
_PREFIX = {"avion": "textual.", "lavila": ""}


def load_published(
    source: str | Path | Mapping[str, Tensor],
    *,
    frames: int | None = None,
    image_size: int | None = None,
    head_width: int = 64,
    augmentation: AugmentationConfig | None = None,
) -> DualEncoder:
    """Load both towers and projections of a checkpoint of AVION or LaViLa (CLIP's text tower).

    The architecture follows from the shapes of the weights. The embeddings of frames are
    interpolated linearly to another number of frames, those of places bicubically to another size.
    Nothing but numbers and plain settings is read from the file. Texts need CLIP's tokenizer; the
    learned temperature is left out. The text tower is taken to be causal.

    Args:
        source: a file, or a state dict.
        frames: number of frames of a clip; by default as published.
        image_size: size of a frame; by default as published, taken to be square.
        head_width: width of each attention head; 64 in all that were published.
        augmentation: augmentation of the dual encoder.

    Returns:
        A dual encoder whose ``dim`` is that of the published projections.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no checkpoint, not of these models, with names that are missing or left over, or
            of widths that head_width does not divide.
    """
    where = "the state dict" if isinstance(source, Mapping) else str(source)
    state = _clean(source if isinstance(source, Mapping) else _read(Path(source)))
    kind = _kind(state, where)
    ours = _renamed(state, kind, where)
    encoder = _build(ours, kind, frames, image_size, head_width)
    tower = encoder.image_tower
    assert isinstance(tower, SpaceTimeViT)
    ours["image_tower.times"] = _stretched(ours["image_tower.times"], tower.frames)
    ours["image_tower.positions"] = _resized(ours["image_tower.positions"], len(tower.positions))
    try:
        missing, unexpected = encoder.load_state_dict(ours, strict=False)
    except RuntimeError as error:
        raise ValueError(f"{where} has weights of other shapes: {error}") from error
    if missing or unexpected:
        raise ValueError(
            f"{where} does not fit: {len(missing)} weights are missing ({', '.join(missing[:5])}), "
            f"{len(unexpected)} are left over ({', '.join(unexpected[:5])})"
        )
    encoder.augmentation = None if augmentation is None else Augmentation(augmentation)
    return encoder


def _read(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"no such checkpoint: {path}")
    scalar: Any = np.float64(0).__reduce__()[0]
    harmless: list[Any] = [
        argparse.Namespace,
        np.dtype,
        np.dtypes.Float64DType,
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
    ]
    try:
        with torch.serialization.safe_globals(harmless):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path} is no checkpoint that can be read safely: {error}") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a state dict")
    inner = content.get("state_dict", content)
    assert isinstance(inner, Mapping)
    return inner


def _clean(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return names without the prefix of data parallelism."""
    return {name.removeprefix("module."): value for name, value in state.items()}


def _kind(state: Mapping[str, Tensor], where: str) -> Kind:
    if "visual.conv1.weight" in state and "textual.text_projection" in state:
        return "avion"
    if "visual.patch_embed.proj.weight" in state and "text_projection" in state:
        return "lavila"
    raise ValueError(
        f"{where} is neither of AVION (visual.conv1.weight, textual.text_projection) nor of LaViLa "
        f"(visual.patch_embed.proj.weight, text_projection); it begins with {list(state)[:3]}"
    )


def _renamed(state: Mapping[str, Tensor], kind: Kind, where: str) -> dict[str, Tensor]:
    """Return the weights under the names of our dual encoder."""
    ours: dict[str, Tensor] = {}
    for name, value in state.items():
        if name == "logit_scale":
            continue
        if name.endswith(("image_projection", "text_projection")):
            side = "image" if name.endswith("image_projection") else "text"
            ours[f"{side}_projection.weight"] = value.T.contiguous()
            continue
        if name.startswith("visual."):
            new, table, tower = name.removeprefix("visual."), _VISION[kind], "image_tower."
            new = f"norm_after.{new[5:]}" if new.startswith("norm.") else new
        else:
            new, table, tower = name.removeprefix(_PREFIX[kind]), TEXT, "text_tower.model."
        for old, replacement in table.items():
            new = new.replace(old, replacement)
        ours.update(apart(tower + new, value))
    _shape_vision(ours, where)
    return ours


def _shape_vision(ours: dict[str, Tensor], where: str) -> None:
    """Bring the embeddings and the patch projection to our shapes, in place."""
    needed = ("class_token", "positions", "patches.weight")
    absent = [name for name in needed if f"image_tower.{name}" not in ours]
    if absent:
        raise ValueError(f"{where} has no weights for {', '.join(absent)}")
    for name in ("class_token", "positions", "times"):
        if f"image_tower.{name}" in ours:
            ours[f"image_tower.{name}"] = ours[f"image_tower.{name}"].squeeze(0)
    token = ours["image_tower.class_token"] = ours["image_tower.class_token"].flatten()
    ours.setdefault("image_tower.times", token.new_zeros(1, len(token)))
    patches = ours["image_tower.patches.weight"]
    side = math.isqrt(patches[0].numel() // 3)
    ours["image_tower.patches.weight"] = patches.reshape(len(token), 3, side, side)


def _build(
    ours: Mapping[str, Tensor],
    kind: Kind,
    frames: int | None,
    image_size: int | None,
    head_width: int,
) -> DualEncoder:
    """Build the architecture that the shapes tell, with random weights."""
    patches, positions = ours["image_tower.patches.weight"], ours["image_tower.positions"]
    tokens = ours["text_tower.model.embeddings.token_embedding.weight"]
    context = ours["text_tower.model.embeddings.position_embedding.weight"]
    if len(patches) % head_width or tokens.shape[1] % head_width:
        raise ValueError(
            f"head_width must divide the widths {len(patches)} and {tokens.shape[1]}, got "
            f"{head_width}"
        )
    activation = "gelu" if kind == "avion" else "quick_gelu"
    vision = SpaceTimeViT(
        image_size=image_size or math.isqrt(len(positions) - 1) * patches.shape[-1],
        patch_size=patches.shape[-1],
        width=len(patches),
        depth=_depth(ours, "image_tower.layers."),
        heads=len(patches) // head_width,
        frames=frames or len(ours["image_tower.times"]),
        attention="joint" if kind == "avion" else "divided",
        activation=activation,
    )
    text = CLIPTextConfig(
        vocab_size=len(tokens),
        hidden_size=tokens.shape[1],
        intermediate_size=4 * tokens.shape[1],
        num_hidden_layers=_depth(ours, "text_tower.model.encoder.layers."),
        num_attention_heads=tokens.shape[1] // head_width,
        max_position_embeddings=len(context),
        hidden_act=activation,
        bos_token_id=len(tokens) - 2,
        eos_token_id=len(tokens) - 1,
        pad_token_id=len(tokens) - 1,
    )
    dim = len(ours["image_projection.weight"])
    return DualEncoder(vision, HFTextTower.from_config(text), dim)


def _depth(ours: Mapping[str, Tensor], prefix: str) -> int:
    numbers = [int(name[len(prefix) :].split(".")[0]) for name in ours if name.startswith(prefix)]
    return max(numbers, default=-1) + 1


def _stretched(times: Tensor, frames: int) -> Tensor:
    """Stretch (T, D) to (frames, D), linear between the centres of equal segments."""
    if len(times) == frames:
        return times
    return F.interpolate(times.T[None], frames, mode="linear").squeeze(0).T


def _resized(positions: Tensor, size: int) -> Tensor:
    """Resize (1 + P, D) to (size, D): the class token, and the others as a bicubic square map."""
    if len(positions) == size:
        return positions
    here, there = math.isqrt(len(positions) - 1), math.isqrt(size - 1)
    square = positions[1:].T.unflatten(1, (here, here))[None]
    spread = F.interpolate(square, (there, there), mode="bicubic").squeeze(0).flatten(1).T
    return torch.cat([positions[:1], spread])
