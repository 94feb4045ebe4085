"""The shape of the data: caption clusters, class counts and their long tail.

The counts found here are what `tauten.ClusterShift` takes. Only torch and numpy are needed to
import this package; k-means, embeddings, parquet and plots come with
`pip install "tauten[structure]"`.
"""

from tauten.structure.batches import ClusterBatches, refined
from tauten.structure.captions import cluster_file, read_captions
from tauten.structure.clustering import caption_clusters, kmeans
from tauten.structure.clusters import Clusters
from tauten.structure.counts import class_counts
from tauten.structure.embed import embed_captions
from tauten.structure.tail import plot_tail

__all__ = [
    "ClusterBatches",
    "Clusters",
    "caption_clusters",
    "class_counts",
    "cluster_file",
    "embed_captions",
    "kmeans",
    "plot_tail",
    "read_captions",
    "refined",
]
