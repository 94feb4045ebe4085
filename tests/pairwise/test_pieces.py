"""Processes that send their columns' gradients in several pieces give what one process gives."""

import importlib.util
from pathlib import Path

import pytest
import torch

from forks import run_all
from tauten.pairwise import reduce_dense

WORKER = Path(__file__).with_name("pieces_worker.py")


@pytest.fixture(scope="module")
def worker():
    spec = importlib.util.spec_from_file_location("pieces_worker", WORKER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def found(tmp_path_factory, worker):
    """What each process found."""
    folder = tmp_path_factory.mktemp("pieces")
    outs = [folder / f"{rank}.pt" for rank in range(len(worker.ROWS))]
    run_all(WORKER, [(rank, folder / "store", out) for rank, out in enumerate(outs)])
    return [torch.load(out) for out in outs]


@pytest.mark.parametrize("how", ["gather", "large", "ring"])
def test_uneven_shards_in_pieces_are_the_whole_matrix(worker, found, how):
    x, y, of_rows, of_cols = worker.numbers()
    whole = x.requires_grad_(), y.requires_grad_()
    expected = reduce_dense(*whole, worker.reductions(of_rows, of_cols), cosine=True)
    wanted = [*expected, *torch.autograd.grad(worker.total(expected), whole)]
    for at, value in enumerate(wanted):
        together = torch.cat([mine[how][at] for mine in found])
        torch.testing.assert_close(together, value, rtol=1e-9, atol=1e-9)
