"""Dual encoders: any two Hugging Face towers, or small built-ins that learn on two CPU cores."""

from typing import TYPE_CHECKING

from tauten.extras import need
from tauten.lazy import attach

need("tauten.models", "numpy", "transformers")

if TYPE_CHECKING:
    from tauten.models.augmentation import Augmentation, RandomColor
    from tauten.models.augmentation_options import ViewConfig
    from tauten.models.background import mix_backgrounds
    from tauten.models.bag import BagTower
    from tauten.models.convolutional import ConvTower
    from tauten.models.dual_encoder import DualEncoder
    from tauten.models.efficientnet import EfficientNetLite
    from tauten.models.features import FeatureTower
    from tauten.models.hf_image import HFImageTower
    from tauten.models.hf_text import HFTextTower
    from tauten.models.hf_tokenizer import HFTokenizer
    from tauten.models.pooling import pool
    from tauten.models.published import load_published
    from tauten.models.resnet import ResNetTower
    from tauten.models.space_time import SpaceTimeViT
    from tauten.models.text_encoder import TextEncoder
    from tauten.models.tokenizers import BagTokenizer, Tokenizer, load_tokenizer
    from tauten.models.video import VideoTower
    from tauten.models.view_encoder import Projector, ViewEncoder

__all__ = [
    "Augmentation",
    "BagTokenizer",
    "BagTower",
    "ConvTower",
    "DualEncoder",
    "EfficientNetLite",
    "FeatureTower",
    "HFImageTower",
    "HFTextTower",
    "HFTokenizer",
    "Projector",
    "RandomColor",
    "ResNetTower",
    "SpaceTimeViT",
    "TextEncoder",
    "Tokenizer",
    "VideoTower",
    "ViewConfig",
    "ViewEncoder",
    "load_published",
    "load_tokenizer",
    "mix_backgrounds",
    "pool",
]

__getattr__ = attach(__name__, __file__)
