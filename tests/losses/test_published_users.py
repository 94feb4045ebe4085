"""Users of two domains, aligned with a temperature of each: those who did little gain most."""

import pytest
import torch
from torch.nn import functional as F

import tauten as tt
from compared import check

USERS, ITEMS = 240, 60
HEAD = torch.arange(USERS) < USERS // 3
COUNTS = torch.where(HEAD, 30, 3)


def domain(taste, counts, generator):
    """Interactions of all users with items of a domain, and one further item of each user."""
    items = F.normalize(torch.randn(ITEMS, 4, generator=generator), dim=1)
    chance = (8 * taste @ items.T).softmax(1)
    drawn = torch.multinomial(chance, 12, generator=generator)
    seen = torch.zeros(USERS, ITEMS)
    for user, count in enumerate(counts.tolist()):
        seen[user, drawn[user, :count]] = 1
    return seen, drawn[:, -1]


def recommended(aligned, seed=0, steps=40):
    """HR@10 and NDCG@10 of head users and of cold users, for an item that was held out."""
    generator = torch.Generator().manual_seed(seed)
    taste = F.normalize(torch.randn(USERS, 4, generator=generator), dim=1)
    seen = [
        domain(taste, counts, generator)
        for counts in (torch.full((USERS,), 10), torch.where(HEAD, 9, 2))
    ]
    torch.manual_seed(seed)
    towers = [torch.nn.Linear(ITEMS, 8) for _ in seen]
    items = [torch.nn.Parameter(0.1 * torch.randn(ITEMS, 8)) for _ in seen]
    parameters = [*towers[0].parameters(), *towers[1].parameters(), *items]
    optimizer = torch.optim.Adam(parameters, lr=0.02)
    align = tt.InfoNCE(tt.ClusterShift(COUNTS, 0.1, 0.3), directions="x2y")
    chosen = tt.InfoNCE(0.2, directions="x2y")
    for _ in range(steps):
        users = torch.randperm(USERS, generator=generator)[:80]
        z = [tower(table[users]) for tower, (table, _) in zip(towers, seen, strict=True)]
        optimizer.zero_grad()
        loss = sum(
            chosen(side, item, targets=F.normalize(table[users], p=1, dim=1))
            for side, item, (table, _) in zip(z, items, seen, strict=True)
        )
        if aligned:
            loss = loss + align(z[0], z[1], users)
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        both = [
            F.normalize(tower(table), dim=1) for tower, (table, _) in zip(towers, seen, strict=True)
        ]
        found = tt.evaluation.ranks(sum(both), items[1], seen[1][1], directions=("x2y",))["x2y"]
    hit = found.hit(10)
    gain = hit / (1 + found.best.double()).log2()
    return {
        group: (float(hit[rows].mean()), float(gain[rows].mean()))
        for group, rows in (("head", HEAD), ("cold", ~HEAD))
    }


def test_alignment_helps_users_with_few_interactions():
    alone, aligned = recommended(False), recommended(True)
    assert set(aligned) == {"head", "cold"}
    for at in range(2):  # HR@10 and NDCG@10
        assert aligned["cold"][at] > alone["cold"][at]
    assert aligned["cold"][0] > 10 / ITEMS + 0.05


@pytest.mark.parametrize("tile", ["dense", (2, 3)])
def test_each_user_has_the_temperature_of_its_frequency(tile):
    """−log e^{s(u^A, u^B)/τ_u} / Σ_v e^{s(u^A, v^B)/τ_u}"""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 5, 4, generator=generator, dtype=torch.float64)
    a, b, users = a.requires_grad_(), b.requires_grad_(), torch.tensor([0, 239, 3, 200, 79])
    tau = torch.tensor([0.1, 0.3], dtype=torch.float64)[HEAD.long()][users]
    control = tt.ClusterShift(COUNTS, 0.1, 0.3).double()
    found = tt.InfoNCE(control, directions="x2y", tile=tile).double()(a, b, users)
    s = F.normalize(a, dim=1) @ F.normalize(b, dim=1).T
    told = F.cross_entropy(s / tau[:, None], torch.arange(5))
    check(found, told, [a, b])
