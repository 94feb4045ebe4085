"""Controls: which temperature or margin each anchor, or each pair, has now."""

from tauten.controls.anchors import Anchors, Direction
from tauten.controls.base import Control, as_control
from tauten.controls.constant import Constant
from tauten.controls.density import ClusterShift, mmts, shuffled_counts
from tauten.controls.distance import PairDistance
from tauten.controls.individual import Individual
from tauten.controls.learnable import Learnable
from tauten.controls.predicted import TaU, TempNet
from tauten.controls.schedules import Anneal, Cosine
from tauten.controls.similarity import MACL, DySTreSS, TeMo

__all__ = [
    "MACL",
    "Anchors",
    "Anneal",
    "ClusterShift",
    "Constant",
    "Control",
    "Cosine",
    "Direction",
    "DySTreSS",
    "Individual",
    "Learnable",
    "PairDistance",
    "TaU",
    "TeMo",
    "TempNet",
    "as_control",
    "mmts",
    "shuffled_counts",
]
