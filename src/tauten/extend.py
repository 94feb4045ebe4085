"""All that a control, a loss or a reduction of one's own needs.

A loss overrides :meth:`ContrastiveLoss.anchor_losses`. A control overrides :meth:`Control.values`
and :meth:`Control.range`. A spec gives either a name and options on the command line: import the
file by ``--plugin FILE.py``.
"""

from tauten.controls.anchors import Anchors, Direction
from tauten.controls.base import BatchControl, Control
from tauten.losses.base import ContrastiveLoss
from tauten.losses.batch import Batch, along
from tauten.losses.composition import Composition, Doubtful, Refused
from tauten.losses.partition import logits_lse
from tauten.pairwise import Number, PairNumber, Reduction, Term, reciprocal
from tauten.spec import (
    Context,
    ControlSpec,
    Level,
    LossSpec,
    Periods,
    Range,
    Rate,
    Share,
    Similarity,
)

__all__ = [
    "Anchors",
    "Batch",
    "BatchControl",
    "Composition",
    "Context",
    "ContrastiveLoss",
    "Control",
    "ControlSpec",
    "Direction",
    "Doubtful",
    "Level",
    "LossSpec",
    "Number",
    "PairNumber",
    "Periods",
    "Range",
    "Rate",
    "Reduction",
    "Refused",
    "Share",
    "Similarity",
    "Term",
    "along",
    "logits_lse",
    "reciprocal",
]
