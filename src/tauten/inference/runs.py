"""The towers of a run, rebuilt as they were trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from tauten.inference.model import Towers
from tauten.inference.pictures import prepared as picture_at
from tauten.models import DualEncoder, FeatureTower, TextEncoder, Tokenizer, ViewEncoder
from tauten.training.evaluation import find_checkpoint
from tauten.training.options.config import DataConfig
from tauten.training.options.pretrained import prepared
from tauten.training.specs import task


def towers(folder: Path) -> tuple[Towers, DataConfig]:
    """Return what a run or checkpoint embeds with, and how it read its data.

    Of a run of two views it is the features before the projector, of pictures alone.

    Raises:
        ValueError: neither a run with a finished evaluation nor a whole checkpoint.
    """
    checkpoint, record = find_checkpoint(folder)
    config = record.config()
    how = prepared(config.data)
    settings = f"{how} {vars(how) if hasattr(how, '__dict__') else ''}"
    loaded = task(config.task).load(checkpoint)
    if isinstance(loaded.encoder, ViewEncoder):
        views = loaded.encoder
        made = Towers(
            views,
            views.tower.width,
            picture=lambda item: picture_at(item, how),
            images=views.features,
            settings=settings,
            size=how,
        )
        return made, config.data
    encoder, tokenizer = loaded.encoder, loaded.tokenizer
    assert tokenizer is not None
    pictures = not isinstance(encoder, TextEncoder)
    features = pictures and isinstance(encoder.image_tower, FeatureTower)
    made = of_dual(encoder, tokenizer, how if pictures and not features else None, settings)
    if not pictures:
        made = Towers(**(vars(made) | {"images": None}))
    frames = config.data.frames if encoder.image_tower.takes_clips else 0
    return Towers(**(vars(made) | {"frames": frames})), config.data


def of_dual(
    encoder: DualEncoder, tokenizer: Tokenizer, how: tuple[int, int] | None, settings: str
) -> Towers:
    """Return what a dual encoder embeds with.

    Args:
        encoder: both towers and projections.
        tokenizer: tokenizer of the text tower.
        how: pictures are brought to their size; None: it takes no pictures.
        settings: for the fingerprint.
    """

    def texts(given: list[str]) -> Tensor:
        inputs = {name: value.to(_device(encoder)) for name, value in tokenizer(given).items()}
        return encoder.encode_text(inputs)

    picture: Any = None if how is None else lambda item: picture_at(item, how)
    cut = getattr(tokenizer, "max_length", None)
    return Towers(
        encoder,
        encoder.dim,
        picture=picture,
        images=encoder.encode_image,
        texts=texts,
        settings=f"{settings} {type(tokenizer).__name__} {tokenizer.vocabulary_size} {cut}",
        tokenizer=tokenizer,
        size=how,
    )


def _device(module: nn.Module) -> Any:
    return next(module.parameters()).device
