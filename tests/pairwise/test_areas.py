"""Threads that have areas of their own give what one thread gives, and the same bits each time."""

import threading

import pytest
import torch

from tauten.pairwise import PairMask, PairNumber, Reduction, Scaled, Softplus, reduce_tiled
from tauten.pairwise.areas import over_areas

CPU = torch.device("cpu")


@pytest.fixture
def threads():
    """Sets torch's threads, and puts them back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_areas_cover_every_pair_once(threads, count):
    threads(count)
    seen = torch.zeros(1200, 1030)

    def job(rows, cols):
        seen[rows, cols] += 1
        return rows, cols

    areas = over_areas(job, 1200, 1030, (128, 128), CPU)
    assert torch.equal(seen, torch.ones_like(seen))
    assert len(areas) == min(count, 4) ** 2
    assert areas == over_areas(job, 1200, 1030, (128, 128), CPU)


def test_areas_worked_on_together_share_no_row_and_no_column(threads):
    threads(3)
    together = threading.Barrier(3)
    rounds = []

    def job(rows, cols):
        if together.wait(timeout=60) == 0:
            rounds.append([])
        together.wait(timeout=60)
        rounds[-1].append((rows.start, cols.start))
        together.wait(timeout=60)

    over_areas(job, 800, 900, (128, 128), CPU)
    assert len(rounds) == 3
    for areas in rounds:
        for starts in zip(*areas, strict=True):
            assert len(set(starts)) == 3


@pytest.mark.parametrize(
    ("rows", "cols", "tile"), [(0, 600, (128, 128)), (511, 600, (128, 128)), (600, 600, (64, 3))]
)
def test_nothing_and_small_tiles_stay_in_one_thread(threads, rows, cols, tile):
    threads(4)
    names = over_areas(lambda *_: threading.current_thread().name, rows, cols, tile, CPU)
    assert names == [threading.current_thread().name]


def test_each_thread_has_its_share_of_torch_s_threads_and_ours_are_left_alone(threads):
    threads(5)
    counts = over_areas(lambda *_: torch.get_num_threads(), 512, 512, (128, 128), CPU)
    assert counts == [2] * 4
    assert torch.get_num_threads() == 5
    fresh = []
    other = threading.Thread(target=lambda: fresh.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert fresh == [5]


def test_an_error_of_a_job_is_raised(threads):
    threads(2)

    def job(rows, cols):
        if cols.start:
            raise ValueError(f"column {cols.start}")

    with pytest.raises(ValueError, match="column 256"):
        over_areas(job, 512, 512, (128, 128), CPU)


def bend(s, rows, cols):
    return 2.0 + s * rows + rows * cols


def problem():
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    x, y = draw(780, 8) - 0.5, draw(810, 8) - 0.5
    rows, cols, one = 1 + draw(780, 1), 1 + draw(1, 810), 1 + draw(1, 1)
    inputs = [part.requires_grad_() for part in (x, y, rows, cols, one)]
    reductions = [
        Reduction("rows", "logsumexp", Scaled(), (rows,)),
        Reduction("cols", "logsumexp", Scaled(), (cols,)),
        Reduction("rows", "sum", Softplus(), (one, cols)),
        Reduction.of("cols", "sum", Scaled(), PairNumber(bend, (rows, cols))),
    ]
    ids = torch.randint(0, 40, (1590,), generator=generator)
    mask = PairMask(torch.arange(780), own=True, same=[(ids[:780], ids[780:])])
    return inputs, reductions, mask


def value_and_gradients():
    inputs, reductions, mask = problem()
    results = reduce_tiled(inputs[0], inputs[1], reductions, mask, tile=(128, 128), cosine=True)
    generator = torch.Generator().manual_seed(1)
    total = sum((r * torch.randn(r.shape, generator=generator)).sum() for r in results)
    return [*results, *torch.autograd.grad(total, inputs)]


def test_threads_change_nothing_but_rounding_and_repeat_their_bits(threads):
    threads(1)
    expected = value_and_gradients()
    threads(3)
    found, again = value_and_gradients(), value_and_gradients()
    for a, b, c in zip(expected, found, again, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
        assert torch.equal(b, c)


@pytest.mark.parametrize("count", [1, 2])
def test_inference_mode_reaches_the_threads(threads, count):
    threads(count)
    inputs, reductions, mask = problem()
    expected = reduce_tiled(inputs[0], inputs[1], reductions, mask, tile=(128, 128))
    with torch.inference_mode():
        found = reduce_tiled(inputs[0], inputs[1], reductions, mask, tile=(128, 128))
    for a, b in zip(expected, found, strict=True):
        assert torch.equal(a, b)
