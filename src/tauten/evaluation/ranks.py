"""Exact ranks of every matching candidate, counted in tiles.

The rank of a match is 1 + the number of candidates ahead of it. Unless told otherwise ties are
counted pessimistically: a candidate that does not match the query and scores the same is ahead.
"The same" allows for the rounding of the dot product, 8 eps of the product of both norms (1e-6 for
float32 rows of length 1): two equal candidates may differ in the last bits only because of where
they stand in the matrix, and such a difference must not decide a rank. Collapsed embeddings thus
rank last.

Embeddings are read, converted and scaled tile by tile and only counts are kept, so that a
memory-mapped file is never held as a whole.

Shape suffixes: Q queries, C candidates, P matching pairs, b rows and c columns of one tile, n its
rows or its columns, k the most matches that one of these has.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from tauten.evaluation.checks import tensor, whole
from tauten.evaluation.correspondence import (
    Correspondence,
    correspondence,
    name_some,
    require_alike,
    require_finite,
    require_matrix,
    rounding,
    unit,
)
from tauten.files import replacing

DIRECTIONS = ("x2y", "y2x")
Ties = Literal["pessimistic", "optimistic", "mean"]
FEW = 32
PASSES = 128
BYTES = 128
TIE_RULES: tuple[Ties, ...] = ("pessimistic", "optimistic", "mean")
INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True)
class QueryRanks:
    """Ranks of one direction's matching candidates; 1 is the top.

    Attributes:
        values: (P,) long; ranks of all matches, ascending within each query. With ties at their
            mean, float64, perhaps halves.
        offsets: (Q + 1,) long; query i owns ``values[offsets[i]:offsets[i + 1]]``.
        candidates: C, the number of candidates that were ranked.
    """

    values: Tensor
    offsets: Tensor
    candidates: int

    @property
    def best(self) -> Tensor:
        """(Q,) rank of the best match of each query."""
        return self.values[self.offsets[:-1]]

    def hit(self, k: int) -> Tensor:
        """Return (Q,) float64, 1 where any match is in the top k, else 0."""
        return (self.best <= whole(k, "k", 1)).double()

    def recall(self, k: int) -> Tensor:
        """Return (Q,) float64: the fraction of the query's matches that is in the top k."""
        return self._mean((self.values <= whole(k, "k", 1)).double())

    def average_precision(self) -> Tensor:
        """Return (Q,) float64: textbook AP, the mean over matches of (matches so far) / (rank)."""
        position = torch.arange(len(self.values)) - self.offsets[self._owners()] + 1
        return self._mean(position.double() / self.values.double())

    def reciprocal(self) -> Tensor:
        """Return (Q,) float64: 1 / rank of the best match."""
        return 1 / self.best.double()

    def metric(self, name: str) -> Tensor:
        """Return (Q,) float64 per-query values of "hit@K", "recall@K", "mAP", "MRR" or "rank".

        Raises:
            ValueError: Another name.
        """
        kind, _, k = str(name).partition("@")
        if kind in ("hit", "recall") and k.isdigit():
            return self.hit(int(k)) if kind == "hit" else self.recall(int(k))
        if name == "mAP":
            return self.average_precision()
        if name == "MRR":
            return self.reciprocal()
        if name == "rank":
            return self.best.double()
        raise ValueError(f"unknown metric {name!r}: use hit@K, recall@K, mAP, MRR or rank")

    def _owners(self) -> Tensor:
        lengths = self.offsets.diff()
        return torch.arange(len(lengths)).repeat_interleave(lengths)

    def _mean(self, values: Tensor) -> Tensor:
        lengths = self.offsets.diff()
        total = torch.zeros(len(lengths), dtype=torch.float64)
        return total.index_add_(0, self._owners(), values) / lengths


