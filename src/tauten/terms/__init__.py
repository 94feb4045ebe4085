"""Terms that are added to a contrastive loss and have no pair of sides of their own."""

from tauten.terms.alignment import Alignment
from tauten.terms.constraint import Constraint
from tauten.terms.cross_correlation import CrossCorrelation
from tauten.terms.deviation import Deviation, PrototypeHinge
from tauten.terms.distillation import Distillation
from tauten.terms.graded import Pearson, PreferenceOrder, RankKL
from tauten.terms.joint_entropy import JointEntropy
from tauten.terms.koleo import KoLeo
from tauten.terms.mixed_pairs import MixedPairs, mixtures
from tauten.terms.partial_auc import PartialAUC
from tauten.terms.pixels import PixelConsistency, PixelPropagation, pixel_centres
from tauten.terms.triplet import TripletQueries
from tauten.terms.uniformity import CrossUniformity, Uniformity

__all__ = [
    "Alignment",
    "Constraint",
    "CrossCorrelation",
    "CrossUniformity",
    "Deviation",
    "Distillation",
    "JointEntropy",
    "KoLeo",
    "MixedPairs",
    "PartialAUC",
    "Pearson",
    "PixelConsistency",
    "PixelPropagation",
    "PreferenceOrder",
    "PrototypeHinge",
    "RankKL",
    "TripletQueries",
    "Uniformity",
    "mixtures",
    "pixel_centres",
]
