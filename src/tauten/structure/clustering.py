"""Spherical k-means on faiss: seeded, without empty clusters.

Shapes: N samples, k clusters, d dimensions.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tauten.structure.clusters import Clusters
from tauten.structure.embed import check_captions, embed_captions
from tauten.structure.extras import require

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

_SEED_BUDGET = 2_000_000_000
_SAME_POINT = 1e-6


def caption_clusters(
    captions: Sequence[str],
    k: int,
    seed: int = 0,
    *,
    model: str = "minilm",
    iterations: int = 20,
    batch_size: int = 256,
    progress: bool = True,
) -> Clusters:
    """Cluster captions by meaning: sentence embeddings, then k-means.

    This is where MM-TS takes its densities from when the data has no class labels: the size of a
    caption's cluster stands for how common its content is.

    Args:
        captions: N texts; equal texts land in the same cluster.
        k: number of clusters, 2 <= k <= distinct captions.
        seed: of the k-means. Same captions, k and seed on the same machine: same result.
        model: sentence encoder, see `embed_captions`.
        iterations: most rounds of k-means.
        batch_size: captions per forward pass of the encoder.
        progress: show progress bars.

    Returns:
        The clusters, each with at least one caption, largest first.

    Raises:
        ValueError: k out of range, no captions, blank captions, unknown model.
        ImportError: the extra `structure` is not installed.
    """
    check_captions(captions)
    _check_k(k, len(captions), len(set(captions)), "captions")
    embeddings = embed_captions(captions, model, batch_size, progress)
    return kmeans(embeddings, k, seed, iterations=iterations, progress=progress)


def kmeans(
    embeddings: Tensor,
    k: int,
    seed: int = 0,
    *,
    iterations: int = 20,
    max_points_per_centroid: int = 256,
    progress: bool = False,
) -> Clusters:
    """Spherical k-means: rows and centroids have norm 1, a row joins its most similar centroid.

    Started by greedy k-means++ (Arthur and Vassilvitskii, SODA 2007). A cluster that would end
    empty gets as centroid the row farthest from its own one, so that every count is at least 1.

    Args:
        embeddings: (N, d) floats, finite, no zero row; scaled to norm 1 here.
        k: number of clusters, 2 <= k <= distinct rows.
        seed: of the start and of the subsample.
        iterations: most rounds; fewer when the centroids stop moving.
        max_points_per_centroid: centroids are fitted on at most this times k rows, drawn at
            random; all rows are assigned.
        progress: show a progress bar.

    Returns:
        The clusters, largest first.

    Raises:
        ValueError: k out of range, wrong shape, a row that is zero or not finite.
        ImportError: the extra `structure` is not installed.
    """
    if iterations < 1 or max_points_per_centroid < 1:
        raise ValueError(
            "iterations and max_points_per_centroid must be at least 1, "
            f"got {iterations} and {max_points_per_centroid}"
        )
    x = _unit_rows(embeddings)
    _check_k(k, len(x), len({row.tobytes() for row in x}), "embeddings")
    faiss, tqdm = require("faiss"), require("tqdm")
    rng = np.random.default_rng(seed)
    fit = _sample(x, k * max_points_per_centroid, rng)
    centroids = _plus_plus(_sample(fit, _seed_points(k), rng), k, rng)
    for _ in tqdm.trange(iterations, desc="k-means", disable=not progress):
        before, centroids = centroids, _lloyd(faiss, fit, centroids)
        if np.array_equal(before, centroids):
            break
    assignment, centroids = _assign_all(faiss, x, centroids)
    return Clusters.from_assignment(torch.from_numpy(assignment), torch.from_numpy(centroids))


def _check_k(k: int, samples: int, distinct: int, noun: str) -> None:
    if k < 2:
        raise ValueError(f"k must be at least 2, got {k}")
    if k > samples:
        raise ValueError(f"k = {k} clusters from {samples} {noun}: lower k to at most {samples}")
    if k > distinct:
        raise ValueError(
            f"k = {k} clusters from {samples} {noun} of which only {distinct} are distinct: "
            f"lower k to at most {distinct}"
        )


def _unit_rows(embeddings: Tensor) -> Floats:
    if embeddings.ndim != 2:
        raise ValueError(f"embeddings must be (N, d), got shape {tuple(embeddings.shape)}")
    x = embeddings.detach().cpu().double()
    bad = (~x.isfinite().all(dim=1)).nonzero().flatten().tolist()
    if bad:
        raise ValueError(f"{len(bad)} embeddings are not finite, first: row {bad[0]}")
    norm = x.norm(dim=1, keepdim=True)
    zero = (norm.flatten() == 0).nonzero().flatten().tolist()
    if zero:
        raise ValueError(
            f"{len(zero)} embeddings are zero and have no direction, first: row {zero[0]}"
        )
    unit: Floats = np.ascontiguousarray((x / norm).float().numpy())
    return unit


def _sample(x: Floats, most: int, rng: np.random.Generator) -> Floats:
    if len(x) <= most:
        return x
    return np.ascontiguousarray(x[np.sort(rng.choice(len(x), most, replace=False))])


def _plus_plus(x: Floats, k: int, rng: np.random.Generator) -> Floats:
    """Greedy k-means++: of a few rows drawn with odds ~ squared distance, keep the most useful."""
    trials = _trials(k)
    chosen = [int(rng.integers(len(x)))]
    distance = _squared_distance(x, x[chosen])[0]
    for _ in range(k - 1):
        cumulative = distance.cumsum()
        draws = rng.random(trials) * cumulative[-1]
        rows = np.searchsorted(cumulative, draws, side="right").clip(max=len(x) - 1)
        closer = np.minimum(distance, _squared_distance(x, x[rows]))
        best = int(closer.sum(axis=1).argmin())
        chosen.append(int(rows[best]))
        distance = closer[best]
    centroids: Floats = x[chosen].copy()
    return centroids


def _seed_points(k: int) -> int:
    """Rows to draw the start from: 32 per cluster, fewer where that gets slow."""
    return max(4 * k, min(32 * k, _SEED_BUDGET // (k * _trials(k))))


def _trials(k: int) -> int:
    return 2 + int(np.log(k))


def _squared_distance(x: Floats, centres: Floats) -> npt.NDArray[np.float64]:
    distance: npt.NDArray[np.float64] = 2 - 2 * (centres @ x.T).astype(np.float64)
    distance[distance < _SAME_POINT] = 0.0
    return distance


def _lloyd(faiss: Any, x: Floats, centroids: Floats) -> Floats:
    k, d = centroids.shape
    step = faiss.Kmeans(
        d,
        k,
        niter=1,
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=len(x),
    )
    step.train(x, init_centroids=centroids)
    moved: Floats = np.array(step.centroids, dtype=np.float32).reshape(k, d)
    return moved


def _assign_all(faiss: Any, x: Floats, centroids: Floats) -> tuple[Ints, Floats]:
    """Assign every row; move the centroids of empty clusters to the rows that fit worst.

    A round places at least one centroid on a row of its own, which keeps it from being empty again:
    at most k rounds are needed.
    """
    k = len(centroids)
    for _ in range(k + 1):
        index = faiss.IndexFlatIP(centroids.shape[1])
        index.add(centroids)
        similarity, nearest = index.search(x, 1)
        assignment: Ints = nearest[:, 0].astype(np.int64)
        empty = np.flatnonzero(np.bincount(assignment, minlength=k) == 0)
        if len(empty) == 0:
            return assignment, centroids
        worst = np.argsort(similarity[:, 0], kind="stable")[: len(empty)]
        centroids = centroids.copy()
        centroids[empty] = x[worst]
    raise ValueError(
        f"{len(empty)} of k = {k} clusters stay empty: the embeddings are too close to each other "
        f"to be told apart; lower k to at most {k - len(empty)}"
    )
