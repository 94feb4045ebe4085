"""A run on the user's own pairs."""

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


@partial(Recipe, epochs=20.0)
def pairs(epochs: float) -> Config:
    """Your own folder, table or tar of images and captions, InfoNCE; set data.source."""
    return Config(
        control=specs.control("constant", value=0.07),
        data=DataConfig(source="", image_size=64),
        model=ModelConfig(text="ngrams", channels=(32, 64, 128, 256), dim=512),
        optim=OptimConfig(epochs=epochs, batch_size=128, lr=2e-3),
        evaluation=EvaluationConfig(every=1.0),
    )
