"""Spherical k-means on faiss: seeded, without empty clusters, in memory or from a mapped file.

Shapes: N samples, k clusters, d dimensions.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tauten.evaluation.checks import whole
from tauten.files import opened_arrays, write_npz
from tauten.structure.clusters import Clusters
from tauten.structure.embed import check_captions, embed_captions
from tauten.structure.extras import require

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

_SEED_BUDGET = 2_000_000_000
_SAME_POINT = 1e-6
_FAISS_BLOCK = 4096
_CHUNK = 512
_HASHED_ROWS = 1024
_CENTROIDS = "centroids.npz"
_COLUMNS = {"number.npy": np.int32, "similarity.npy": np.float32}


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
        seed: of the k-means. Same captions, k and seed on the same machine: same result.
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
        seed: of the start and of the subsample.
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
    x = _UnitRows(embeddings)
    _check_k(k, len(x), x.distinct(k), "embeddings")
    faiss, tqdm = require("faiss"), require("tqdm")
    inputs: dict[str, Any] = {}
    if resume is not None:
        inputs = {"k": k, "seed": seed, "iterations": iterations, **x.described()}
        inputs["starts"] = starts
        inputs["max_points_per_centroid"] = max_points_per_centroid
    kept = _Assignment(len(x), None if resume is None else Path(resume), inputs)
    if kept.centroids is None:
        rng = np.random.default_rng(seed)
        fit = x[_draw(len(x), k * max_points_per_centroid, rng)]
        centroids = _best_fit(faiss, tqdm, fit, k, iterations, starts, rng, progress)
        del fit
        kept.start(centroids)
    assignment, centroids = _assign_all(faiss, x, kept, block, progress)
    return Clusters.from_assignment(torch.from_numpy(assignment), torch.from_numpy(centroids))


def _best_fit(
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
        centroids = _plus_plus(x[_draw(len(x), _seed_points(k), rng)], k, rng)
        told = f"k-means, start {start + 1} of {starts}" if starts > 1 else "k-means"
        for _ in tqdm.trange(iterations, desc=told, disable=not progress):
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


class _UnitRows:
    """Embeddings as given; rows are checked and scaled to norm 1 when they are read."""

    def __init__(self, embeddings: Tensor | npt.NDArray[Any]) -> None:
        if not isinstance(embeddings, (Tensor, np.ndarray)):
            raise ValueError(
                f"embeddings must be a tensor or an array (N, d), not {type(embeddings).__name__}"
            )
        real = (
            not embeddings.is_complex()
            if isinstance(embeddings, Tensor)
            else np.issubdtype(embeddings.dtype, np.floating)
            or np.issubdtype(embeddings.dtype, np.integer)
        )
        if not real:
            raise ValueError(f"embeddings must hold real numbers, not {embeddings.dtype}")
        if embeddings.ndim != 2:
            raise ValueError(f"embeddings must be (N, d), got shape {tuple(embeddings.shape)}")
        self.source = embeddings.detach() if isinstance(embeddings, Tensor) else embeddings
        if isinstance(embeddings, Tensor):
            everything = range(len(self))
            norms = [self._doubles(chunk).norm(dim=1) for chunk in _blocks(everything, _CHUNK)]
            _check_norms(torch.cat(norms) if norms else torch.empty(0), everything)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, rows: range | Ints) -> Floats:
        """Return (n, d) float32 of norm 1, contiguous."""
        unit = torch.empty(len(rows), self.source.shape[1])
        norm = torch.empty(len(rows), 1, dtype=torch.float64)
        for part in _blocks(range(len(rows)), _CHUNK):
            here = slice(part.start, part.stop)
            x = self._doubles(rows[here])
            norm[here] = x.norm(dim=1, keepdim=True)
            unit[here] = x / norm[here]
        _check_norms(norm.flatten(), rows)
        result: Floats = unit.numpy()
        return result

    def distinct(self, enough: int) -> int:
        """Return the number of distinct rows; counting stops at `enough`."""
        seen: set[bytes] = set()
        for chunk in _blocks(range(len(self)), _FAISS_BLOCK):
            for row in self[chunk]:
                seen.add(row.tobytes())
                if len(seen) >= enough:
                    return len(seen)
        return len(seen)

    def described(self) -> dict[str, Any]:
        """Return shape, type and a hash of some rows."""
        some = np.unique(np.linspace(0, len(self) - 1, _HASHED_ROWS).astype(np.int64))
        digest = hashlib.sha256(self[some].tobytes()).hexdigest()
        return {"shape": list(self.source.shape), "dtype": str(self.source.dtype), "rows": digest}

    def _doubles(self, rows: range | Ints) -> Tensor:
        found = self.source[slice(rows.start, rows.stop) if isinstance(rows, range) else rows]
        found = found if isinstance(found, Tensor) else torch.from_numpy(np.array(found))
        return found.cpu().double()


def _check_norms(norms: Tensor, rows: range | Ints) -> None:
    bad = (~norms.isfinite()).nonzero().flatten().tolist()
    if bad:
        raise ValueError(f"{len(bad)} embeddings are not finite, first: row {rows[bad[0]]}")
    zero = (norms == 0).nonzero().flatten().tolist()
    if zero:
        raise ValueError(
            f"{len(zero)} embeddings are zero and have no direction, first: row {rows[zero[0]]}"
        )


def _blocks(rows: range, size: int) -> list[range]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _draw(rows: int, most: int, rng: np.random.Generator) -> range | Ints:
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
    """Draw the rows to start from: 32 per cluster, fewer where that gets slow."""
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


class _Assignment:
    """The cluster of every row as far as assigned, in memory or in a folder.

    Attributes:
        centroids: (k, d) float32, or None before the fit.
        number: (N,) int32; 1 + the cluster of a row, 0 where it is not assigned yet.
        similarity: (N,) float32; cosine to the centroid of that cluster.
    """

    def __init__(self, rows: int, folder: Path | None, inputs: dict[str, Any]) -> None:
        self.folder, self.inputs = folder, inputs
        self.centroids: Floats | None = None
        if folder is None:
            self.number = np.zeros(rows, np.int32)
            self.similarity = np.zeros(rows, np.float32)
            return
        folder.mkdir(exist_ok=True)
        if (folder / _CENTROIDS).exists():
            self.centroids = self._load(folder / _CENTROIDS)
        else:
            for name, dtype in _COLUMNS.items():
                np.lib.format.open_memmap(folder / name, "w+", dtype, (rows,))
        self.number, self.similarity = (np.load(folder / name, "r+") for name in _COLUMNS)

    @property
    def done(self) -> int:
        """Rows assigned before the first that is not."""
        return int(np.append(self.number, 0).argmin())

    def start(self, centroids: Floats) -> None:
        """Keep these centroids, with no row assigned."""
        self.number[:] = 0
        self.centroids = centroids
        if self.folder is None:
            return
        kept = {"centroids": centroids, "inputs": json.dumps(self.inputs)}
        write_npz(self.folder / _CENTROIDS, kept)

    def _load(self, path: Path) -> Floats:
        try:
            with opened_arrays(path) as kept:
                centroids = kept["centroids"]
                inputs = {"starts": 1, **json.loads(str(kept["inputs"]))}
        except (EOFError, KeyError, ValueError, BadZipFile) as error:
            raise ValueError(f"{path} keeps no clusters: {error}") from error
        if differing := [name for name, value in self.inputs.items() if inputs.get(name) != value]:
            raise ValueError(
                f"{self.folder} keeps clusters of other inputs ({', '.join(differing)} differ): "
                "delete it to start again, or name another folder"
            )
        found: Floats = centroids
        return found


def _assign_all(
    faiss: Any, x: _UnitRows, kept: _Assignment, block: int, progress: bool
) -> tuple[Ints, Floats]:
    """Assign every row; move the centroids of empty clusters to the rows that fit worst.

    A round places at least one centroid on a row of its own, which keeps it from being empty again:
    at most k rounds are needed.
    """
    assert kept.centroids is not None
    k = len(kept.centroids)
    for _ in range(k + 1):
        centroids = kept.centroids
        _assign(faiss, x, kept, centroids, block, progress)
        empty = np.flatnonzero(np.bincount(kept.number, minlength=k + 1)[1:] == 0)
        if len(empty) == 0:
            return kept.number.astype(np.int64) - 1, centroids
        worst = np.argsort(kept.similarity, kind="stable")[: len(empty)]
        centroids = centroids.copy()
        centroids[empty] = x[worst]
        kept.start(centroids)
    raise ValueError(
        f"{len(empty)} of k = {k} clusters stay empty: the embeddings are too close to each other "
        f"to be told apart; lower k to at most {k - len(empty)}"
    )


def _assign(
    faiss: Any, x: _UnitRows, kept: _Assignment, centroids: Floats, block: int, progress: bool
) -> None:
    index = faiss.IndexFlatIP(centroids.shape[1])
    index.add(centroids)
    blocks = _assigned_together(faiss, len(x), centroids.shape[1], block)
    done = kept.done
    left = [rows for rows in blocks if rows.stop > done]
    finished = len(blocks) - len(left)
    for rows in require("tqdm").tqdm(
        left, desc="assign", unit="block", initial=finished, total=len(blocks), disable=not progress
    ):
        similarity, nearest = index.search(x[rows], 1)
        here = slice(rows.start, rows.stop)
        kept.similarity[here] = similarity[:, 0]
        kept.number[here] = nearest[:, 0] + 1


def _assigned_together(faiss: Any, rows: int, width: int, block: int) -> list[range]:
    """Return blocks that faiss multiplies as it would all rows at once, alike in every bit.

    It takes 4096 rows at a time, and another path for less than so many numbers in all.
    """
    least = faiss.cvar.distance_compute_blas_threshold // width
    size = -(-max(block, least) // _FAISS_BLOCK) * _FAISS_BLOCK
    blocks = _blocks(range(rows), size)
    if len(blocks) > 1 and len(blocks[-1]) < size:
        blocks[-2:] = [range(blocks[-2].start, rows)]
    return blocks
