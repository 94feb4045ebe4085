"""The result of clustering: who belongs where, how large each cluster is, where its centre lies."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tauten.files import replacing
from tauten.structure.extras import require

_METADATA_KEY = b"tauten.clusters"


@dataclass(frozen=True)
class Clusters:
    """A partition of N samples into k clusters, largest first.

    Attributes:
        assignment: (N,) int64, cluster of each sample, in [0, k).
        counts: (k,) int64, samples in each cluster, at least 1 and descending.
        per_sample_counts: (N,) int64, `counts[assignment]`: what `tauten.ClusterShift` takes.
        centroids: (k, d) float32, rows of norm 1.
    """

    assignment: Tensor
    counts: Tensor
    per_sample_counts: Tensor
    centroids: Tensor

    @classmethod
    def from_assignment(cls, assignment: Tensor, centroids: Tensor) -> "Clusters":
        """Count the members of each cluster and number the clusters by size, largest first.

        Args:
            assignment: (N,) integer cluster of each sample, in [0, k).
            centroids: (k, d) centre of each cluster.

        Raises:
            ValueError: a cluster number outside [0, k), or a cluster without members.
        """
        k = len(centroids)
        if len(assignment) == 0 or int(assignment.min()) < 0 or int(assignment.max()) >= k:
            span = f"{assignment.min()}..{assignment.max()}" if len(assignment) else "nothing"
            raise ValueError(f"cluster numbers must lie in 0..{k - 1}, got {span}")
        counts = torch.bincount(assignment, minlength=k)
        empty = (counts == 0).nonzero().flatten().tolist()
        if empty:
            raise ValueError(f"{len(empty)} of {k} clusters have no member, first: {empty[0]}")
        order = counts.argsort(descending=True, stable=True)
        rank = torch.empty_like(order)
        rank[order] = torch.arange(k)
        assignment, counts = rank[assignment], counts[order]
        return cls(assignment, counts, counts[assignment], centroids[order].float())

    @property
    def k(self) -> int:
        """Number of clusters."""
        return len(self.counts)

    def save(
        self,
        path: str | Path,
        captions: Sequence[str] | None = None,
        notes: Mapping[str, str | int] | None = None,
    ) -> None:
        """Write a parquet file with the columns index, caption (if given), cluster and count.

        The centroids are kept in the file's key-value metadata, so that `load` gives back an equal
        object.

        Args:
            path: file to write.
            captions: (N,) texts to keep beside the clusters.
            notes: how the clusters came about (model, seed, ...), kept in the metadata.

        Raises:
            ValueError: the number of captions is not N.
        """
        pa, pq = require("pyarrow"), require("pyarrow.parquet")
        if captions is not None and len(captions) != len(self.assignment):
            raise ValueError(f"{len(captions)} captions for {len(self.assignment)} samples")
        columns: dict[str, Any] = {"index": np.arange(len(self.assignment), dtype=np.int64)}
        if captions is not None:
            columns["caption"] = pa.array(captions, pa.string())
        columns["cluster"] = self.assignment.numpy()
        columns["count"] = self.per_sample_counts.numpy()
        centroids = self.centroids.contiguous().numpy().astype("<f4")
        metadata = {
            "notes": dict(notes or {}),
            "shape": list(centroids.shape),
            "centroids": base64.b64encode(centroids.tobytes()).decode("ascii"),
        }
        table = pa.table(columns)
        with replacing(path) as file, pq.ParquetWriter(file, table.schema) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata({_METADATA_KEY: json.dumps(metadata)})

    @classmethod
    def load(cls, path: str | Path) -> "Clusters":
        """Read what `save` wrote.

        Raises:
            ValueError: the file is no parquet file of clusters.
        """
        pa, pq = require("pyarrow"), require("pyarrow.parquet")
        try:
            with pq.ParquetFile(path) as file:
                table, stored = file.read(), (file.metadata.metadata or {}).get(_METADATA_KEY)
        except pa.ArrowInvalid as error:
            raise ValueError(f"{path} is not a readable parquet file: {error}") from error
        if stored is None:
            raise ValueError(
                f"{path} holds no clusters (columns: {', '.join(table.column_names)}); "
                "write it with Clusters.save or `tauten cluster`"
            )
        try:
            metadata = json.loads(stored)
            flat = np.frombuffer(base64.b64decode(metadata["centroids"]), "<f4").astype(np.float32)
            centroids = torch.from_numpy(flat.reshape(metadata["shape"]))
            assignment = torch.from_numpy(table["cluster"].to_numpy().astype(np.int64))
            counts = torch.bincount(assignment, minlength=len(centroids))
            if len(counts) > len(centroids):
                raise ValueError(f"{len(centroids)} centroids for {len(counts)} clusters")
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} is damaged: clusters and centroids do not agree; cluster again"
            ) from error
        return cls(assignment, counts, counts[assignment], centroids)
