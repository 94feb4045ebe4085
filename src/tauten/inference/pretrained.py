"""Models that others trained: of Hugging Face, sentence-transformers and open_clip."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from tauten.data.sizes import Prepared
from tauten.files import expanded
from tauten.inference.model import Towers
from tauten.inference.pictures import opened
from tauten.inference.runs import of_dual
from tauten.models import DualEncoder, HFTokenizer
from tauten.models.hf_weights import read_config
from tauten.models.image_settings import ImageSettings
from tauten.models.joint import joint_width
from tauten.models.named import check_kind, open_clip_place
from tauten.models.open_clip import model_settings
from tauten.models.saved import OPEN_CLIP, one_line
from tauten.structure.embed import sentence_encoder

logger = logging.getLogger("tauten.inference")


def joint(name: str, kind: str | None = None) -> Towers:
    """Load a model that embeds pictures and texts in one space.

    Args:
        name: on the hub, or a folder.
        kind: what its type must begin with.

    Raises:
        ValueError: no model, another one, or one whose common space cannot be kept.
    """
    config = read_config(name)
    width = joint_width(config)
    if width is None:
        raise ValueError(
            f"{name} is a {config.model_type}, which has no common space of pictures and texts: "
            "give CLIP, SigLIP or a VisionTextDualEncoder, or st:NAME for texts alone"
        )
    if kind is not None:
        check_kind(name, kind)
    encoder = DualEncoder.from_pretrained(name, name, width)
    saved = getattr(encoder.image_tower, "trained_on", None) or ImageSettings()
    how = _how(saved, config, name)
    settings = f"{saved} {how} {vars(how)}"
    places = getattr(config.text_config, "max_position_embeddings", None)
    return of_dual(encoder, HFTokenizer.load(name, places), how, settings)


def _how(saved: ImageSettings, config: Any, name: str) -> Prepared:
    side = saved.size or getattr(config.vision_config, "image_size", None)
    if not isinstance(side, int):
        raise ValueError(
            f"{name} does not say the size of its pictures: save its processor beside it"
        )
    return Prepared(side, saved.edge, saved.resample, saved.crop)


def sentence(name: str) -> Towers:
    """Load a sentence-transformers model, for texts alone.

    Args:
        name: on the hub, a folder, or "minilm".

    Raises:
        ImportError: sentence-transformers is missing.
        ValueError: it cannot be loaded.
    """
    encoder = sentence_encoder(name).float()

    def texts(given: list[str]) -> Tensor:
        embeddings: Tensor = encoder.encode(
            given, batch_size=len(given), convert_to_tensor=True, show_progress_bar=False
        )
        return embeddings

    return Towers(encoder, int(texts(["a"]).shape[1]), texts=texts, settings="sentence")


def open_clip(name: str) -> Towers:
    """Load a model of open_clip.

    One in a folder or a repository of the hub is read here if a training could start from it; any
    other by open_clip itself, with its own preparation of pictures and its tokenizer.

    Args:
        name: ARCHITECTURE, ARCHITECTURE/WEIGHTS (a tag or a file), hf-hub:ORG/NAME, or a folder.

    Raises:
        ImportError: open_clip is missing.
        ValueError: it knows no such model, or cannot load it.
    """
    folder = expanded(name)
    hub = name.startswith(("hf-hub:", "local-dir:")) or folder.is_dir()
    reason = ""
    if hub:
        place = f"{OPEN_CLIP}{open_clip_place(name)}"
        try:
            model_settings(place)
        except ValueError as error:
            reason = f" ({error})"
        else:
            return joint(place)
    try:
        import open_clip as package  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise ImportError(
            f"open_clip:{name} needs open_clip, which is not installed: pip install "
            "'tauten[open-clip]' (it brings torchvision, which must be built for the torch that is "
            f"installed){reason}"
        ) from error
    name = f"local-dir:{folder}" if folder.is_dir() else name
    architecture, _, weights = (name, "", "") if hub else name.partition("/")
    if not hub and not weights:
        tags = package.list_pretrained_tags_by_model(architecture)
        if not tags:
            raise ValueError(
                f"open_clip:{name}: open_clip has no weights of {architecture}; "
                "open_clip.list_pretrained() has the names"
            )
        weights = tags[0]
        logger.warning("open_clip:%s: the weights %s are taken, of %s", name, weights, tags)
    try:
        module, _, prepare = package.create_model_and_transforms(
            architecture, pretrained=weights or None
        )
        tokenizer = package.get_tokenizer(architecture)
    except Exception as error:  # models of any kind
        raise ValueError(f"open_clip:{name} cannot be loaded: {one_line(error)}") from error
    module = module.float().eval()

    def texts(given: list[str]) -> Tensor:
        embeddings: Tensor = module.encode_text(
            tokenizer(given).to(next(module.parameters()).device)
        )
        return embeddings

    def picture(item: Any) -> Tensor:
        pixels: Tensor = prepare(opened(item))
        return pixels

    with torch.no_grad():
        dim = int(texts(["a"]).shape[1])
    return Towers(
        module,
        dim,
        picture=picture,
        images=module.encode_image,
        texts=texts,
        settings=f"open_clip {architecture} {prepare}",
    )
