"""Memories in partitions and with labels that are found in training."""

import pytest
import torch
from torch.nn import functional as F

import tauten as tt
from compared import check
from tauten import terms
from tauten.candidates import ClusteredMemory, OnlineClusters
from tauten.evaluation import transported


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def modes(count, width=6, groups=3, noise=0.3, seed=0):
    """Samples around as many directions as there are groups, and the group of each."""
    group = torch.randint(0, groups, (count,), generator=torch.Generator().manual_seed(seed))
    return torch.eye(width)[group] + noise * drawn(count, width, seed=seed + 1), group


def filled(samples=60, partitions=3):
    z, group = modes(samples)
    memory = ClusteredMemory(samples, 6, partitions, "uniform")
    memory.push(z, torch.arange(samples))
    memory.recluster()
    return memory, z, group


def test_partitions_are_pure_where_the_data_has_groups():
    memory, _, group = filled()
    assert memory.purity(group) > 0.9
    more, other = modes(30, seed=5)
    memory.push(more, torch.arange(30))
    assert len(memory) == 60
    assert memory.purity(torch.where(torch.arange(60) < 30, F.pad(other, (0, 30)), group)) > 0.8
    assert ClusteredMemory(60, 6, 3, "uniform").load_state_dict(memory.state_dict())


def test_neighbours_are_the_nearest_of_the_partition_without_the_sample_itself():
    memory, z, _ = filled()
    index, k = torch.arange(8), 4
    near, missing = memory.neighbours(z[:8], index, k)
    stored, ids, parts = memory.stored()
    code = memory.partition(z[:8])
    for i in range(8):
        allowed = [j for j in range(60) if parts[j] == code[i] and ids[j] != i]
        cosine = stored @ F.normalize(z[i], dim=0)
        told = sorted(allowed, key=lambda j: -float(cosine[j]))[:k]
        torch.testing.assert_close(near[i], stored[told])
    assert not bool(missing.any())
    _, missing = memory.neighbours(z[:8], index, 59)
    assert bool(missing[:, -1].all())
    empty = ClusteredMemory(5, 6, 2, "uniform")
    assert bool(empty.neighbours(z[:8], index, 2)[1].all())


def test_prototypes_follow_the_means_of_their_partitions():
    memory, z, _ = filled()
    before = memory.prototypes.vectors.clone()
    memory.push(z[:5], torch.arange(5))
    stored, _, parts = memory.stored()
    for k in range(3):
        mean = F.normalize(stored[parts == k].sum(0), dim=0)
        told = F.normalize(0.9 * before[k] + 0.1 * mean, dim=0)
        torch.testing.assert_close(memory.prototypes.vectors[k], told)


def test_the_enlarged_batch_has_beclrs_loss():
    """−½Σcos(p(z¹), sg z²) + 0.1·log mean over negatives of exp(s/2), of anchors and neighbours."""
    memory, z, _ = filled()
    index, k = torch.arange(4), 3
    near, _ = memory.neighbours(z[:4], index, k)
    ids = torch.cat([index, index.repeat_interleave(k) + 100 + torch.arange(12)])
    both = [
        torch.cat([z[:4], near.flatten(0, 1)]).double() + 0.1 * drawn(16, 6, seed=s).double()
        for s in (7, 8)
    ]
    z1, z2 = (part.requires_grad_() for part in both)
    p1, p2 = (2 * z1 + 1, 2 * z2 + 1)  # of a predictor
    pull = terms.Distillation()
    apart = terms.Uniformity(0.25)(torch.cat([z1, z2]), same=ids.repeat(2)) + 0.5
    found = (pull(p1, z2) / 2 - 1 + pull(p2, z1) / 2 - 1) / 2 + 0.1 * apart

    def cosine(a, b):
        return (F.normalize(a, dim=1) * F.normalize(b.detach(), dim=1)).sum(1)

    units = F.normalize(torch.cat([z1, z2]), dim=1)
    kept = ~torch.eye(16).bool().repeat(2, 2)
    negatives = ((units @ units.T) / 2).exp()[kept].mean().log()
    told = -(cosine(p1, z2).mean() + cosine(p2, z1).mean()) / 2 + 0.1 * negatives
    check(found, told, [z1, z2])


def test_transport_is_that_of_the_paper_and_takes_out_a_shift():
    """OpTA: D(π)⁻¹π·Z of the queries, π by Sinkhorn to its end."""
    queries, group = modes(90, noise=0.15, seed=3)
    shifted = queries + torch.tensor([0.0, 0.0, 0.0, 0.6, 0.6, 0.6])
    support = torch.eye(6)[:3]
    cost = (support[:, None].double() - shifted[None].double()).square().sum(2)
    kernel = (-cost / cost.max() / 0.05).exp()
    u, v = torch.ones(3).double(), torch.ones(90).double()
    for _ in range(2000):
        u = 1 / 3 / (kernel @ v)
        v = 1 / 90 / (kernel.T @ u)
    plan = u[:, None] * kernel * v
    told = (plan / plan.sum(1, keepdim=True)) @ shifted.double()
    found = transported(support, shifted)
    torch.testing.assert_close(found.double(), told, rtol=1e-4, atol=1e-4)
    means = torch.stack([shifted[group == c].mean(0) for c in range(3)])
    assert float((found - means).norm(dim=1).max()) < 0.3 * float(
        (support - means).norm(dim=1).min()
    )


