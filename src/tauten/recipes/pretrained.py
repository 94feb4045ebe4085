"""Pretrained towers that come with packages, trained further without any network."""

from __future__ import annotations

from functools import partial

from tauten.recipes.recipe import Recipe
from tauten.training import (
    Config,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimConfig,
    specs,
)


@partial(
    Recipe,
    epochs=6.0,
    options="--output runs/pretrained",
    data="emoji_lt, embedded at 32 pixels and enlarged to 160; --data emoji_lt:FOLDER has 64 "
    "pixels.",
    remark="it shows that pretrained towers help.",
    choice="all, after a few trainings compared on validation. With seed 0 it takes 8 to 10 "
    "minutes on two cores and 9 GB: image to text hit@1, 5, 10 on test 57.9 [54.6, 60.9], 84.3, "
    "90.0; text to image 57.3 [54.1, 60.0], 84.7, 90.2.",
)
def emoji_pretrained(epochs: float) -> Config:
    """emoji_lt, InfoNCE on pretrained EfficientNet-Lite0 and MiniLM, towers with a lower rate."""
    return Config(
        control=specs.control("constant", value=0.1),
        data=DataConfig(source="emoji_lt", label="label", image_size=160),
        model=ModelConfig(
            image="efficientnet-lite0", text="minilm", grid=3, max_tokens=16, dim=256
        ),
        optim=OptimConfig(epochs=epochs, batch_size=128, lr=2e-3, tower_lr=3e-4),
        evaluation=EvaluationConfig(every=max(1.0, epochs / 4), batch_size=128),
    )
