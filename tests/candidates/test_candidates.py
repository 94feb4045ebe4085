"""The queue and the slowly moving encoder of MoCo, against literal formulas."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import tauten as tt
from tauten.candidates import KeyQueue, MomentumEncoder, drawn_negatives


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_queue_keeps_the_last_keys():
    queue = KeyQueue(5, 2)
    rows = drawn(9, 2)
    for start in range(0, 9, 3):
        queue.push(rows[start : start + 3], torch.arange(start, start + 3))
    keys, ids = queue.candidates(torch.zeros(1, 2), torch.tensor([77]))
    assert ids[0] == 77
    assert sorted(ids[1:].tolist()) == [4, 5, 6, 7, 8]
    assert torch.equal(keys[1:], rows[ids[1:]])


def test_a_batch_larger_than_the_queue_leaves_its_last_keys():
    queue = KeyQueue(2, 1)
    queue.push(torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([1, 2, 3]))
    _, ids = queue.candidates(torch.zeros(1, 1), torch.tensor([0]))
    assert sorted(ids.tolist()) == [0, 2, 3]


def test_an_empty_queue_gives_the_batch_alone():
    keys, ids = KeyQueue(4, 3).candidates(drawn(2, 3), torch.tensor([5, 6]))
    assert torch.equal(keys, drawn(2, 3))
    assert ids.tolist() == [5, 6]


def test_loss_with_a_queue_is_that_of_moco():
    """Row i against its key, the other keys and the queue, but no key of its own sample."""
    tau, index = 0.2, torch.tensor([3, 1, 4])
    q, k, old = drawn(3, 4, seed=1).requires_grad_(), drawn(3, 4, seed=2), drawn(4, 4, seed=3)
    old_ids = torch.tensor([1, 9, 2, 6])
    queue = KeyQueue(4, 4)
    queue.push(old, old_ids)
    keys, key_ids = queue.candidates(k, index)
    loss_fn = tt.InfoNCE(tau, directions="x2y")
    own = torch.arange(3)
    loss = loss_fn(q, keys, (index, key_ids), positives=own, same=[(index, key_ids)])
    expected = 0.0
    for i in range(3):
        score = F.cosine_similarity(q[i : i + 1], torch.cat([k, old])) / tau
        allowed = [j for j, other in enumerate([*index.tolist(), *old_ids.tolist()])]
        allowed = [j for j in allowed if j == i or key_ids[j] != index[i]]
        expected = expected - torch.log_softmax(score[allowed], 0)[allowed.index(i)] / 3
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(*(torch.autograd.grad(v, q)[0] for v in (loss, expected)))


def test_queue_resumes_from_its_state():
    queue, again = KeyQueue(4, 2), KeyQueue(4, 2)
    queue.push(drawn(3, 2), torch.arange(3))
    again.load_state_dict(queue.state_dict())
    for one in (queue, again):
        one.push(drawn(2, 2, seed=5), torch.tensor([8, 9]))
    first, second = (one.candidates(torch.zeros(1, 2), torch.tensor([0])) for one in (queue, again))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_momentum_encoder_moves_slowly_and_has_no_gradient():
    encoder = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    slow = MomentumEncoder(encoder, 0.9)
    before = encoder[0].weight.detach().clone()
    with torch.no_grad():
        encoder[0].weight += 1.0
    slow.update(encoder)
    torch.testing.assert_close(slow.encoder[0].weight, before + 0.1)
    assert not slow(drawn(4, 3).requires_grad_()).requires_grad
    assert not any(parameter.requires_grad for parameter in slow.parameters())
    assert torch.equal(encoder[1].running_mean, torch.zeros(2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_momentum_encoder_of_low_precision_moves_by_steps_below_its_digits(dtype):
    encoder = nn.Sequential(nn.Linear(3, 2)).to(dtype)
    slow = MomentumEncoder(encoder, 0.999)
    before = encoder[0].weight.detach().double()
    with torch.no_grad():
        encoder[0].weight += 0.1
    target = encoder[0].weight.detach().double()
    for step in range(100):
        slow.update(encoder)
        if step == 49:  # a checkpoint goes on where it was
            again = MomentumEncoder(nn.Sequential(nn.Linear(3, 2)).to(dtype), 0.999)
            again.load_state_dict(slow.state_dict())
            slow = again
    expected = target + 0.999**100 * (before - target)
    kept = slow.exact.of("0.weight", slow.encoder[0].weight)
    torch.testing.assert_close(kept.double(), expected, rtol=1e-4, atol=1e-6)
    assert slow.encoder[0].weight.dtype == dtype
    assert torch.equal(slow.encoder[0].weight, kept.to(dtype))
    slow.to(dtype)
    assert slow.exact.of("0.weight", slow.encoder[0].weight).dtype == torch.float32


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"\[0, 1\), got 1"):
        MomentumEncoder(nn.Linear(1, 1), 1.0)
    with pytest.raises(ValueError, match="other parameters"):
        MomentumEncoder(nn.Linear(2, 2)).update(nn.Linear(2, 2, bias=False))
    with pytest.raises(ValueError, match="at least 1"):
        KeyQueue(0, 4)
    with pytest.raises(ValueError, match=r"keys must be \(N, 4\)"):
        KeyQueue(3, 4).push(drawn(2, 3), torch.arange(2))
    with pytest.raises(ValueError, match="keys must be"):
        KeyQueue(3, 3).candidates(drawn(2, 3), torch.arange(3))


def test_negatives_are_drawn_by_the_softmax_of_the_rest_of_the_row():
    x, y = drawn(5, 4), drawn(5, 4, seed=1)
    ids = torch.tensor([0, 1, 2, 1, 3])
    generator = torch.Generator().manual_seed(0)
    rows = [drawn_negatives(x, y, 0.5, same=[ids], generator=generator) for _ in range(3000)]
    s = F.normalize(x, dim=1) @ F.normalize(y, dim=1).T / 0.5
    apart = ids[:, None] != ids
    for drawn_rows, scores in zip(map(torch.stack, zip(*rows, strict=True)), (s, s.T), strict=True):
        expected = scores.exp().masked_fill(~apart, 0.0)
        expected = expected / expected.sum(1, keepdim=True)
        shares = torch.stack([drawn_rows.eq(j).float().mean(0) for j in range(5)], dim=1)
        assert (shares - expected).abs().max() < 0.05
        assert shares[~apart].sum() == 0
    with pytest.raises(ValueError, match="2 of 2 pairs have no negative"):
        drawn_negatives(x[:2], y[:2], 0.5, same=[torch.zeros(2)])
    with pytest.raises(ValueError, match="temperature must be above 0"):
        drawn_negatives(x, y, 0.0)
    with pytest.raises(ValueError, match="must be \\(N, d\\)"):
        drawn_negatives(x, y[:2], 0.5)
