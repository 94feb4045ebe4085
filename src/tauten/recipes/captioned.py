"""Training on YouCook2, Flickr30K and MSCOCO themselves: MM-TS and its matched constant.

Little of the published settings is known, so most of these are our own. Images are held in memory:
Flickr30K 6 GB, MSCOCO 24 GB at 256 pixels. Clips of YouCook2 are decoded batch by batch: they would
take 12 GB at 8 frames of 224 pixels.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

from tauten.recipes.recipe import Recipe
from tauten.training import (
    Config,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimConfig,
    specs,
)

CLUSTERS = 200
MMTS = {"alpha": 0.04, "shift_low": 0.04, "shift_high": 0.08, "oscillations": 5.0}
CLIP = "openai/clip-vit-base-patch32"
ZERO_SHOT = "the paper's rows are zero-shot, see cc3m_mmts."
_youcook2_row = partial(Recipe, epochs=10.0, options="--data youcook2:FOLDER")
_flickr30k_row = partial(Recipe, epochs=20.0, options="--data flickr30k:FOLDER")
_coco_row = partial(Recipe, epochs=20.0, options="--data coco:FOLDER")


def _youcook2(epochs: float, kind: str) -> Config:
    """Configure eight frames of each clip through CLIP's ViT-B/32, their mean, CLIP's texts."""
    return Config(
        control=specs.control(kind, **MMTS),
        data=DataConfig(source="youcook2:", frames=8, image_size=224, clusters=CLUSTERS),
        model=ModelConfig(image=CLIP, text=CLIP, dim=512, augment=False),
        optim=OptimConfig(epochs=epochs, batch_size=64, lr=1e-3, tower_lr=1e-5, warmup=0.1),
        evaluation=EvaluationConfig(every=1.0),
    )


def _photos(epochs: float, kind: str, data: str, protocol: Literal["1k", "5k"]) -> Config:
    """Configure the towers of the rows on CC3M."""
    return Config(
        control=specs.control(kind, **MMTS),
        data=DataConfig(source=f"{data}:", protocol=protocol, image_size=256, clusters=CLUSTERS),
        model=ModelConfig(
            image="microsoft/resnet-50",
            text="distilbert/distilbert-base-uncased",
            text_pooling="first",
            max_tokens=30,
            dim=256,
        ),
        optim=OptimConfig(epochs=epochs, batch_size=256, lr=1e-3, tower_lr=5e-5, warmup=0.1),
        evaluation=EvaluationConfig(every=1.0),
    )


@partial(
    _youcook2_row,
    data="the annotations and videos of YouCook2; the report says which part of the validation "
    "clips there is.",
    published="text→video R@1 53.0, R@5 77.1, R@10 84.5, with VAST",
    source="README of MM-TS",
    remark="VAST is a larger model that also hears and reads subtitles, and is not part of tauten. "
    "Text→video is y2x.",
    settings="none is known to us.",
    choice="all: CLIP ViT-B/32 with the mean over 8 frames, 10 epochs, batch 64, 200 clusters, "
    "amplitude 0.04, shift 0.04 to 0.08.",
)
def youcook2_mmts(epochs: float) -> Config:
    """YouCook2 clips and sentences, MM-TS: τ by the size of the caption cluster and over time."""
    return _youcook2(epochs, "mmts")


@partial(
    _youcook2_row,
    data="that of youcook2_mmts.",
    remark="it is the fair control of youcook2_mmts.",
)
def youcook2_matched(epochs: float) -> Config:
    """YouCook2 clips and sentences, the constant equal to the mean of youcook2_mmts."""
    return _youcook2(epochs, "matched")


@partial(
    _flickr30k_row,
    data="Flickr30K with Karpathy's splits, five captions each.",
    remark=ZERO_SHOT,
    choice="all: ResNet-50 of ImageNet and DistilBERT with rate 5e-5, projections 1e-3, 20 epochs, "
    "batch 256, 200 clusters, amplitude 0.04, shift 0.04 to 0.08.",
)
def flickr30k_mmts(epochs: float) -> Config:
    """Flickr30K, trained and tested on it, MM-TS with caption clusters."""
    return _photos(epochs, "mmts", "flickr30k", "1k")


@partial(
    _flickr30k_row,
    data="that of flickr30k_mmts.",
    remark="it is the fair control of flickr30k_mmts.",
)
def flickr30k_matched(epochs: float) -> Config:
    """Flickr30K, trained and tested on it, the constant equal to the mean of flickr30k_mmts."""
    return _photos(epochs, "matched", "flickr30k", "1k")


@partial(
    _coco_row,
    data="MSCOCO with Karpathy's splits; --data.protocol 1k-of-5k for the mean over five "
    "thousands.",
    remark=ZERO_SHOT,
    choice="that of flickr30k_mmts.",
)
def coco_mmts(epochs: float) -> Config:
    """MSCOCO, trained and tested on it, MM-TS with caption clusters."""
    return _photos(epochs, "mmts", "coco", "5k")


@partial(
    _coco_row,
    data="that of coco_mmts.",
    remark="it is the fair control of coco_mmts.",
)
def coco_matched(epochs: float) -> Config:
    """MSCOCO, trained and tested on it, the constant equal to the mean of coco_mmts."""
    return _photos(epochs, "matched", "coco", "5k")
