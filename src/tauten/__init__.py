"""Temperature and margin control for contrastive learning on long-tailed data."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tauten.controls import Anneal, ClusterShift, Constant, Control, Cosine, Learnable, mmts
from tauten.losses import (
    DCL,
    ContrastiveLoss,
    InfoNCE,
    MaxMargin,
    NonFiniteLossError,
    SigLIP,
    SogCLR,
    iSogCLR,
)
from tauten.state import SampleTable

if TYPE_CHECKING:
    from tauten import data, evaluation, models, recipes, report, structure, training

__version__ = "0.1.0"

_LAZY = ("data", "evaluation", "models", "recipes", "report", "structure", "training")

__all__ = [
    "DCL",
    "Anneal",
    "ClusterShift",
    "Constant",
    "ContrastiveLoss",
    "Control",
    "Cosine",
    "InfoNCE",
    "Learnable",
    "MaxMargin",
    "NonFiniteLossError",
    "SampleTable",
    "SigLIP",
    "SogCLR",
    "data",
    "evaluation",
    "iSogCLR",
    "mmts",
    "models",
    "recipes",
    "report",
    "structure",
    "training",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return import_module(f"tauten.{name}")
    raise AttributeError(f"module 'tauten' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
