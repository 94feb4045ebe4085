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

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from tauten.evaluation.ahead import Counter, Ties, count_at_least
from tauten.evaluation.checks import checked_directions, whole
from tauten.evaluation.correspondence import Correspondence, correspondence, name_some
from tauten.evaluation.embedding_rows import Rows, blocks_of, sides_of
from tauten.evaluation.query_ranks import QueryRanks
from tauten.evaluation.rank_state import RankState, inputs_of

DIRECTIONS = ("x2y", "y2x")
TIE_RULES: tuple[Ties, ...] = ("pessimistic", "optimistic", "mean")


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
    directions = checked_directions(directions, DIRECTIONS)
    if ties not in TIE_RULES:
        raise ValueError(f"ties must be one of {', '.join(TIE_RULES)}, not {ties!r}")
    if ties == "mean":
        return _mean_ranks(
            x,
            y,
            y_of_x,
            resume,
            directions=directions,
            normalize=normalize,
            tile=tile,
            one_pass=one_pass,
            progress=progress,
            exclude_self=exclude_self,
        )
    whole(tile, "tile", 1)
    sides = sides_of(x, y, normalize, tile)
    pairs = {"x2y": correspondence(y_of_x, len(sides["x"]), len(sides["y"]))}
    pairs["y2x"] = pairs["x2y"].inverse()
    for name in directions:
        pairs[name].require_complete(name[0], name)
    if exclude_self:
        _require_others(pairs["x2y"])
    counters = {
        name: Counter.of(sides[name[0]], sides[name[-1]], pairs[name], ties, exclude_self, tile)
        for name in directions
    }
    passes: list[tuple[str, ...]] = [(name,) for name in counters]
    if one_pass and len(counters) == 2:
        passes = [DIRECTIONS]
    state = None
    if resume is not None:
        inputs = inputs_of(sides, pairs["x2y"], normalize, passes, tile)
        inputs |= {} if ties == "pessimistic" else {"ties": ties}
        inputs |= {"exclude_self": "True"} if exclude_self else {}
        state = RankState(Path(resume), inputs, counters)
    for names in passes:
        count_ahead(sides, counters, names, tile, state, progress)
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
    matched = (pairs.owners == pairs.targets).nonzero().flatten()
    if len(matched):
        raise ValueError(
            f"{len(matched)} x are their own match in y_of_x "
            f"({name_some(pairs.owners[matched])}), which exclude_self=True leaves out: take them "
            "off the lists"
        )


@torch.no_grad()
def count_ahead(
    sides: dict[str, Rows],
    counters: dict[str, Counter],
    names: tuple[str, ...],
    tile: int,
    state: RankState | None,
    progress: bool,
) -> None:
    """Count for the first direction named, and for the other, if named, from the same scores."""
    queries, candidates = sides[names[0][0]], sides[names[0][-1]]
    by_row, *by_column = (counters[name] for name in names)
    done = state.done.get(names, 0) if state else 0
    left = blocks_of(len(queries), tile, done)
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
    parts = blocks_of(len(candidates), tile)
    for block in blocks:
        rows, bar_bk = queries[block], by_row.bar_nk(block)
        count_bk = torch.zeros_like(bar_bk, dtype=torch.long)
        for part, (row, column) in zip(parts, by_row.matches(block, parts), strict=True):
            with torch.autocast(rows.device.type, enabled=False):
                sim_bc = rows @ candidates[part].T
            sim_bc[row, column] = -torch.inf
            if by_row.exclude_self:
                first, stop = max(block.start, part.start), min(block.stop, part.stop)
                itself = torch.arange(first, max(first, stop), device=sim_bc.device)
                sim_bc[itself - block.start, itself - part.start] = -torch.inf
            count_bk += count_at_least(sim_bc, bar_bk)
            for counter in by_column:
                counter.add(part, count_at_least(sim_bc, counter.bar_nk(part), by_column=True))
        by_row.add(block, count_bk)
        if state:
            state.save(names, block.stop)
