"""Controls: which temperature or margin each anchor has now."""

from tauten.controls.base import Control, as_control
from tauten.controls.constant import Constant
from tauten.controls.density import ClusterShift, mmts
from tauten.controls.learnable import Learnable
from tauten.controls.schedules import Anneal, Cosine

__all__ = [
    "Anneal",
    "ClusterShift",
    "Constant",
    "Control",
    "Cosine",
    "Learnable",
    "as_control",
    "mmts",
]
