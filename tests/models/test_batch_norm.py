"""On one process batch normalisation is torch's own; tests/training/test_launch.py has several."""

import pytest
import torch
from torch import nn

from tauten.models.batch_norm import BatchNorm, with_whole_batches


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
