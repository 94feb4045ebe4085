"""Areas of the pair matrix, worked on side by side by threads of the CPU.

torch splits every operation on a tile over its threads, which wait for each other after each of
them. Here a thread has an area of its own, all tiles of it, and meets the others once for each
area. Areas that are worked on together share neither rows nor columns, and areas that do share
follow each other in a fixed order: nothing is locked, and sums have the same bits in every run.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import torch

Result = TypeVar("Result")

#: most threads with areas of their own; each holds tiles
MOST = 16

#: rows and columns of an area, and of a tile, below which it is not worth a thread
LEAST_AREA, LEAST_TILE = 256, 64


def over_areas(
    job: Callable[[slice, slice], Result],
    rows: int,
    cols: int,
    tile: tuple[int, int],
    device: torch.device,
) -> list[Result]:
    """Run a job on each of the areas that cover S, and return the results.

    Args:
        job: of an area's rows and columns. It is run without gradients or autocast, and in several
            threads if S is on the CPU, torch has several, and S and its tiles are large enough.
        rows: N.
        cols: M.
        tile: rows and columns of a tile.
        device: where S is.

    Returns:
        The results in a fixed order.
    """
    count = _threads(rows, cols, tile) if device.type == "cpu" else 1
    if count == 1:
        with torch.autocast(device.type, enabled=False):
            return [job(slice(0, rows), slice(0, cols))]
    pool = _pool(count, torch.get_num_threads() // count)
    inference = torch.is_inference_mode_enabled()

    def work(row_area: slice, col_area: slice) -> Result:
        with torch.inference_mode(inference), torch.no_grad():
            return job(row_area, col_area)

    row_areas, col_areas = _parts(rows, count), _parts(cols, count)
    results: list[Result] = []
    for shift in range(count):
        results += pool.map(work, row_areas, col_areas[shift:] + col_areas[:shift])
    return results


def _threads(rows: int, cols: int, tile: tuple[int, int]) -> int:
    if min(tile) < LEAST_TILE:
        return 1
    return max(1, min(torch.get_num_threads(), min(rows, cols) // LEAST_AREA, MOST))


def _parts(length: int, count: int) -> list[slice]:
    edges = [length * part // count for part in range(count + 1)]
    return [slice(edges[part], edges[part + 1]) for part in range(count)]


@lru_cache(maxsize=4)
def _pool(count: int, each: int) -> ThreadPoolExecutor:
    """Return a pool of threads, each with ``each`` threads of torch's own."""
    before, all_here = torch.get_num_threads(), threading.Barrier(count)

    def begin(_: int) -> None:
        torch.get_num_threads()  # or torch's setting would replace this thread's at its first use
        torch.set_num_threads(each)
        all_here.wait()

    pool = ThreadPoolExecutor(count, "tauten")
    list(pool.map(begin, range(count)))
    torch.set_num_threads(before)  # new threads begin with what was set last, in any thread
    return pool


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)