def clustered(samples=40):
    z, group = modes(samples)
    clusters = OnlineClusters(samples, 6, 4, momentum=0.5)
    clusters.update(z, torch.arange(samples))
    for _ in range(5):
        clusters.step()
        clusters.update(z, torch.arange(samples))
    return clusters, z, group


def test_labels_follow_the_embeddings_and_no_cluster_stays_empty():
    clusters, z, group = clustered()
    assert clusters.labels.bincount(minlength=4).min() > 0
    for label in clusters.labels.unique():
        members = group[clusters.labels == label].bincount(minlength=3)
        assert int(members.max()) >= 0.8 * int(members.sum())
    moved = clusters.embeddings[0].clone()
    clusters.update(-z[:1], torch.tensor([0]))
    told = F.normalize(0.5 * moved - 0.5 * F.normalize(z[0], dim=0), dim=0)
    torch.testing.assert_close(clusters.embeddings[0], told)
    assert int(clusters.labels[0]) == int((clusters.centroids @ told).argmax())


def test_partners_are_of_the_cluster_and_negatives_of_the_nearest_others():
    clusters, _, _ = clustered()
    index = torch.arange(0, 40, 3)
    generator = torch.Generator().manual_seed(1)
    partner, negatives = clusters.partners(index, count=5, nearest=8, generator=generator)
    table, labels = clusters.embeddings, clusters.labels
    for row, i in enumerate(index.tolist()):
        place = int((table - partner[row]).norm(dim=1).argmin())
        assert labels[place] == labels[i]
        assert place != i or int((labels == labels[i]).sum()) == 1
        others = [j for j in range(40) if labels[j] != labels[i]]
        others.sort(key=lambda j: -float(table[j] @ table[i]))
        near = table[others[:8]]
        for vector in negatives.for_x[row]:
            assert float((near - vector).norm(dim=1).min()) < 1e-6
    assert not bool(negatives.missing_x.any())


def test_interclrs_loss_of_partners():
    """Semi-hard negatives and a positive of the cluster, which wins by less than nothing."""
    clusters, z, _ = clustered()
    x, index = z[:6].double().requires_grad_(), torch.arange(6)
    partner, negatives = clusters.partners(index, 7, 12, torch.Generator().manual_seed(2))
    loss_fn = tt.InfoNCE(0.2, margin=-0.5, directions="x2y")
    alone = ~torch.eye(6, dtype=torch.bool)
    found = loss_fn(x, partner, negatives=negatives, ignore=alone)
    units = F.normalize(x, dim=1)
    own = (units * partner.double()).sum(1) + 0.5
    near = (units[:, None] * negatives.for_x.double()).sum(2)
    logits = torch.cat([own[:, None], near], dim=1) / 0.2
    told = F.cross_entropy(logits, torch.zeros(6, dtype=torch.long))
    torch.testing.assert_close(found, told, rtol=1e-6, atol=1e-6)


def test_one_cluster_has_no_negatives():
    clusters = OnlineClusters(5, 6, 1)
    clusters.update(drawn(5, 6), torch.arange(5))
    _, negatives = clusters.partners(torch.arange(5), 3, 4)
    assert bool(negatives.missing_x.all())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ClusteredMemory(5, 6, 3, "uniform").recluster(), "3 partitions need as many"),
        (lambda: ClusteredMemory(5, 6, 3, torch.ones(2)), r"marginal must be \(3,\)"),
        (lambda: OnlineClusters(0, 6, 3), "samples must be at least 1, got 0"),
        (lambda: OnlineClusters(5, 6, 3, momentum=1), r"momentum must be in \[0, 1\), got 1"),
        (
            lambda: OnlineClusters(5, 6, 3).update(drawn(2, 6), torch.tensor([1, 5])),
            r"index must be in 0 .. 4, got 1 .. 5",
        ),
        (
            lambda: OnlineClusters(5, 6, 3).update(drawn(2, 5), torch.tensor([1, 2])),
            r"embeddings must be \(2, 6\), got \(2, 5\)",
        ),
        (
            lambda: OnlineClusters(5, 6, 3).partners(torch.tensor([1, 2]), 2, 2),
            "2 samples have no label yet, first: 1",
        ),
        (lambda: transported(drawn(3, 5), drawn(4, 6)), r"\(Q, 5\), got \(4, 6\)"),
        (lambda: terms.Uniformity()(drawn(4, 5), torch.zeros(4).long()), "leaves no pair"),
        (lambda: terms.Uniformity()(drawn(4, 5), torch.zeros(3).long()), "each of 4 rows, got 3"),
    ],
)
def test_what_does_not_fit_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()