def ranks(
    x: Any,
    y: Any,
    y_of_x: Any,
    *,
    directions: Iterable[str] = DIRECTIONS,
    normalize: bool = True,
    tile: int = 2048,
    one_pass: bool = False,
    resume: str | Path | None = None,
    progress: bool = False,
    exclude_self: bool = False,
    ties: Ties = "pessimistic",
) -> dict[str, QueryRanks]:
    """Rank every match of every query, exactly (see the module).

    Args:
        x: (N, d) embeddings of one side (image, video): a tensor, or an array such as
            ``numpy.load(file, mmap_mode="r")``, of which a tile at a time is read.
        y: (M, d) embeddings of the other (text).
        y_of_x: For each x the list of its y's, or an int vector (N,) for one each.
        directions: Which side queries: "x2y" (x queries, y are ranked), "y2x", or both.
        normalize: Rank by cosine; otherwise by the dot product of the rows as given.
        tile: Edge of the tiles; at most tile x tile scores exist at any time.
        one_pass: Count both directions from the same products, in about half the time. The scores
            of y2x are then those of x2y; they may differ in the last bits from those of a pass of
            its own, which moves a rank only past a candidate at the very edge of the tolerance.
        resume: File that keeps the counts, replaced atomically after every ``tile`` queries. The
            same call goes on from there after an interruption, and after the end it counts nothing
            again. Delete the file when it is no longer needed.
        progress: Show a progress bar (needs tqdm).
        exclude_self: Leave row i of y out of the candidates of row i of x, and the other way round:
            for both sides being the same samples, where a sample would find itself. It needs
            N = M, and no sample among its own matches.
        ties: A candidate with the same score as a match is ahead ("pessimistic"), behind
            ("optimistic"), or the rank is the mean of both, which counts twice ("mean").

    Returns:
        For each direction the :class:`QueryRanks`, on the CPU.

    Raises:
        ValueError: Unequal d or devices, NaN or inf (rows named), a correspondence that is out of
            range, repeated, or empty for a query, unknown direction or ``ties``, tile < 1,
            ``exclude_self`` with sides or matches that it does not fit, a file at ``resume`` that
            belongs to other inputs or keeps no ranks.
    """
    if ties not in TIE_RULES:
        raise ValueError(f"ties must be one of {', '.join(TIE_RULES)}, not {ties!r}")
    if ties == "mean":
        return _mean_ranks(
            x,
            y,
            y_of_x,
            resume,
            directions=tuple(directions),
            normalize=normalize,
            tile=tile,
            one_pass=one_pass,
            progress=progress,
            exclude_self=exclude_self,
        )
    directions = tuple(directions)
    for direction in directions:
        if direction not in DIRECTIONS:
            raise ValueError(f'unknown direction {direction!r}: use "x2y" or "y2x"')
    whole(tile, "tile", 1)
    sides = _sides(x, y, normalize, tile)
    pairs = {"x2y": correspondence(y_of_x, len(sides["x"]), len(sides["y"]))}
    pairs["y2x"] = pairs["x2y"].inverse()
    for name in directions:
        pairs[name].require_complete(name[0], name)
    if exclude_self:
        _require_others(pairs["x2y"])
    counters = {
        name: _Counter.of(sides[name[0]], sides[name[-1]], pairs[name], ties, exclude_self, tile)
        for name in directions
    }
    passes: list[tuple[str, ...]] = [(name,) for name in counters]
    if one_pass and len(counters) == 2:
        passes = [DIRECTIONS]
    state = None
    if resume is not None:
        inputs = _inputs(sides, pairs["x2y"], normalize, passes, tile)
        inputs |= {} if ties == "pessimistic" else {"ties": ties}
        inputs |= {"exclude_self": "True"} if exclude_self else {}
        state = _State(Path(resume), inputs, counters)
    for names in passes:
        _count(sides, counters, names, tile, state, progress)
    return {name: counter.ranks() for name, counter in counters.items()}


def _mean_ranks(
    x: Any, y: Any, y_of_x: Any, resume: str | Path | None, **options: Any
) -> dict[str, QueryRanks]:
    """Return means of the ranks by both rules, each with a file of its own to resume from."""
    both = []
    for rule in TIE_RULES[:2]:
        path = None if resume is None else f"{resume}.{rule}"
        both.append(ranks(x, y, y_of_x, resume=path, ties=rule, **options))
    return {
        name: QueryRanks((worst.values + best.values) / 2, worst.offsets, worst.candidates)
        for (name, worst), best in zip(both[0].items(), both[1].values(), strict=True)
    }


