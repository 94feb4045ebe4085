"""Temperature and margin control for contrastive learning on long-tailed data."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tauten.controls import (
    MACL,
    Anneal,
    ClusterShift,
    Constant,
    Control,
    Cosine,
    DySTreSS,
    Individual,
    Learnable,
    PairDistance,
    TaU,
    TeMo,
    TempNet,
    mmts,
)
from tauten.extras import explained
from tauten.losses import (
    DCL,
    NUCLR,
    SMS,
    CompositionWarning,
    ContrastiveLoss,
    FastCLIP,
    Forces,
    InfoNCE,
    MaxMargin,
    NonFiniteLossError,
    SigLIP,
    SogCLR,
    SupCon,
    UsageWarning,
    forces,
    iSogCLR,
)
from tauten.state import SampleTable

if TYPE_CHECKING:
    from tauten import (
        candidates,
        data,
        evaluation,
        models,
        recipes,
        report,
        structure,
        terms,
        training,
    )

__version__ = "0.1.0"

_LAZY = (
    "candidates",
    "comparison",
    "data",
    "evaluation",
    "models",
    "recipes",
    "report",
    "structure",
    "terms",
    "training",
)

__all__ = [
    "DCL",
    "MACL",
    "NUCLR",
    "SMS",
    "Anneal",
    "ClusterShift",
    "CompositionWarning",
    "Constant",
    "ContrastiveLoss",
    "Control",
    "Cosine",
    "DySTreSS",
    "FastCLIP",
    "Forces",
    "Individual",
    "InfoNCE",
    "Learnable",
    "MaxMargin",
    "NonFiniteLossError",
    "PairDistance",
    "SampleTable",
    "SigLIP",
    "SogCLR",
    "SupCon",
    "TaU",
    "TeMo",
    "TempNet",
    "UsageWarning",
    "candidates",
    "comparison",
    "data",
    "evaluation",
    "forces",
    "iSogCLR",
    "mmts",
    "models",
    "recipes",
    "report",
    "structure",
    "terms",
    "training",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        try:
            return import_module(f"tauten.{name}")
        except ModuleNotFoundError as error:
            raise explained(f"tauten.{name}", error) from error
    raise AttributeError(f"module 'tauten' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
