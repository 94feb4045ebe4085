"""Pairs on disk, and one data set that comes with the package, as Hugging Face data sets.

Every data set has an integer column `index`, 0..n-1: the position that per-sample controls refer
to. Needs `pip install "tauten[train]"`.
"""

from tauten.data.emoji import emoji_lt
from tauten.data.fingerprints import fingerprint
from tauten.data.groups import count_groups
from tauten.data.pairs import load_pairs
from tauten.data.pixels import images
from tauten.structure.counts import class_counts

__all__ = ["class_counts", "count_groups", "emoji_lt", "fingerprint", "images", "load_pairs"]