def _require_others(pairs: Correspondence) -> None:
    if pairs.queries != pairs.candidates:
        raise ValueError(
            f"exclude_self=True needs x and y to be the same samples, but x has {pairs.queries} "
            f"rows and y has {pairs.candidates}"
        )
    own = (pairs.owners == pairs.targets).nonzero().flatten()
    if len(own):
        raise ValueError(
            f"{len(own)} x are their own match in y_of_x ({name_some(pairs.owners[own])}), which "
            "exclude_self=True leaves out: take them off the lists"
        )


class _Rows:
    """Embeddings as given; rows are converted and scaled when they are read."""

    def __init__(self, x: Any, name: str, normalize: bool) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            self.source = tensor(x, name)
        require_matrix(self.source, name)
        self.normalize = normalize
        self.dtype = torch.promote_types(self.source.dtype, torch.float32)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, where: slice | Tensor) -> Tensor:
        rows = self.source[where]
        rows = rows if rows.dtype == torch.float64 else rows.float()
        return (unit(rows) if self.normalize else rows).to(self.dtype)

    def require_finite(self, name: str, tile: int) -> None:
        blocks = _blocks(len(self), tile)
        finite = [self.source[block].isfinite().all(dim=1) for block in blocks]
        require_finite(torch.cat(finite), name)

    def norms(self, tile: int) -> Tensor:
        """Return the norm (N,) of each row; for scaled rows, that of the longest for all."""
        norm = torch.cat([self[b].norm(dim=1) for b in _blocks(len(self), tile)])
        return norm.max().expand(len(norm)) if self.normalize else norm

    def checksum(self, tile: int) -> int:
        """Return a checksum that changes with any bit of an element and with the order of rows."""
        integers = INTEGERS[self.source.element_size()]
        blocks = (self.source[b].contiguous().view(integers) for b in _blocks(len(self), tile))
        return _weighted(torch.cat([block.sum(dim=1) for block in blocks]))


def _weighted(number_N: Tensor) -> int:
    """Return the sum of the numbers times 1, 3, 5, ..., modulo 2^64; it depends on their order."""
    odd = torch.arange(1, 2 * len(number_N), 2, device=number_N.device)
    return int((number_N * odd).sum())


def _sides(x: Any, y: Any, normalize: bool, tile: int) -> dict[str, _Rows]:
    sides = {"x": _Rows(x, "x", normalize), "y": _Rows(y, "y", normalize)}
    for name, side in sides.items():
        side.require_finite(name, tile)
    require_alike(sides["x"].source, sides["y"].source)
    dtype = torch.promote_types(sides["x"].dtype, sides["y"].dtype)
    for side in sides.values():
        side.dtype = dtype
    return sides


def _blocks(stop: int, size: int, start: int = 0) -> list[slice]:
    return [slice(left, min(left + size, stop)) for left in range(start, stop, size)]


