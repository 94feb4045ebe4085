"""Loading of a model from a run, a folder or a name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tauten.files import expanded
from tauten.inference import pretrained, runs
from tauten.inference.model import Model
from tauten.models.named import full_name
from tauten.models.open_clip import CONFIG as OPEN_CLIP_CONFIG
from tauten.training.run.names import CONFIG

#: what a name begins with, and what loads the rest of it
_KINDS: dict[str, Callable[[str], Any]] = {
    "hf": pretrained.joint,
    "clip": lambda name: pretrained.joint(full_name("clip", name), "clip"),
    "siglip": lambda name: pretrained.joint(full_name("siglip", name), "siglip"),
    "st": pretrained.sentence,
    "open_clip": pretrained.open_clip,
}
_FORMS = (
    "a run folder, one of its checkpoints, a folder of a saved model, hf:ORG/NAME, clip:NAME, "
    "siglip:NAME, st:NAME or open_clip:NAME"
)


def load(name: str | Path, device: str | torch.device | None = None) -> Model:
    """Load a model to embed, search and classify with.

    Args:
        name: one of

            * a run folder (its best checkpoint is taken) or a checkpoint: exactly what was trained,
              with its tokenizer, size, crop and filter of pictures;
            * a folder with a saved model that embeds pictures and texts in one space (CLIP, SigLIP,
              VisionTextDualEncoder, one in open_clip's layout), or a sentence-transformers model;
            * ``hf:ORG/NAME``, such a model of the Hugging Face hub;
            * ``clip:NAME`` or ``siglip:NAME``, such a model that must be of this kind; a name
              without an owner is one of OpenAI's or Google's (``clip:vit-base-patch32``);
            * ``st:NAME``, a sentence-transformers model, for texts alone (``st:minilm`` needs no
              network);
            * ``open_clip:FOLDER`` or ``open_clip:hf-hub:ORG/NAME``, in open_clip's layout;
              ``open_clip:ARCHITECTURE/WEIGHTS``, as open_clip names them, needs the package.
        device: such as "cuda"; by default the CPU.

    Raises:
        ImportError: a package is missing, with how to install it.
        ValueError: nothing of these, or a damaged or unfinished run.
    """
    text = str(name)
    kind, colon, rest = text.partition(":")
    if colon and kind in _KINDS and not Path(text).exists():
        if not rest:
            raise ValueError(f"{text} names no model: give {kind}:NAME")
        model = Model(text, _KINDS[kind](rest))
    else:
        model = _of_folder(expanded(text))
    return model if device is None else model.to(device)


def is_run(name: str | Path) -> bool:
    """Return whether a name is that of a run or a checkpoint of ours, and not of a saved model.

    What does not exist counts as a run, so that it is refused as one.
    """
    text = str(name)
    kind, colon, _ = text.partition(":")
    if colon and kind in _KINDS and not Path(text).exists():
        return False
    folder = expanded(text)
    if (folder / "modules.json").is_file() or (folder / OPEN_CLIP_CONFIG).is_file():
        return False
    return not (folder / "config.json").is_file() or (folder / CONFIG).is_file()


def _of_folder(folder: Path) -> Model:
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder: give {_FORMS}")
    if (folder / "modules.json").is_file():
        return Model(str(folder), pretrained.sentence(str(folder)))
    if (folder / OPEN_CLIP_CONFIG).is_file():
        return Model(str(folder), pretrained.open_clip(str(folder)))
    saved = (folder / "config.json").is_file() and not (folder / CONFIG).is_file()
    if saved:
        return Model(str(folder), pretrained.joint(str(folder)))
    towers, data = runs.towers(folder)
    return Model(str(folder), towers, data)
