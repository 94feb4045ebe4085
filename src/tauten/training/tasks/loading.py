"""Encoders of checkpoints, for evaluation, and the training counts beside them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from tauten.files import need, read_json, read_tensors
from tauten.models import DualEncoder, Tokenizer, load_tokenizer
from tauten.models.adapters import merged
from tauten.training import checkpoints
from tauten.training.loop.compute import LORA_SCALE
from tauten.training.stores.classes import Classes

ENCODER_PREFIX = "encoder."
Encoder = TypeVar("Encoder", bound=nn.Module)


def load_encoder(checkpoint: str | Path) -> tuple[DualEncoder, Tokenizer, Classes | None]:
    """Load towers, tokenizer and training counts of a checkpoint; see also :func:`tauten.load`.

    Raises:
        ValueError: the folder is not a whole checkpoint of ours.
    """
    checkpoint = Path(checkpoint)
    description = described(checkpoint)
    encoder: DualEncoder = built(checkpoint, lambda: DualEncoder.from_description(description))
    with checkpoints.reading(checkpoint, "tokenizer.json"):
        tokenizer = load_tokenizer(checkpoint)
    return encoder, tokenizer, load_classes(checkpoint)


def described(checkpoint: Path) -> dict[str, Any]:
    """Read ``encoder.json`` of a whole checkpoint.

    Raises:
        ValueError: the folder is not a whole checkpoint of ours.
    """
    if not (checkpoint / checkpoints.MARKER).exists():
        raise ValueError(f"{checkpoint} is not a complete checkpoint of tauten")
    checkpoints.check(checkpoint)
    path = checkpoint / "encoder.json"
    description: Any = read_json(path)
    need(description, {}, path)
    checked: dict[str, Any] = description
    return checked


def built(checkpoint: Path, make: Callable[[], Encoder]) -> Encoder:
    """Build an encoder with the weights of a checkpoint, for evaluation, adapters merged into them.

    Args:
        checkpoint: whole.
        make: from the checkpoint's description.

    Raises:
        ValueError: the description or the weights are damaged, or do not fit each other.
    """
    with checkpoints.reading(checkpoint, "encoder.json"):
        encoder = make()
    tensors = read_tensors(checkpoint / "model.safetensors")
    scale = float(read_json(checkpoint / "encoder.json").get(LORA_SCALE, 1.0))
    with checkpoints.reading(checkpoint, "model.safetensors"):
        state = {
            name.removeprefix(ENCODER_PREFIX): value
            for name, value in tensors.items()
            if name.startswith(ENCODER_PREFIX)
        }
        encoder.load_state_dict(merged(state, scale))
    return encoder.eval()


def load_classes(checkpoint: Path) -> Classes | None:
    """Load the training counts of a checkpoint, or None where the data had no classes.

    Raises:
        ValueError: they are damaged.
    """
    path = checkpoint / "classes.json"
    if not path.exists():
        return None
    record = read_json(path)
    need(record, {"counts": dict, "head": int, "tail": int}, path)
    need(record["counts"], dict.fromkeys(record["counts"], int), f"{path}: counts")
    with checkpoints.reading(checkpoint, path.name):
        return Classes(**record)