class _Counter:
    """Count of the candidates ahead of each match of one direction, block by block.

    Attributes:
        offsets: (Q + 1,) long; query i owns the matches ``offsets[i]:offsets[i + 1]``.
        owners: (P,) long; the query of each match.
        targets: (P,) long; the candidate of each match, by descending bar within a query.
        bars: (P,) score from which another candidate is ahead of the match.
        ahead: (P,) long; the candidates found so far that are.
        candidates: C.
        exclude_self: whether candidate i is left out of query i.
    """

    def __init__(
        self, pairs: Correspondence, targets: Tensor, bars: Tensor, exclude_self: bool
    ) -> None:
        self.offsets, self.owners = pairs.offsets, torch.repeat_interleave(pairs.lengths)
        self.targets, self.bars, self.ahead = targets, bars, torch.zeros_like(targets)
        self.candidates, self.exclude_self = pairs.candidates, exclude_self

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        queries: _Rows,
        candidates: _Rows,
        pairs: Correspondence,
        ties: Ties,
        exclude_self: bool,
        tile: int,
    ) -> _Counter:
        device = queries.source.device
        pairs = Correspondence(pairs.offsets.to(device), pairs.targets.to(device), len(candidates))
        owners = torch.repeat_interleave(pairs.lengths)
        parts = [
            (queries[owners[block]] * candidates[pairs.targets[block]]).sum(dim=1)
            for block in _blocks(len(owners), tile)
        ]
        score_P = torch.cat(parts)
        norms_P = queries.norms(tile)[owners] * candidates.norms(tile)[pairs.targets]
        tolerance_P = rounding(norms_P)
        if ties == "pessimistic":
            bar_P = score_P - tolerance_P
        else:
            above = score_P + tolerance_P
            bar_P = torch.nextafter(above, torch.full_like(above, torch.inf))
        by_bar = torch.argsort(bar_P, descending=True, stable=True)
        order = by_bar[torch.argsort(owners[by_bar], stable=True)]
        return cls(pairs, pairs.targets[order], bar_P[order], exclude_self)

    def within(self, block: slice) -> tuple[slice, Tensor, Tensor]:
        """Return row and column in `bar_nk` of each match of a block of queries."""
        own = slice(int(self.offsets[block.start]), int(self.offsets[block.stop]))
        index = torch.arange(own.start, own.stop, device=self.offsets.device)
        owner = self.owners[own]
        return own, owner - block.start, index - self.offsets[owner + 1]

    def bar_nk(self, block: slice) -> Tensor:
        """Return the bars of a block of queries, descending, padded in front with infinite ones."""
        own, row, column = self.within(block)
        width = int(self.offsets[block.start : block.stop + 1].diff().max())
        bar = self.bars.new_full((block.stop - block.start, width), torch.inf)
        bar[row, column] = self.bars[own]
        return bar

    def matches(self, block: slice, parts: list[slice]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield row and column of the matches in the tile of each part of the candidates."""
        own, row, _ = self.within(block)
        target, order = self.targets[own].sort()
        row = row[order]
        starts = torch.tensor([part.start for part in parts], device=target.device)
        first = [*torch.searchsorted(target, starts).tolist(), len(target)]
        for part, (left, right) in zip(parts, pairwise(first), strict=True):
            yield row[left:right], target[left:right] - part.start

    def add(self, block: slice, count_nk: Tensor) -> None:
        own, row, column = self.within(block)
        self.ahead[own] += count_nk[row, column]

    def ranks(self) -> QueryRanks:
        index = torch.arange(len(self.ahead), device=self.ahead.device)
        position = index - self.offsets[self.owners]
        ranked = self.candidates - int(self.exclude_self)
        return QueryRanks((self.ahead + position + 1).cpu(), self.offsets.cpu(), ranked)


@torch.no_grad()
def _count(
    sides: dict[str, _Rows],
    counters: dict[str, _Counter],
    names: tuple[str, ...],
    tile: int,
    state: _State | None,
    progress: bool,
) -> None:
    """Count for the first direction named, and for the other, if named, from the same scores."""
    queries, candidates = sides[names[0][0]], sides[names[0][-1]]
    by_row, *by_column = (counters[name] for name in names)
    done = state.done.get(names, 0) if state else 0
    left = _blocks(len(queries), tile, done)
    blocks: Iterable[slice] = left
    if progress:
        from tqdm.auto import tqdm

        before = -(-done // tile)
        blocks = tqdm(
            left,
            desc=f"ranks {', '.join(names)}",
            initial=before,
            total=before + len(left),
            unit="tile row",
            leave=False,
        )
    parts = _blocks(len(candidates), tile)
    for block in blocks:
        rows, bar_bk = queries[block], by_row.bar_nk(block)
        count_bk = torch.zeros_like(bar_bk, dtype=torch.long)
        for part, (row, column) in zip(parts, by_row.matches(block, parts), strict=True):
            with torch.autocast(rows.device.type, enabled=False):
                sim_bc = rows @ candidates[part].T
            sim_bc[row, column] = -torch.inf
            if by_row.exclude_self:
                first, stop = max(block.start, part.start), min(block.stop, part.stop)
                own = torch.arange(first, max(first, stop), device=sim_bc.device)
                sim_bc[own - block.start, own - part.start] = -torch.inf
            count_bk += count_at_least(sim_bc, bar_bk)
            for counter in by_column:
                counter.add(part, count_at_least(sim_bc, counter.bar_nk(part), by_column=True))
        by_row.add(block, count_bk)
        if state:
            state.save(names, block.stop)


def count_at_least(sim_bc: Tensor, bar_nk: Tensor, by_column: bool = False) -> Tensor:
    """Return how many scores of a row, or column, reach each of its descending bars: (n, k).

    Where few scores reach the lowest bar, the others are compared to these alone.
    """
    n, k = bar_nk.shape
    lowest = bar_nk[:, -1]
    reaches_bc = sim_bc >= (lowest if by_column else lowest[:, None])
    reaching = _count_true(reaches_bc, by_column)
    if k == 1:
        return reaching[:, None]
    rising = bar_nk.flip(1)
    pairs, total = sim_bc.numel(), int(reaching.sum())
    if total * PASSES <= pairs * k and total * k <= pairs * 4:
        row, column = reaches_bc.nonzero(as_tuple=True)
        owner, score = column if by_column else row, sim_bc[row, column]
        reached = torch.searchsorted(rising[owner], score[:, None], right=True)[:, 0]
        histogram = torch.bincount(owner * (k + 1) + reached, minlength=n * (k + 1))
        return histogram.view(n, k + 1).flip(1)[:, :k].cumsum(1)
    sim_nm = sim_bc.T.contiguous() if by_column else sim_bc
    if k <= FEW:
        return torch.stack([_count_true(sim_nm >= bar_nk[:, [j]]) for j in range(k)], dim=1)
    reached = torch.searchsorted(rising, sim_nm, right=True)
    histogram = torch.zeros(n, k + 1, dtype=torch.long, device=bar_nk.device)
    histogram.scatter_add_(1, reached, torch.ones_like(reached))
    return histogram.flip(1)[:, :k].cumsum(1)


def _count_true(mask_bc: Tensor, by_column: bool = False) -> Tensor:
    """Return (b,) or (c,) long: how many are true in each row, or column.

    Eight booleans are one integer; the sum of `BYTES` of these has a sum in each of its bytes.
    """
    b, c = mask_bc.shape
    if by_column:
        word = _padded(mask_bc, -b % BYTES, -c % 8).view(torch.int64)
        return word.view(-1, BYTES, word.shape[1]).sum(dim=1).view(torch.uint8).sum(dim=0)[:c]
    word = _padded(mask_bc, 0, -c % (8 * BYTES)).view(torch.int64)
    return word.view(b, -1, BYTES).sum(dim=2).view(torch.uint8).sum(dim=1)


def _padded(mask_bc: Tensor, rows: int, columns: int) -> Tensor:
    return functional.pad(mask_bc, (0, columns, 0, rows)) if rows or columns else mask_bc


class _State:
    """Counts so far, in a file that is replaced after every block of queries."""

    def __init__(self, path: Path, inputs: dict[str, str], counters: dict[str, _Counter]) -> None:
        self.path, self.inputs, self.counters = path, inputs, counters
        self.done: dict[tuple[str, ...], int] = {}
        if path.exists():
            self._load()
        else:
            self._write()

    def save(self, names: tuple[str, ...], rows: int) -> None:
        self.done[names] = rows
        self._write()

    def _write(self) -> None:
        ahead = {name: counter.ahead for name, counter in self.counters.items()}
        with replacing(self.path) as file:
            torch.save({"inputs": self.inputs, "done": self.done, "ahead": ahead}, file)

    def _load(self) -> None:
        try:
            kept = torch.load(self.path, map_location="cpu", weights_only=True)
            inputs, self.done, ahead = kept["inputs"], kept["done"], kept["ahead"]
        except (EOFError, KeyError, RuntimeError, TypeError, UnpicklingError) as error:
            raise ValueError(f"{self.path} keeps no counts of ranks: {error}") from error
        if differing := [name for name, value in self.inputs.items() if inputs.get(name) != value]:
            raise ValueError(
                f"{self.path} keeps counts of other inputs ({', '.join(differing)} differ): delete "
                "it to start again, or name another file"
            )
        for name, counter in self.counters.items():
            counter.ahead.copy_(ahead[name])


def _inputs(
    sides: dict[str, _Rows],
    pairs: Correspondence,
    normalize: bool,
    passes: list[tuple[str, ...]],
    tile: int,
) -> dict[str, str]:
    """Return everything that the counts depend on, as texts that can be compared."""
    told = {
        name: f"{tuple(side.source.shape)} {side.source.dtype} {side.checksum(tile)}"
        for name, side in sides.items()
    }
    return told | {
        "y_of_x": f"{_weighted(pairs.offsets)} {_weighted(pairs.targets)}",
        "normalize": str(normalize),
        "passes": str(passes),
    }
