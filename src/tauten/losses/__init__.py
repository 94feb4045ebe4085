"""Contrastive losses, each a function of reductions over the pair matrix."""

from tauten.losses.base import ContrastiveLoss, NonFiniteLossError
from tauten.losses.dcl import DCL
from tauten.losses.infonce import InfoNCE
from tauten.losses.isogclr import iSogCLR
from tauten.losses.max_margin import MaxMargin
from tauten.losses.siglip import SigLIP
from tauten.losses.sogclr import SogCLR

__all__ = [
    "DCL",
    "ContrastiveLoss",
    "InfoNCE",
    "MaxMargin",
    "NonFiniteLossError",
    "SigLIP",
    "SogCLR",
    "iSogCLR",
]
