"""A run on the user's own pairs."""

from __future__ import annotations

from pathlib import Path

from tauten.training import (
    Config,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimConfig,
    specs,
)


def pairs(output: Path | None = None, epochs: float = 20.0, seed: int = 0) -> Config:
    """Your own folder, table or tar of images and captions, InfoNCE; set data.source."""
    return Config(
        name="pairs",
        control=specs.control("constant", value=0.07),
        data=DataConfig(source="", image_size=64),
        model=ModelConfig(text="ngrams", channels=(32, 64, 128, 256), dim=512),
        optim=OptimConfig(epochs=epochs, batch_size=128, lr=2e-3),
        evaluation=EvaluationConfig(every=1.0),
        seed=seed,
        output=output or Path("runs") / "pairs",
    )
