"""Sentences without labels: two random views of one sentence are a pair.

Captions of MSCOCO; a sentence is to find the other sentences about its photo.
"""

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

_row = partial(
    Recipe,
    epochs=4.0,
    options="--data coco_sentences:FOLDER",
    data="captions_val2017.json of MSCOCO (annotations_trainval2017); photos are not needed.",
    choice="all but τ = 0.05: a bag of words, 4 epochs, batch 256.",
)


def _sentences(epochs: float, queue: int = 0, momentum: float = 0.999) -> Config:
    options = {"queue": queue, "momentum": momentum} if queue else {}
    return Config(
        control=specs.control("constant", value=0.05),
        data=DataConfig(
            source="coco_sentences:",
            texts=True,
            image="sentence",
            caption="sentence",
            label="label",
        ),
        model=ModelConfig(text_width=256, dim=256, max_tokens=64),
        loss=specs.loss("infonce", **options),
        optim=OptimConfig(epochs=epochs, batch_size=256, lr=2e-3),
        evaluation=EvaluationConfig(every=max(1.0, epochs / 4), metric="x2y/mAP"),
    )


def _crops(config: Config) -> Config:
    """Show spans of half to all words, a tenth of them left out (Contriever: 10 to 50 %)."""
    config.data.span_low, config.data.span_high, config.data.left_out = 0.5, 1.0, 0.1
    return config


@partial(_row, remark="it is the baseline of the other recipes of sentences.")
def sentences_crop(epochs: float) -> Config:
    """MSCOCO captions, two random crops of a sentence as a pair, InfoNCE on the batch."""
    return _crops(_sentences(epochs))


@partial(
    _row,
    settings="τ = 0.05, crops, a queue and a momentum encoder (Contriever).",
    choice="as of sentences_crop; a queue of 4,096 keys of each side where the paper has 131,072, "
    "momentum 0.99, cosines where it has dot products.",
)
def sentences_contriever(epochs: float) -> Config:
    """MSCOCO captions, random crops, with queues and a momentum encoder (Contriever)."""
    return _crops(_sentences(epochs, queue=4096, momentum=0.99))


@partial(
    _row,
    settings="τ = 0.05, repeated words, a queue of 2.5 batches, momentum 0.995 (ESimCSE).",
    choice="as of sentences_crop; a bag of words has no dropout, which is ESimCSE's other view.",
)
def sentences_esimcse(epochs: float) -> Config:
    """MSCOCO captions, repeated words, with queues and a momentum encoder (ESimCSE)."""
    config = _sentences(epochs, queue=640, momentum=0.995)
    config.data.repeated = 0.32
    return config
