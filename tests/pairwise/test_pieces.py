"""Processes that send their columns' gradients in several pieces give what one process gives."""

from pathlib import Path

import pytest
import torch

from by_path import load
from forks import found_by
from tauten.pairwise import reduce_dense

WORKER = Path(__file__).with_name("pieces_worker.py")
worker = load(WORKER)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each process found."""
    folder = tmp_path_factory.mktemp("pieces")
    return found_by(WORKER, folder, len(worker.ROWS))


@pytest.mark.parametrize("how", ["gather", "large", "ring"])
def test_uneven_shards_in_pieces_are_the_whole_matrix(found, how):
    x, y, of_rows, of_cols = worker.numbers()
    whole = x.requires_grad_(), y.requires_grad_()
    expected = reduce_dense(*whole, worker.reductions(of_rows, of_cols), cosine=True)
    wanted = [*expected, *torch.autograd.grad(worker.total(expected), whole)]
    for at, value in enumerate(wanted):
        together = torch.cat([mine[how][at] for mine in found])
        torch.testing.assert_close(together, value, rtol=1e-9, atol=1e-9)
