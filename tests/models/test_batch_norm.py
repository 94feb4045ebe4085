"""On one process batch normalisation is torch's own; on several it has the whole batch."""

from pathlib import Path

import pytest
import torch
from torch import nn

from by_path import load
from forks import found_by
from tauten.models.batch_norm import BatchNorm, with_whole_batches

WORKER = Path(__file__).with_name("batch_norm_worker.py")
worker = load(WORKER)
WITHIN = {"vectors": 1e-9, "pictures": 1e-9, "single": 3e-5, "half": 3e-2}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each of three processes found, of which one has no row."""
    folder = tmp_path_factory.mktemp("batch_norm")
    return found_by(WORKER, folder, len(worker.ROWS))


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("case", WITHIN)
def test_uneven_shards_have_the_statistics_and_gradients_of_the_whole(found, case, affine):
    """The oracle is torch's own layer on the whole batch."""
    kind = nn.BatchNorm1d if case == "vectors" else nn.BatchNorm2d
    rows, state, gradients = worker.results(worker.layer(case, affine, kind), *worker.batch(case))
    parts, states, sums = zip(*(mine[case, affine] for mine in found), strict=True)
    within = {"rtol": WITHIN[case], "atol": 10 * WITHIN[case]}
    for value, mine in zip(rows, zip(*parts, strict=True), strict=True):
        assert {part.dtype for part in mine} == {value.dtype}
        torch.testing.assert_close(torch.cat(mine), value, **within)
    for mine in states:
        for value, part in zip(state, mine, strict=True):
            torch.testing.assert_close(part, value, **within)
    for value, mine in zip(gradients, zip(*sums, strict=True), strict=True):
        torch.testing.assert_close(torch.stack(mine).sum(0), value, **within)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_one_process_has_the_bits_of_torch(momentum):
    torch.manual_seed(0)
    theirs, ours = nn.BatchNorm2d(3, momentum=momentum), BatchNorm(3, momentum=momentum)
    assert list(theirs.state_dict()) == list(ours.state_dict())
    for training in (True, True, False):
        x = torch.randn(5, 3, 4, 4) + 2
        found = [layer.train(training)(x) for layer in (theirs, ours)]
        assert torch.equal(*found)
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name


def test_conversion_keeps_the_state_and_finds_every_layer():
    inner = nn.BatchNorm1d(2)
    module = nn.Sequential(nn.Linear(2, 2), nn.Sequential(inner, nn.LayerNorm(2)))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    converted = with_whole_batches(module)
    assert [type(m) for m in converted.modules() if "Batch" in type(m).__name__] == [BatchNorm]
    after = converted.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert torch.equal(converted[1][0].weight, inner.weight)


def test_a_vector_is_refused():
    with pytest.raises(ValueError, match=r"needs \(N, C"):
        BatchNorm(3)(torch.zeros(3))
