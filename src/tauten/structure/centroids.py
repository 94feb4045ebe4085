"""Fit of the centroids of spherical k-means: greedy k-means++, rounds of Lloyd, several starts."""

from typing import Any

import numpy as np
import numpy.typing as npt

from tauten.structure.unit_rows import Floats, Ints

_SEED_BUDGET = 2_000_000_000
_SAME_POINT = 1e-6


def best_fit(
    faiss: Any,
    tqdm: Any,
    x: Floats,
    k: int,
    iterations: int,
    starts: int,
    rng: np.random.Generator,
    progress: bool,
) -> Floats:
    """Return the centroids of the best of several starts."""
    best, most = np.empty((0, 0), np.float32), -np.inf
    for start in range(starts):
        centroids = _plus_plus(x[draw(len(x), _seed_points(k), rng)], k, rng)
        label = f"k-means, start {start + 1} of {starts}" if starts > 1 else "k-means"
        for _ in tqdm.trange(iterations, desc=label, disable=not progress):
            before, centroids = centroids, _lloyd(faiss, x, centroids)
            if np.array_equal(before, centroids):
                break
        near = -np.inf if starts == 1 else _nearness(faiss, x, centroids)
        if start == 0 or near > most:
            best, most = centroids, near
    return best


def _nearness(faiss: Any, x: Floats, centroids: Floats) -> float:
    """Return the mean cosine of the rows to their centroids."""
    index = faiss.IndexFlatIP(centroids.shape[1])
    index.add(centroids)
    return float(index.search(x, 1)[0].mean(dtype=np.float64))


def draw(rows: int, most: int, rng: np.random.Generator) -> range | Ints:
    """Return at most so many rows, drawn at random and in their order."""
    if rows <= most:
        return range(rows)
    drawn: Ints = np.sort(rng.choice(rows, most, replace=False))
    return drawn


def _plus_plus(x: Floats, k: int, rng: np.random.Generator) -> Floats:
    """Choose centroids by greedy k-means++: of a few drawn rows, the most useful stays."""
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
    """Return how many rows to start from: 32 per cluster, fewer where that gets slow."""
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
