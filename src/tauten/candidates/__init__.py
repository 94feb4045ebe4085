"""Where keys come from beside the batch: a queue of earlier ones, a slowly moving encoder."""

from tauten.candidates.momentum import MomentumEncoder
from tauten.candidates.queue import KeyQueue

__all__ = ["KeyQueue", "MomentumEncoder"]
