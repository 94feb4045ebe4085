"""Contrastive losses, each a function of reductions over the pair matrix."""

from tauten.losses.amcl import AMCL
from tauten.losses.base import ContrastiveLoss
from tauten.losses.cacr import CACR
from tauten.losses.composition import CompositionWarning
from tauten.losses.dcl import DCL
from tauten.losses.dclw import DCLW
from tauten.losses.decoupled import DecoupledSoftmax
from tauten.losses.dro import DRO
from tauten.losses.fastclip import FastCLIP
from tauten.losses.finite import NonFiniteLossError
from tauten.losses.forces import Forces, forces
from tauten.losses.gram import GRAM
from tauten.losses.infonce import InfoNCE
from tauten.losses.isogclr import iSogCLR
from tauten.losses.mann_whitney import MannWhitney
from tauten.losses.max_margin import MaxMargin
from tauten.losses.multi_view import MVDHEL, MVInfoNCE
from tauten.losses.neuclip import NeuCLIP
from tauten.losses.nuclr import NUCLR
from tauten.losses.palm import PALM
from tauten.losses.relative_siglip import RelativeSigLIP
from tauten.losses.siglip import SigLIP
from tauten.losses.simlap import PairGate, SimLAP
from tauten.losses.sms import SMS
from tauten.losses.soft_top_k import SoftTopK
from tauten.losses.sogclr import SogCLR
from tauten.losses.supcon import SupCon
from tauten.losses.supremix import SupReMix
from tauten.losses.swav import SwAV
from tauten.losses.traps import UsageWarning
from tauten.losses.two_views import PairedMVDHEL, PairedMVInfoNCE
from tauten.losses.z_loss import ZLoss

__all__ = [
    "AMCL",
    "CACR",
    "DCL",
    "DCLW",
    "DRO",
    "GRAM",
    "MVDHEL",
    "NUCLR",
    "PALM",
    "SMS",
    "CompositionWarning",
    "ContrastiveLoss",
    "DecoupledSoftmax",
    "FastCLIP",
    "Forces",
    "InfoNCE",
    "MVInfoNCE",
    "MannWhitney",
    "MaxMargin",
    "NeuCLIP",
    "NonFiniteLossError",
    "PairGate",
    "PairedMVDHEL",
    "PairedMVInfoNCE",
    "RelativeSigLIP",
    "SigLIP",
    "SimLAP",
    "SoftTopK",
    "SogCLR",
    "SupCon",
    "SupReMix",
    "SwAV",
    "UsageWarning",
    "ZLoss",
    "forces",
    "iSogCLR",
]
