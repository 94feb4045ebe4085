"""Embeddings for k-means: rows checked and scaled to norm 1 as they are read.

Shapes: N samples, d dimensions.
"""

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

#: rows that faiss multiplies at a time
FAISS_BLOCK = 4096
_CHUNK = 512
_HASHED_ROWS = 1024


class UnitRows:
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
            norms = [self._doubles(chunk).norm(dim=1) for chunk in blocks_of(everything, _CHUNK)]
            _check_norms(torch.cat(norms) if norms else torch.empty(0), everything)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, rows: range | Ints) -> Floats:
        """Return (n, d) float32 of norm 1, contiguous."""
        unit = torch.empty(len(rows), self.source.shape[1])
        norm = torch.empty(len(rows), 1, dtype=torch.float64)
        for part in blocks_of(range(len(rows)), _CHUNK):
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
        for chunk in blocks_of(range(len(self)), FAISS_BLOCK):
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
        read = self.source[slice(rows.start, rows.stop) if isinstance(rows, range) else rows]
        read = read if isinstance(read, Tensor) else torch.from_numpy(np.array(read))
        return read.cpu().double()


def _check_norms(norms: Tensor, rows: range | Ints) -> None:
    bad = (~norms.isfinite()).nonzero().flatten().tolist()
    if bad:
        raise ValueError(f"{len(bad)} embeddings are not finite, first: row {rows[bad[0]]}")
    zero = (norms == 0).nonzero().flatten().tolist()
    if zero:
        raise ValueError(
            f"{len(zero)} embeddings are zero and have no direction, first: row {rows[zero[0]]}"
        )


def blocks_of(rows: range, size: int) -> list[range]:
    """Return the rows in blocks of ``size``, the last with what is left."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]
