"""Batches of one cluster each, and stages that learn what earlier ones did not."""

import pytest
import torch
from torch.nn import functional as F

import tauten as tt
from tauten.structure import ClusterBatches, refined

LABELS = torch.tensor([0] * 10 + [7] * 5 + [3] * 3)


def test_each_batch_is_of_one_cluster_and_an_epoch_has_each_sample_once():
    batches = list(ClusterBatches(LABELS, 4))
    assert len(batches) == len(ClusterBatches(LABELS, 4)) == 3
    assert all(len(set(LABELS[rows].tolist())) == 1 for rows in batches)
    served = [i for rows in batches for i in rows]
    assert len(served) == len(set(served)) == 12
    assert ClusterBatches(LABELS, 4).dropped == 18 - 12


def test_what_is_left_out_and_the_order_change_by_epoch_and_not_by_process():
    parts = [ClusterBatches(LABELS, 4, seed=3, rank=rank, world=2) for rank in range(2)]
    whole = ClusterBatches(LABELS, 4, seed=3)
    orders = []
    for epoch in range(4):
        for sampler in (*parts, whole):
            sampler.set_epoch(epoch)
        joined = [first + second for first, second in zip(*parts, strict=True)]
        assert joined == list(whole) == list(whole)
        orders.append(joined)
    assert len({str(order) for order in orders}) == 4
    assert len({frozenset(i for rows in order for i in rows) for order in orders}) > 1


def test_a_loader_takes_it():
    data = torch.utils.data.TensorDataset(LABELS)
    loader = torch.utils.data.DataLoader(data, batch_sampler=ClusterBatches(LABELS, 5))
    assert [len(set(labels.tolist())) for (labels,) in loader] == [1, 1, 1]


def test_clusters_of_stages_are_those_of_both():
    labels, clusters = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 2, 0, 2])
    assert refined(labels, clusters, 3).tolist() == [0, 2, 3, 5]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ClusterBatches(LABELS, 11), "no cluster has the 11 samples .* largest has 10"),
        (lambda: ClusterBatches(LABELS, 1), "batch_size must be at least 2, got 1"),
        (lambda: ClusterBatches(LABELS, 4, world=3), "world=3 must divide batch_size=4"),
        (lambda: ClusterBatches(LABELS, 4, rank=2, world=2), "rank=2 be below it"),
        (lambda: refined(LABELS, LABELS, 7), "in 0 .. 6"),
        (lambda: refined(LABELS, LABELS[:3], 9), "each of 18 samples"),
    ],
)
def test_what_does_not_fit_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_a_second_stage_learns_the_attribute_that_the_first_did_not():
    """MCL: colours are strong and shapes weak; one encoder trained for as long sees colours."""
    generator = torch.Generator().manual_seed(0)
    color, shape = (torch.randint(0, k, (900,), generator=generator) for k in (6, 3))
    x = torch.cat([2.5 * F.one_hot(color, 6), 0.6 * F.one_hot(shape, 3)], dim=1)
    x = x + 0.1 * torch.randn(x.shape, generator=generator)

    def stage(labels, steps, seed):
        torch.manual_seed(seed)
        encoder, loss_fn = torch.nn.Linear(9, 2), tt.InfoNCE(0.2)
        optimizer = torch.optim.Adam(encoder.parameters(), lr=0.03)
        sampler, done = ClusterBatches(labels, 60, seed=seed), 0
        while done < steps:
            sampler.set_epoch(done)
            for rows in sampler:
                views = [x[rows] + 0.25 * torch.randn(60, 9, generator=generator) for _ in "12"]
                optimizer.zero_grad()
                loss_fn(*map(encoder, views)).backward()
                optimizer.step()
                done += 1
        return F.normalize(encoder(x).detach(), dim=1)

    def clusters(z, count=6):
        """k-means from samples that lie far apart."""
        centres = z[:1]
        for _ in range(count - 1):
            far = (z @ centres.T).max(1).values.argmin()
            centres = torch.cat([centres, z[far][None]])
        for _ in range(20):
            code = (z @ centres.T).argmax(1)
            centres = torch.stack([F.normalize(z[code == k].sum(0), dim=0) for k in range(count)])
        return code

    def accuracy(z, labels):
        z = F.normalize(z, dim=1)
        near = (z[450:] @ z[:450].T).topk(9, dim=1).indices
        return float((labels[near].mode(1).values == labels[450:]).float().mean())

    start = torch.zeros(900, dtype=torch.long)
    longer, first = stage(start, 160, 0), stage(start, 80, 0)
    second = stage(refined(start, clusters(first), 6), 80, 1)
    both = torch.cat([first, second], dim=1)
    assert accuracy(both, color) > 0.95
    assert accuracy(both, shape) > accuracy(longer, shape) + 0.15


def test_labels_that_new_ones_would_not_tell_apart_are_refused():
    clusters = torch.tensor([3])
    with pytest.raises(ValueError, match="got -1 .. -1"):
        refined(torch.tensor([-1]), clusters, 4)
    with pytest.raises(ValueError, match="number them anew"):
        refined(torch.tensor([2**62]), clusters, 4)
    with pytest.raises(ValueError, match="in 3 .. 3"):
        refined(torch.tensor([0]), clusters, 2)
