"""Pairs on disk, and one data set that comes with the package, as Hugging Face data sets.

Every data set has an integer column `index`, 0..n-1: the position that per-sample controls refer
to. Needs `pip install "tauten[train]"`.
"""

from tauten.extras import need

need("tauten.data", "numpy", "datasets", "pyarrow", "PIL")

from tauten.data.caption_sampling import CaptionSampler
from tauten.data.catalogue import Catalogue
from tauten.data.emoji import emoji_lt
from tauten.data.epic_kitchens import load_epic_kitchens, load_published_relevancy
from tauten.data.fingerprints import contents, fingerprint
from tauten.data.groups import count_groups
from tauten.data.pairs import load_pairs
from tauten.data.pixels import images
from tauten.data.problems import UnusableSampleError
from tauten.data.relevancy import Relevancy
from tauten.data.shard_index import index_shards
from tauten.data.shard_pairs import ShardPairs
from tauten.data.streaming import PairStream
from tauten.structure.counts import class_counts

__all__ = [
    "CaptionSampler",
    "Catalogue",
    "PairStream",
    "Relevancy",
    "ShardPairs",
    "UnusableSampleError",
    "class_counts",
    "contents",
    "count_groups",
    "emoji_lt",
    "fingerprint",
    "images",
    "index_shards",
    "load_epic_kitchens",
    "load_pairs",
    "load_published_relevancy",
]
