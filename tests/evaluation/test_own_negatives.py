"""Accuracy against own negatives, penalty entropy and hard loss, against loops."""

import numpy as np
import pytest
import torch

import tauten as tt
from tauten.evaluation import compositional, penalty


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_compositional_against_a_loop():
    rng = np.random.default_rng(0)
    x, y, n = rng.normal(size=(40, 6)), rng.normal(size=(40, 6)), rng.normal(size=(40, 3, 6))
    groups = ["head"] * 15 + ["tail"] * 25
    found = compositional(*(torch.tensor(a) for a in (x, y, n)), groups)
    wins = np.array(
        [
            [unit(x)[i] @ unit(y)[i] > unit(x)[i] @ unit(n)[i, k] for k in range(3)]
            for i in range(40)
        ]
    )
    assert found["accuracy"] == pytest.approx(wins.all(axis=1).mean())
    assert found["pairwise/tail"] == pytest.approx(wins[15:].mean())
    assert found["accuracy/head/low"] <= found["accuracy/head"] <= found["accuracy/head/high"]
    assert found["n/head"] == 15


def test_a_negative_that_ties_wins():
    x = torch.randn(20, 32)
    y = torch.randn(20, 32)
    tied = torch.stack([y, -x], dim=1) * 3
    found = compositional(x, y, tied, bootstrap=0)
    assert found["accuracy"] == 0
    beaten = compositional(x, y, tied[:, 1:], bootstrap=0)
    assert beaten["accuracy"] == 1
    assert set(beaten) == {"accuracy", "pairwise", "n"}


def test_what_is_missing_is_not_counted():
    rng = np.random.default_rng(2)
    x, y, n = rng.normal(size=(12, 6)), rng.normal(size=(12, 6)), rng.normal(size=(12, 3, 6))
    missing = rng.random((12, 3)) < 0.4
    missing[0], missing[1] = True, False
    groups = ["head"] * 5 + ["tail"] * 7
    n[missing] = np.nan
    found = compositional(
        *(torch.tensor(a) for a in (x, y, n)), groups, missing=torch.tensor(missing)
    )
    wins = [
        [
            unit(x)[i] @ unit(y)[i] > unit(x)[i] @ unit(n)[i, k]
            for k in range(3)
            if not missing[i, k]
        ]
        for i in range(12)
    ]
    asked = [i for i in range(12) if wins[i]]
    assert found["n"] == len(asked) < 12
    assert found["accuracy"] == pytest.approx(np.mean([all(wins[i]) for i in asked]))
    assert found["pairwise"] == pytest.approx(np.mean([np.mean(wins[i]) for i in asked]))
    head = [np.mean(wins[i]) for i in asked if i < 5]
    assert found["pairwise/head"] == pytest.approx(np.mean(head))
    with pytest.raises(ValueError, match="none of 12 x has a negative"):
        compositional(*map(torch.tensor, (x, y, n)), missing=torch.ones(12, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"missing must be bool \(12, 3\)"):
        compositional(*map(torch.tensor, (x, y, n)), missing=torch.ones(12, dtype=torch.bool))


@pytest.mark.parametrize("budget", [1, 10**6])
@pytest.mark.parametrize("share", [0.2, 1.0])
def test_penalty_against_a_loop(budget, share):
    rng = np.random.default_rng(1)
    x, y, tau = rng.normal(size=(9, 4)), rng.normal(size=(11, 4)), rng.uniform(0.05, 0.5, 9)
    own, groups = rng.integers(0, 11, 9), ["head"] * 4 + ["tail"] * 5
    entropy, hard = [], []
    for i in range(9):
        sim = unit(y) @ unit(x)[i]
        negative = np.delete(sim, own[i])
        r = np.exp(negative / tau[i]) / np.exp(negative / tau[i]).sum()
        entropy.append(-(r * np.log(r)).sum())
        kept = np.sort(negative)[::-1][: int(np.ceil(share * 10))]
        up = np.exp(sim[own[i]] / tau[i])
        hard.append(-np.log(up / (up + np.exp(kept / tau[i]).sum())))
    sides = torch.tensor(x), torch.tensor(y), torch.tensor(tau)
    found = penalty(*sides, groups, own=own, share=share, budget=budget)
    assert found["penalty_entropy"] == pytest.approx(np.mean(entropy))
    assert found["penalty_entropy/tail"] == pytest.approx(np.mean(entropy[4:]))
    assert found["hard_loss"] == pytest.approx(np.mean(hard))
    assert found["hard_loss/head"] == pytest.approx(np.mean(hard[:4]))
    assert found["hard_loss/low"] <= found["hard_loss"] <= found["hard_loss/high"]


def test_entropy_rises_with_the_temperature():
    x, y = torch.randn(20, 8), torch.randn(20, 8)
    found = [penalty(x, y, tau, bootstrap=0)["penalty_entropy"] for tau in (0.01, 0.1, 1.0, 1e4)]
    assert found == sorted(found)
    assert found[-1] == pytest.approx(np.log(19), rel=1e-4)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tau": 0.0}, "tau must be positive"),
        ({"tau": [0.1]}, "tau must be one number or one for each"),
        ({"own": [0, 1, 9]}, "own spans 0..9 for 3 candidates"),
        ({"share": 1.5}, "share must be in"),
    ],
)
def test_bad_arguments(given, said):
    with pytest.raises(ValueError, match=said):
        penalty(**({"x": torch.eye(3), "y": torch.eye(3), "tau": 0.1} | given))
    with pytest.raises(ValueError, match=r"negatives \(N, K, d\)"):
        compositional(torch.eye(3), torch.eye(3), torch.eye(3))


def test_each_group_follows_its_temperature_over_the_schedule():
    """MM-TS: the penalty of head and tail at each step is that of their own τ."""
    x, y = torch.randn(40, 8), torch.randn(40, 8)
    counts = torch.tensor([200] * 20 + [5] * 20)
    groups = ["head"] * 20 + ["tail"] * 20
    control = tt.mmts(counts, alpha=0.2, shift=(0.17, 0.3), period=10)
    entropy = {"head": [], "tail": []}
    for step in range(6):  # from the top of the wave to its bottom
        tau = control.at(torch.arange(40), step)
        found = penalty(x, y, tau, groups, bootstrap=0)
        for name, rows in (("head", slice(20)), ("tail", slice(20, 40))):
            alone = penalty(x[rows], y, tau[rows], own=torch.arange(40)[rows], bootstrap=0)
            assert found[f"penalty_entropy/{name}"] == pytest.approx(alone["penalty_entropy"])
            assert found[f"hard_loss/{name}"] == pytest.approx(alone["hard_loss"])
            entropy[name].append(found[f"penalty_entropy/{name}"])
    for values in entropy.values():
        assert values == sorted(values, reverse=True)
        assert values[0] > values[-1] + 0.1
    assert all(head > tail for head, tail in zip(*entropy.values(), strict=True))
