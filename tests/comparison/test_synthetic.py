"""Synthetic pairs: their tail, their truth, and what theory says of their temperatures."""

import dataclasses
import math
from collections import Counter

import pytest
import torch
from torch.nn import functional as F

import tauten as tt
from tauten.comparison.features import FeatureSplit, load, save
from tauten.comparison.synthetic import (
    SyntheticConfig,
    best_temperature,
    class_sizes,
    groups_for,
    synthetic,
)

PLAIN = SyntheticConfig(
    concepts=12, pairs=700, exponent=1.2, dim=12, width=12, spread=0.0, noise=0.6
)


def latent_sides(config, seed=0):
    """Both sides without rotation or nuisance, drawn anew around the true latent vectors."""
    truth = synthetic(config).truth
    generator = torch.Generator().manual_seed(seed)
    z, noise = truth["latent"], truth["noise"][:, None]
    sides = [z + noise * torch.randn(z.shape, generator=generator, dtype=z.dtype) for _ in range(2)]
    return [F.normalize(side, dim=1) for side in sides], truth


def loss_per_anchor(sides, tau):
    logits = (sides[0] @ sides[1].T).float() / tau
    return logits.logsumexp(1) - logits.diagonal()


def best_on_grid(sides, rows):
    grid = torch.exp(torch.linspace(math.log(0.02), math.log(1.0), 40)).tolist()
    losses = [float(loss_per_anchor(sides, tau)[rows].mean()) for tau in grid]
    return grid[losses.index(min(losses))]


def test_sizes_follow_the_exponent():
    assert class_sizes(4, 12, 0.0) == [3, 3, 3, 3]
    assert class_sizes(3, 3, 2.0) == [1, 1, 1]
    sizes = class_sizes(100, 50_000, 1.5)
    assert sum(sizes) == 50_000
    assert sizes[0] / sizes[9] == pytest.approx(10**1.5, rel=0.01)


def test_the_pairs_are_what_was_asked_for():
    config = dataclasses.replace(PLAIN, width=20, queries=4, false_negatives=0.3)
    made = synthetic(config)
    assert sorted(Counter(made["train"].labels).values()) == sorted(class_sizes(12, 700, 1.2))
    assert set(Counter(made["test"].labels).values()) == {4}
    assert made["val"].x.shape == (48, 20)
    truth = made.truth
    same = (truth["latent"][:, None, 0] == truth["latent"][None, :, 0]).sum(1) - 1
    assert torch.equal(same, truth["false_negatives"])
    repeats = 1 - len(truth["latent"][:, 0].unique()) / 700
    assert repeats == pytest.approx(0.3, abs=0.05)
    for i, j in [(0, 1), (300, 301)]:
        if bool((truth["latent"][i] == truth["latent"][j]).all()):
            assert made["train"].labels[i] == made["train"].labels[j]


def test_noise_follows_class_size_and_the_same_seed_repeats():
    config = dataclasses.replace(PLAIN, noise_gradient=1.0)
    made = synthetic(config)
    assert made.truth["noise"][0] == pytest.approx(0.6 * math.exp(0.5))
    assert made.truth["noise"][-1] == pytest.approx(0.6 * math.exp(-0.5))
    assert made.fingerprint == synthetic(config).fingerprint
    assert made.fingerprint != synthetic(dataclasses.replace(config, seed=1)).fingerprint


@pytest.mark.parametrize("noise", [0.7, 0.9, 1.1])
def test_the_best_temperature_is_that_of_theory(noise):
    sides, _ = latent_sides(dataclasses.replace(PLAIN, noise=noise))
    found = best_on_grid(sides, slice(None))
    assert found == pytest.approx(best_temperature(noise, 12), rel=0.2)


def test_false_negatives_want_a_higher_temperature():
    clean, _ = latent_sides(PLAIN)
    sides, truth = latent_sides(dataclasses.replace(PLAIN, false_negatives=0.7))
    with_some = truth["false_negatives"] >= 3
    assert best_on_grid(sides, with_some) > 1.15 * best_on_grid(
        sides, truth["false_negatives"] == 0
    )
    assert best_on_grid(sides, with_some) > 1.15 * best_on_grid(clean, slice(None))


@pytest.mark.parametrize(("gradient", "expected"), [(1.2, "dense"), (-1.2, "rare")])
def test_a_shift_in_the_direction_of_theory_lowers_the_loss(gradient, expected):
    config = dataclasses.replace(PLAIN, noise_gradient=gradient)
    assert config.expected() == expected
    sides, truth = latent_sides(config)
    best = truth["best_temperature"]
    mirrored = best.mean() / (1 / best).mean() / best

    def loss(tau):
        return float(loss_per_anchor(sides, tau[:, None]).mean())

    assert loss(best) < loss(best.mean().expand(len(best))) - 0.02
    assert loss(best.mean().expand(len(best))) < loss(mirrored) - 0.02


def test_where_theory_expects_no_direction():
    assert SyntheticConfig().expected() == "neither"
    assert SyntheticConfig(false_negatives=0.2).expected() == "dense"
    assert SyntheticConfig(false_negatives=0.2, exponent=0.0).expected() == "neither"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"concepts": 1}, "got 1 concepts, 3000 pairs"),
        ({"dim": 90}, "got 90 and 48"),
        ({"false_negatives": 1.0}, "got 1.0"),
        ({"noise": 0.0}, "noise > 0"),
    ],
)
def test_what_cannot_be_made(change, message):
    with pytest.raises(ValueError, match=message):
        SyntheticConfig(**change)


def test_groups_are_thirds():
    config = SyntheticConfig()
    head, tail = groups_for(config)
    names = Counter(tt.data.count_groups(class_sizes(60, 3000, 1.0), head, tail))
    assert all(15 <= names[name] <= 25 for name in ("head", "mid", "tail"))
    head, tail = groups_for(SyntheticConfig(exponent=0.0))
    assert set(tt.data.count_groups([50] * 60, head, tail)) == {"head"}


def test_features_there_and_back(tmp_path):
    made = synthetic(SyntheticConfig(concepts=3, pairs=20, queries=2))
    save(made, tmp_path / "f.npz")
    again = load(tmp_path / "f.npz")
    assert again.fingerprint == made.fingerprint
    assert again["val"].y_of_x == made["val"].y_of_x
    (tmp_path / "bad.npz").write_bytes(b"no")
    with pytest.raises(ValueError, match="no file of features"):
        load(tmp_path / "bad.npz")


def test_a_split_is_checked():
    with pytest.raises(ValueError, match="got 2, 1, 2 and 2"):
        FeatureSplit(torch.ones(2, 3), torch.ones(2, 3), [[0]], ["a", "b"], torch.arange(2))
    broken = torch.tensor([[1.0], [float("nan")]])
    with pytest.raises(ValueError, match="infinite features in 1 of 2"):
        FeatureSplit(broken, torch.ones(2, 1), [[0], [1]], ["a", "b"], torch.arange(2))
