"""Max-margin on clips: a constant margin against MM-TS of the same mean."""

from __future__ import annotations

from pathlib import Path

from tauten.recipes.emoji import Schedule
from tauten.spec import ControlSpec
from tauten.training import (
    Config,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimConfig,
    specs,
)

EPOCHS = 20.0

#: the published settings for EPIC-KITCHENS-100, whose margins average 0.211 there
SCHEDULE = Schedule(alpha=0.2, shift=(0.17, 0.30))

SOURCE = "emoji_video:"


def _emoji_video(
    name: str, control: ControlSpec, output: Path | None, epochs: float, seed: int
) -> Config:
    """What both runs share: clips of 4 frames of 24 x 24 pixels, a frame tower, their mean."""
    return Config(
        name=name,
        control=control,
        data=DataConfig(
            source=SOURCE,
            label="label",
            frames=4,
            strip=8,
            image_size=24,
            relevancy="names",
        ),
        model=ModelConfig(text="words", channels=(32, 64, 128), grid=3, dim=256),
        loss=specs.loss("maxmargin"),
        optim=OptimConfig(epochs=epochs, batch_size=128, lr=3e-3),
        evaluation=EvaluationConfig(every=max(1.0, epochs / 5)),
        seed=seed,
        output=output or Path("runs") / name,
    )


def emoji_video_margin_constant(
    output: Path | None = None, epochs: float = EPOCHS, seed: int = 0
) -> Config:
    """Clips of emoji_video, max-margin, constant margin: the mean of the schedule; needs --data."""
    control = SCHEDULE.control("matched")
    return _emoji_video("emoji_video_margin_constant", control, output, epochs, seed)


def emoji_video_margin_mmts(
    output: Path | None = None, epochs: float = EPOCHS, seed: int = 0
) -> Config:
    """Clips of emoji_video, max-margin, MM-TS by class size and over time; needs --data."""
    return _emoji_video("emoji_video_margin_mmts", SCHEDULE.control("mmts"), output, epochs, seed)
