"""What is kept for later batches takes no numbers that are not finite, and names what is wrong."""

from __future__ import annotations

import pytest
import torch

import tauten as tt
from tauten.candidates import (
    ClassQueues,
    ClusteredMemory,
    OnlineClusters,
    Prototypes,
    drawn_negatives,
)

IDS = torch.arange(4)


@pytest.mark.parametrize(
    ("build", "push"),
    [
        (lambda: ClassQueues(3, 5, 4), lambda kept, z: kept.push(z, IDS)),
        (lambda: ClusteredMemory(8, 5, 2, "uniform"), lambda kept, z: kept.push(z, IDS)),
        (lambda: OnlineClusters(9, 5, 2), lambda kept, z: kept.update(z, IDS)),
        (
            lambda: Prototypes(3, 5, momentum=0.9),
            lambda kept, z: (kept.moved(z, torch.ones(4, 3)), kept.step()),
        ),
    ],
)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_kept_stays_finite(build, push, value):
    kept, z = build(), torch.randn(4, 5)
    push(kept, z)
    before = {name: part.clone() for name, part in kept.state_dict().items()}
    bad = z.clone()
    bad[2, 1] = value
    with pytest.raises(ValueError, match="finite|1 of 4 rows: 2"):
        push(kept, bad)
    if isinstance(kept, Prototypes):
        kept.step()
    for name, part in kept.state_dict().items():
        assert torch.equal(part, before[name]), name


def test_prototypes_refuse_weights_below_zero():
    with pytest.raises(ValueError, match="weights >= 0"):
        Prototypes(3, 5, momentum=0.9).moved(torch.randn(4, 5), -torch.ones(4, 3))


@pytest.mark.parametrize("wrong", ["embedding", "index"])
def test_a_batch_that_palm_refuses_moves_no_prototype(wrong):
    tau = tt.ClusterShift([1, 2, 3, 4], low=0.1, high=0.2)
    loss_fn = tt.PALM(tau, 2, 5, each=2, marginal="uniform")
    before = loss_fn.prototypes.vectors.clone()
    z, ids = torch.randn(4, 5), IDS
    if wrong == "embedding":
        z[2, 0] = float("nan")
    else:
        ids = IDS + 3
    with pytest.raises(ValueError, match=r"1 of 4 rows: 2; data set ids 2|unknown sample ids"):
        loss_fn(z, torch.tensor([0, 1, 0, 1]), ids)
    loss_fn.step()
    assert torch.equal(loss_fn.prototypes.vectors, before)


def test_a_memory_names_what_does_not_fit():
    memory = ClusteredMemory(8, 5, 2, "uniform")
    with pytest.raises(ValueError, match="0 keys: push"):
        memory.purity(torch.zeros(4).long())
    with pytest.raises(ValueError, match="each of 4 keys, got 3"):
        memory.push(torch.randn(4, 5), IDS[:3])
    memory.push(torch.randn(4, 5), IDS)
    with pytest.raises(ValueError, match="up to position 3"):
        memory.purity(torch.zeros(3).long())


def test_drawn_negatives_name_what_does_not_fit():
    x, y = torch.randn(2, 4, 5)
    with pytest.raises(ValueError, match="1 of 4 rows: 1"):
        drawn_negatives(x, y.masked_fill(IDS[:, None] == 1, float("nan")), 0.1)
    with pytest.raises(ValueError, match=r"each of 4 rows, got \(3,\)"):
        drawn_negatives(x, y, 0.1, same=[IDS[:3]])
    with pytest.raises(ValueError, match="floating numbers"):
        drawn_negatives(x[:0], y[:0], 0.1)
    only = drawn_negatives(x, y, 0.1, same=torch.tensor([0, 0, 0, 1]))
    assert only[0].tolist()[:3] == [3, 3, 3]
    assert only[1].tolist()[:3] == [3, 3, 3]
