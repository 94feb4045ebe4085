"""Towers by the name of their kind, as a checkpoint describes them."""

from __future__ import annotations

from typing import Any

from tauten.models.bag import BagTower
from tauten.models.convolutional import ConvTower
from tauten.models.efficientnet import EfficientNetLite
from tauten.models.features import FeatureTower
from tauten.models.hf_image import HFImageTower
from tauten.models.hf_text import HFTextTower
from tauten.models.resnet import ResNetTower
from tauten.models.space_time import SpaceTimeViT
from tauten.models.tower import Description, Tower
from tauten.models.video import VideoTower


def build_tower(description: Description) -> Tower:
    """Build the tower that :meth:`Tower.describe` described, with random weights.

    Raises:
        ValueError: a kind that is not known.
    """
    arguments = {name: value for name, value in description.items() if name != "kind"}
    kinds: dict[str, Any] = {
        "convolutional": ConvTower,
        "bag": BagTower,
        "efficientnet-lite0": EfficientNetLite,
        "features": FeatureTower,
        "resnet": ResNetTower,
        "huggingface-image": HFImageTower.from_description,
        "huggingface-text": HFTextTower.from_description,
        "video": _video,
        "space-time": SpaceTimeViT,
    }
    if description["kind"] not in kinds:
        raise ValueError(f"unknown tower {description['kind']!r}, known are {sorted(kinds)}")
    tower: Tower = kinds[description["kind"]](**arguments)
    return tower


def _video(image: Description, **arguments: Any) -> Tower:
    return VideoTower(build_tower(image), **arguments)
