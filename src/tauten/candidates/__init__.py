"""Sources of keys beside the batch: a queue of earlier keys, a slowly moving encoder."""

from tauten.candidates.momentum import MomentumEncoder
from tauten.candidates.queue import KeyQueue

__all__ = ["KeyQueue", "MomentumEncoder"]
