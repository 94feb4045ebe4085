"""Rules for a configuration whose both sides are texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tauten.training.options.ranges import check_needed, check_rules

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
    one_tower = "data.texts has one tower, that of texts: "
    check_rules(
        (
            data.source == "emoji_lt",
            "data.texts: the pairs of emoji_lt have pictures: set data.source to a table of two "
            "columns of texts",
        ),
        (
            data.image == "image",
            "data.texts needs data.image, the column of the first texts, got the default "
            f"{data.image!r}",
        ),
        (
            model.lora > 0 and model.lora_towers != "text",
            f"{one_tower}model.lora={model.lora} needs model.lora_towers=text, got "
            f"{model.lora_towers}",
        ),
        (
            model.image != "convolutional",
            f"{one_tower}give the model as model.text and leave model.image out, got {model.image}",
        ),
        (
            model.freeze in ("image", "both"),
            f"{one_tower}model.freeze={model.freeze} becomes model.freeze=text, or none",
        ),
    )
    others = {
        "task": (task, "pairs"),
        "data.frames": (data.frames, 0),
        "data.strip": (data.strip, 0),
        "data.stream": (data.stream, False),
        "data.relevancy": (data.relevancy, "none"),
    }
    check_needed(others, "data.texts has no pictures and needs {}, the default, got {}")
