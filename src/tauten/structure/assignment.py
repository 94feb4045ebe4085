"""Assignment of rows to centroids, block by block, in memory or in a folder that resumes.

Shapes: N samples, k clusters, d dimensions.
"""

import json
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from tauten.files import opened_arrays, write_npz
from tauten.structure.extras import require
from tauten.structure.unit_rows import FAISS_BLOCK, Floats, Ints, UnitRows, blocks_of

_CENTROIDS = "centroids.npz"
_COLUMNS = {"number.npy": np.int32, "similarity.npy": np.float32}


class Assignment:
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
        columns = {"centroids": centroids, "inputs": json.dumps(self.inputs)}
        write_npz(self.folder / _CENTROIDS, columns)

    def _load(self, path: Path) -> Floats:
        try:
            with opened_arrays(path) as saved:
                centroids: Floats = saved["centroids"]
                inputs = {"starts": 1, **json.loads(str(saved["inputs"]))}
        except (EOFError, KeyError, ValueError, BadZipFile) as error:
            raise ValueError(f"{path} keeps no clusters: {error}") from error
        if differing := [name for name, value in self.inputs.items() if inputs.get(name) != value]:
            raise ValueError(
                f"{self.folder} keeps clusters of other inputs ({', '.join(differing)} differ): "
                "delete it to start again, or name another folder"
            )
        return centroids


def assign_all(
    faiss: Any, x: UnitRows, assigned: Assignment, block: int, progress: bool
) -> tuple[Ints, Floats]:
    """Assign every row; move the centroids of empty clusters to the rows that fit worst.

    A round places at least one centroid on a row of its own, which keeps it from being empty again:
    at most k rounds are needed.
    """
    assert assigned.centroids is not None
    k = len(assigned.centroids)
    for _ in range(k + 1):
        centroids = assigned.centroids
        _assign(faiss, x, assigned, centroids, block, progress)
        empty = np.flatnonzero(np.bincount(assigned.number, minlength=k + 1)[1:] == 0)
        if len(empty) == 0:
            return assigned.number.astype(np.int64) - 1, centroids
        worst = np.argsort(assigned.similarity, kind="stable")[: len(empty)]
        centroids = centroids.copy()
        centroids[empty] = x[worst]
        assigned.start(centroids)
    raise ValueError(
        f"{len(empty)} of k = {k} clusters stay empty: the embeddings are too close to each other "
        f"to be told apart; lower k to at most {k - len(empty)}"
    )


def _assign(
    faiss: Any, x: UnitRows, assigned: Assignment, centroids: Floats, block: int, progress: bool
) -> None:
    index = faiss.IndexFlatIP(centroids.shape[1])
    index.add(centroids)
    blocks = _assigned_together(faiss, len(x), centroids.shape[1], block)
    done = assigned.done
    left = [rows for rows in blocks if rows.stop > done]
    finished = len(blocks) - len(left)
    for rows in require("tqdm").tqdm(
        left, desc="assign", unit="block", initial=finished, total=len(blocks), disable=not progress
    ):
        similarity, nearest = index.search(x[rows], 1)
        here = slice(rows.start, rows.stop)
        assigned.similarity[here] = similarity[:, 0]
        assigned.number[here] = nearest[:, 0] + 1


def _assigned_together(faiss: Any, rows: int, width: int, block: int) -> list[range]:
    """Return blocks that faiss multiplies as it would all rows at once, alike in every bit.

    It takes 4096 rows at a time, and another path for less than so many numbers in all.
    """
    least = faiss.cvar.distance_compute_blas_threshold // width
    size = -(-max(block, least) // FAISS_BLOCK) * FAISS_BLOCK
    blocks = blocks_of(range(rows), size)
    if len(blocks) > 1 and len(blocks[-1]) < size:
        blocks[-2:] = [range(blocks[-2].start, rows)]
    return blocks
