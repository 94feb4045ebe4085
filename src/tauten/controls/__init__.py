"""Controls: which temperature or margin each anchor, or each pair, has now."""

from tauten.controls.anchors import Anchors as Anchors
from tauten.controls.anchors import Direction as Direction
from tauten.controls.base import Control
from tauten.controls.base import as_control as as_control
from tauten.controls.cluster_shift import ClusterShift
from tauten.controls.cluster_shift import shuffled_counts as shuffled_counts
from tauten.controls.constant import Constant
from tauten.controls.distance import PairDistance
from tauten.controls.individual import Individual
from tauten.controls.learnable import Learnable
from tauten.controls.mmts import mmts
from tauten.controls.predicted import TaU, TempNet
from tauten.controls.schedules import Anneal, Cosine
from tauten.controls.separation import GLATE
from tauten.controls.similarity import MACL, DySTreSS, TeMo

__all__ = [
    "GLATE",
    "MACL",
    "Anneal",
    "ClusterShift",
    "Constant",
    "Control",
    "Cosine",
    "DySTreSS",
    "Individual",
    "Learnable",
    "PairDistance",
    "TaU",
    "TeMo",
    "TempNet",
    "mmts",
]
