"""Rules for a configuration whose both sides are texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tauten.training.options.ranges import check_needed

if TYPE_CHECKING:
    from tauten.training.options.config import DataConfig, ModelConfig


def check_texts(data: DataConfig, model: ModelConfig, task: str) -> None:
    """Refuse what has no meaning where both sides are texts.

    Raises:
        ValueError: naming the field, its value and what it may be.
    """
    if not data.texts:
        if data.unseen:
            raise ValueError(
                f"data.unseen={data.unseen} is of pairs of texts, such as users and films: set "
                "data.texts, or leave it out"
            )
        return
    if data.source == "emoji_lt":
        raise ValueError(
            "data.texts: the pairs of emoji_lt have pictures: set data.source to a table of two "
            "columns of texts"
        )
    if data.image == "image":
        raise ValueError(
            "data.texts needs data.image, the column of the first texts, got the default "
            f"{data.image!r}"
        )
    if model.lora and model.lora_towers != "text":
        raise ValueError(
            f"data.texts has one tower, that of texts: model.lora={model.lora} needs "
            f"model.lora_towers=text, got {model.lora_towers}"
        )
    if model.image != "convolutional":
        raise ValueError(
            "data.texts has one tower, that of texts: give the model as model.text and leave "
            f"model.image out, got {model.image}"
        )
    others = {
        "task": (task, "pairs"),
        "data.frames": (data.frames, 0),
        "data.strip": (data.strip, 0),
        "data.stream": (data.stream, False),
        "data.relevancy": (data.relevancy, "none"),
    }
    check_needed(others, "data.texts has no pictures and needs {}, the default, got {}")
    if model.freeze in ("image", "both"):
        raise ValueError(
            f"data.texts has one tower, that of texts: model.freeze={model.freeze} becomes "
            "model.freeze=text, or none"
        )
