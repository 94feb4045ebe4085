"""Dual encoders: any two Hugging Face towers, or small built-ins that learn on two CPU cores."""

from tauten.models.augmentation import Augmentation, RandomColor
from tauten.models.bag import BagTower
from tauten.models.convolutional import ConvTower
from tauten.models.dual_encoder import DualEncoder
from tauten.models.efficientnet import EfficientNetLite
from tauten.models.huggingface import HFImageTower, HFTextTower, HFTokenizer, pool
from tauten.models.resnet import ResNetTower
from tauten.models.tokenizers import BagTokenizer, Tokenizer, load_tokenizer

__all__ = [
    "Augmentation",
    "BagTokenizer",
    "BagTower",
    "ConvTower",
    "DualEncoder",
    "EfficientNetLite",
    "HFImageTower",
    "HFTextTower",
    "HFTokenizer",
    "RandomColor",
    "ResNetTower",
    "Tokenizer",
    "load_tokenizer",
    "pool",
]
