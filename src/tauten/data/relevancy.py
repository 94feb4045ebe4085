"""Relevancy of each sentence to each clip, without ever holding the whole matrix.

Shapes: N clips, M sentences; A and C distinct actions among them. An action is a verb class with a
set of noun classes, and relevancy depends on nothing else: a table (A, C) says it all.
"""

from __future__ import annotations

import zipfile
from collections.abc import Hashable, Iterable, Iterator, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from tauten.files import opened_arrays, replacing

Action = tuple[int, Set[int]]

_FORMAT = "tauten.relevancy 1"
_BLOCK = 512


class Relevancy:
    """rel(i, j) = ½·[same verb class] + ½·|nouns_i ∩ nouns_j| / |nouns_i ∪ nouns_j|, float32.

    The relevancy of EPIC-KITCHENS-100 multi-instance retrieval (Damen et al. 2022; Wray et al.
    2019), or any other matrix with many equal rows and columns.

    Attributes:
        table: (A, C) float32 in [0, 1], between distinct actions.
        rows: (N,) int64, row of the table of each clip.
        cols: (M,) int64, column of the table of each sentence.

    Raises:
        ValueError: codes outside the table, or values outside [0, 1].
    """

    def __init__(self, table: Tensor, rows: Tensor, cols: Tensor) -> None:
        if table.dim() != 2 or not table.numel() or not len(rows) or not len(cols):
            raise ValueError(f"the table must be (A, C) and not empty, got {tuple(table.shape)}")
        for name, codes, size in (("rows", rows, len(table)), ("cols", cols, table.shape[1])):
            if int(codes.min()) < 0 or int(codes.max()) >= size:
                raise ValueError(
                    f"{name} must lie in 0 .. {size - 1}, got {int(codes.min())} .. "
                    f"{int(codes.max())}"
                )
        if not bool(((table >= 0) & (table <= 1)).all()):
            raise ValueError(
                f"relevancies must lie in [0, 1], got {float(table.min())} .. {float(table.max())}"
            )
        self.table, self.rows, self.cols = table.float(), rows.long(), cols.long()

    @classmethod
    def from_actions(
        cls, clips: Sequence[Action], sentences: Sequence[Action], *, progress: bool = True
    ) -> Relevancy:
        """Return the relevancy of clips and sentences of which (verb class,
        noun classes) are known.

        Raises:
            ValueError: no clips or sentences, or one without a noun.
        """
        row_actions, rows = _distinct([(verb, frozenset(nouns)) for verb, nouns in clips])
        col_actions, cols = _distinct([(verb, frozenset(nouns)) for verb, nouns in sentences])
        if not row_actions or not col_actions:
            raise ValueError(f"need clips and sentences, got {len(clips)} and {len(sentences)}")
        bare = [verb for verb, nouns in row_actions + col_actions if not nouns]
        if bare:
            raise ValueError(f"an action of verb class {bare[0]} has no noun class")
        width = 1 + max(max(nouns) for _, nouns in row_actions + col_actions)
        row_verbs, row_nouns = _encoded(row_actions, width)
        col_verbs, col_nouns = _encoded(col_actions, width)
        sizes = col_nouns.sum(1)
        table = torch.empty(len(row_actions), len(col_actions))
        for block in blocks(len(table), progress, "relevancy"):
            shared = (row_nouns[block] @ col_nouns.T).double()
            union = row_nouns[block].sum(1, keepdim=True) + sizes - shared
            table[block] = ((row_verbs[block, None] == col_verbs) + shared / union) / 2
        return cls(table, rows, cols)

    @classmethod
    def from_matrix(cls, matrix: Any, *, progress: bool = True) -> Relevancy:
        """Return the same for a matrix (N, M), such as the published pickles hold.

        Rows and columns that are equal in float32 are kept once.

        Raises:
            ValueError: not a matrix, or values outside [0, 1].
        """
        if matrix.ndim != 2 or not matrix.size:
            raise ValueError(f"need a matrix (N, M), got {tuple(matrix.shape)}")
        bar = tqdm(matrix, desc="distinct rows", disable=not progress)
        row_kinds, rows = _distinct(np.asarray(row, np.float32).tobytes() for row in bar)
        kinds = np.frombuffer(b"".join(row_kinds), np.float32).reshape(len(row_kinds), -1)
        col_kinds, cols = _distinct(column.tobytes() for column in kinds.T)
        table = np.frombuffer(b"".join(col_kinds), np.float32).reshape(len(col_kinds), -1)
        return cls(torch.from_numpy(table.T.copy()), rows, cols)

    @property
    def shape(self) -> tuple[int, int]:
        """(N, M)."""
        return len(self.rows), len(self.cols)

    def __getitem__(self, clips: Tensor | slice) -> Tensor:
        """Return (n, M) float32, the rows of these clips."""
        return self.table[self.rows[clips]][:, self.cols]

    def between(self, clips: Tensor, sentences: Tensor) -> Tensor:
        """Return (n, m) float32, of these clips with these sentences: the matrix of a batch."""
        return self.table[self.rows[clips, None], self.cols[sentences]]

    def of(self, clips: Tensor, sentences: Tensor) -> Tensor:
        """Return (n,) float32, of each clip with its own sentence."""
        return self.table[self.rows[clips], self.cols[sentences]]

    def dense(self, *, progress: bool = False) -> Tensor:
        """Return (N, M) float32: 148 MB for the test split, 4.3 GB for the training split."""
        out = torch.empty(self.shape)
        for block in blocks(len(out), progress, "relevancy"):
            out[block] = self[block]
        return out

    def summary(self) -> dict[str, float]:
        """Return statistics of the whole matrix, exact, computed from the table.

        Returns:
            ``mean``; ``share_above_0``; ``ones_per_row``, the mean number of entries equal to 1;
            ``rows_without_one``.
        """
        n, m = self.shape
        by_row = torch.bincount(self.rows, minlength=len(self.table)).double()
        by_col = torch.bincount(self.cols, minlength=self.table.shape[1]).double()

        def over_all(values: Tensor) -> float:
            return float(by_row @ (values.double() @ by_col))

        ones = self.table == 1
        return {
            "mean": over_all(self.table) / (n * m),
            "share_above_0": over_all(self.table > 0) / (n * m),
            "ones_per_row": over_all(ones) / n,
            "rows_without_one": float(by_row[~(ones & (by_col > 0)).any(1)].sum()),
        }

    def save(self, path: str | Path) -> None:
        """Write a compressed .npz, in one step: an interruption leaves the old file or none."""
        with replacing(path) as file:
            np.savez_compressed(
                file,
                format=np.array(_FORMAT),
                table=self.table.numpy(),
                rows=self.rows.numpy().astype(np.int32),
                cols=self.cols.numpy().astype(np.int32),
            )

    @classmethod
    def load(cls, path: str | Path) -> Relevancy:
        """Read what :meth:`save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is another or damaged.
        """
        try:
            with opened_arrays(path) as stored:
                if str(stored["format"]) != _FORMAT:
                    raise ValueError(f"format {stored['format']!r}")
                parts = [torch.from_numpy(stored[name]) for name in ("table", "rows", "cols")]
        except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"{path} holds no relevancies ({error}): write it with Relevancy.save"
            ) from error
        return cls(*parts)


def _distinct(keys: Iterable[Hashable]) -> tuple[list[Any], Tensor]:
    """Return the distinct keys in order of first appearance, and the number of each key's."""
    places: dict[Hashable, int] = {}
    codes = [places.setdefault(key, len(places)) for key in keys]
    return list(places), torch.tensor(codes, dtype=torch.int64)


def _encoded(actions: Sequence[Action], width: int) -> tuple[Tensor, Tensor]:
    """Return verbs (A,) and nouns as 0 or 1, (A, width)."""
    verbs = torch.tensor([verb for verb, _ in actions])
    pairs = [(row, noun) for row, (_, nouns) in enumerate(actions) for noun in nouns]
    nouns = torch.zeros(len(actions), width)
    nouns[tuple(torch.tensor(pairs).T)] = 1.0
    return verbs, nouns


def blocks(rows: int, progress: bool, name: str) -> Iterator[slice]:
    """Yield slices that cover 0 .. rows-1, with a progress bar."""
    starts = range(0, rows, _BLOCK)
    for start in tqdm(starts, desc=name, unit=" blocks", disable=not progress):
        yield slice(start, min(start + _BLOCK, rows))
