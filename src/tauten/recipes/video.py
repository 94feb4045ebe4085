"""Max-margin on clips: a constant margin against MM-TS of the same mean."""

from __future__ import annotations

from functools import partial

from tauten.recipes.emoji import Schedule
from tauten.recipes.recipe import Recipe
from tauten.spec import ControlSpec
from tauten.training import (
    Config,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimConfig,
    specs,
)

#: the published settings for EPIC-KITCHENS-100, whose margins average 0.211 there
SCHEDULE = Schedule(alpha=0.2, shift=(0.17, 0.30))


def _emoji_video(epochs: float, control: ControlSpec) -> Config:
    """Configure clips of 4 frames of 24 x 24 pixels, a frame tower, their mean."""
    return Config(
        control=control,
        data=DataConfig(
            source="emoji_video:",
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
    )


@partial(Recipe, epochs=20.0)
def emoji_video_margin_constant(epochs: float) -> Config:
    """Clips of emoji_video, max-margin, constant margin: the mean of the schedule; needs --data."""
    return _emoji_video(epochs, SCHEDULE.control("matched"))


@partial(Recipe, epochs=20.0)
def emoji_video_margin_mmts(epochs: float) -> Config:
    """Clips of emoji_video, max-margin, MM-TS by class size and over time; needs --data."""
    return _emoji_video(epochs, SCHEDULE.control("mmts"))
