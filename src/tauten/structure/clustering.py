"""Spherical k-means on faiss: seeded, without empty clusters, in memory or from a mapped file.

The rounds of Lloyd's algorithm are in :mod:`tauten.structure.centroids`.

Shapes: N samples, k clusters, d dimensions.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tauten.evaluation.checks import whole
from tauten.structure.assignment import Assignment, assign_all
from tauten.structure.centroids import best_fit, draw
from tauten.structure.clusters import Clusters
from tauten.structure.embed import check_captions, embed_captions
from tauten.structure.extras import require
from tauten.structure.unit_rows import UnitRows


def caption_clusters(
    captions: Sequence[str],
    k: int,
    seed: int = 0,
    *,
    model: str = "minilm",
    iterations: int = 20,
    starts: int = 4,
    batch_size: int = 256,
    progress: bool = True,
) -> Clusters:
    """Cluster captions by meaning: sentence embeddings, then k-means.

    This is where MM-TS takes its densities from when the data has no class labels: the size of a
    caption's cluster stands for how common its content is.

    Args:
        captions: N texts; equal texts land in the same cluster.
        k: number of clusters, 2 <= k <= distinct captions.
        seed: seed of the k-means. Same captions, k and seed on the same machine: same result.
        model: sentence encoder, see `embed_captions`.
        iterations: most rounds of k-means.
        starts: independent starts of k-means, of which the best is kept.
        batch_size: captions per forward pass of the encoder.
        progress: show progress bars.

    Returns:
        The clusters, each with at least one caption, largest first.

    Raises:
        ValueError: k out of range, no captions, blank captions, unknown model.
        ImportError: the extra `structure` is not installed.
    """
    return embedded_clusters(
        captions,
        k,
        seed,
        model=model,
        iterations=iterations,
        starts=starts,
        batch_size=batch_size,
        progress=progress,
    )[0]


def embedded_clusters(
    captions: Sequence[str],
    k: int,
    seed: int = 0,
    *,
    model: str = "minilm",
    iterations: int = 20,
    starts: int = 4,
    batch_size: int = 256,
    progress: bool = True,
) -> tuple[Clusters, Tensor]:
    """Return the result of `caption_clusters`, and the (N, d) embeddings of the captions."""
    whole(seed, "seed", 0)
    check_captions(captions)
    _check_k(k, len(captions), len(set(captions)), "captions")
    embeddings = embed_captions(captions, model, batch_size, progress)
    clusters = kmeans(embeddings, k, seed, iterations=iterations, starts=starts, progress=progress)
    return clusters, embeddings


def kmeans(
    embeddings: Tensor | npt.NDArray[Any],
    k: int,
    seed: int = 0,
    *,
    iterations: int = 20,
    starts: int = 4,
    max_points_per_centroid: int = 256,
    block: int = 65536,
    resume: str | Path | None = None,
    progress: bool = False,
) -> Clusters:
    """Cluster by spherical k-means: rows and centroids have norm 1, the most similar joins.

    Started by greedy k-means++ (Arthur and Vassilvitskii, SODA 2007) ``starts`` times; kept is the
    fit with the largest mean cosine of the rows it was fitted on to their centroids, the first of
    equal ones. One start may split the largest cluster and merge two small ones. The fit takes
    ``starts`` times as long as one; reading and assigning all rows takes the same. A cluster that
    would end empty gets as centroid the row farthest from its own one, so that every count is at
    least 1.

    Centroids are fitted on a sample in memory. Then all rows are read and assigned block by block,
    so that a memory-mapped array is never held as a whole; it gives the same clusters as the same
    rows in memory. A tensor is checked before the fit, an array while it is read.

    Args:
        embeddings: (N, d) floats, finite, no zero row; scaled to norm 1 here. A tensor, or an array
            such as `numpy.load(file, mmap_mode="r")`.
        k: number of clusters, 2 <= k <= distinct rows.
        seed: seed of the start and of the subsample.
        iterations: most rounds; fewer when the centroids stop moving.
        starts: independent starts, all drawn from ``seed``.
        max_points_per_centroid: centroids are fitted on at most this times k rows, drawn at
            random (faiss's rule, and its number); all rows are assigned.
        block: rows read and assigned at a time, rounded up to a multiple of 4096; the remainder
            joins the last block.
        resume: folder that keeps the centroids and, in 8 bytes a row, what is assigned. The same
            call goes on from there after an interruption. Delete it when it is no longer needed.
        progress: show progress bars.

    Returns:
        The clusters, largest first.

    Raises:
        ValueError: k out of range, wrong shape, a row that is zero or not finite, a folder `resume`
            that belongs to other inputs or keeps no clusters.
        ImportError: the extra `structure` is not installed.
    """
    for name, value in (
        ("iterations", iterations),
        ("starts", starts),
        ("max_points_per_centroid", max_points_per_centroid),
        ("block", block),
    ):
        whole(value, name, 1)
    whole(seed, "seed", 0)
    whole(k, "k")
    x = UnitRows(embeddings)
    _check_k(k, len(x), x.distinct(k), "embeddings")
    faiss, tqdm = require("faiss"), require("tqdm")
    inputs: dict[str, Any] = {}
    if resume is not None:
        inputs = {"k": k, "seed": seed, "iterations": iterations, **x.described()}
        inputs["starts"] = starts
        inputs["max_points_per_centroid"] = max_points_per_centroid
    assigned = Assignment(len(x), None if resume is None else Path(resume), inputs)
    if assigned.centroids is None:
        rng = np.random.default_rng(seed)
        fit = x[draw(len(x), k * max_points_per_centroid, rng)]
        centroids = best_fit(faiss, tqdm, fit, k, iterations, starts, rng, progress)
        del fit
        assigned.start(centroids)
    assignment, centroids = assign_all(faiss, x, assigned, block, progress)
    return Clusters.from_assignment(torch.from_numpy(assignment), torch.from_numpy(centroids))


def _check_k(k: int, samples: int, distinct: int, noun: str) -> None:
    whole(k, "k")
    if k < 2:
        raise ValueError(f"k must be at least 2, got {k}")
    if k > samples:
        raise ValueError(f"k = {k} clusters from {samples} {noun}: lower k to at most {samples}")
    if k > distinct:
        raise ValueError(
            f"k = {k} clusters from {samples} {noun} of which only {distinct} are distinct: "
            f"lower k to at most {distinct}"
        )
