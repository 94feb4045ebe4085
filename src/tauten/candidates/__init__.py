"""Sources of keys beside the batch: a queue of earlier keys, a slowly moving encoder."""

from tauten.candidates.keys import Keys
from tauten.candidates.momentum import MomentumEncoder
from tauten.candidates.queue import KeyQueue, PairQueue

__all__ = ["KeyQueue", "Keys", "MomentumEncoder", "PairQueue"]
