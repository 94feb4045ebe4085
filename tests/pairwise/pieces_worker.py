"""One process of those that share a pair matrix; run by test_pieces.py.

Run as ``python pieces_worker.py RANK STORE OUT``.
"""

import sys

import torch
from torch import distributed

from tauten.pairwise import Reduction, Scaled, Softplus, exchange, reduce_pairs

ROWS, COLS, DIM = (5, 0, 7), (6, 4, 3), 4
WAYS = ("gather", "large", "ring")


def numbers():
    """x, y and the numbers of all rows and of all columns."""
    generator = torch.Generator().manual_seed(0)
    shapes = (sum(ROWS), DIM), (sum(COLS), DIM), (sum(ROWS), 1), (1, sum(COLS))
    return [torch.rand(*shape, generator=generator, dtype=torch.float64) - 0.4 for shape in shapes]


def reductions(of_rows, of_cols):
    """Two directions, and a sum."""
    return [
        Reduction("rows", "logsumexp", Scaled(), (of_rows,)),
        Reduction("cols", "logsumexp", Scaled(), (of_cols,)),
        Reduction("cols", "sum", Softplus(), (of_rows, of_cols)),
    ]


def total(results):
    """A scalar whose gradient differs from place to place."""
    return sum((r * r).sum() for r in results)


def gradients_on_ranks(rank, how):
    """Results, and gradients of this process's x and y, with pieces of two columns.

    All that is small leaves at once; "large" is as "gather", with nothing small.
    """
    exchange.SMALL = 0 if how == "large" else 2**20
    how = "gather" if how == "large" else how
    x, y, of_rows, of_cols = numbers()
    ranks = exchange.Ranks(ROWS[rank], COLS[rank], torch.device("cpu"))
    mine = x.split(ROWS)[rank].requires_grad_(), y.split(COLS)[rank].requires_grad_()
    asked = reductions(of_rows.split(ROWS)[rank], of_cols)
    results = reduce_pairs(*mine, asked, tile=(3, 2), cosine=True, ranks=ranks, exchange=how)
    return [*results, *torch.autograd.grad(total(results), mine)]


def main(rank, store, out):
    torch.set_num_threads(1)
    exchange.PIECE = 2
    distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=len(ROWS))
    found = {how: gradients_on_ranks(rank, how) for how in WAYS}
    torch.save(found, out)
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
