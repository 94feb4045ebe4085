"""Paired differences: recovered, calibrated, and corrected for how many there are."""

import numpy as np
import pytest
import torch

from tauten.comparison.contrasts import contrasts, estimates
from tauten.comparison.queries import Queries

GROUPS = ["head"] * 120 + ["mid"] * 50 + ["tail"] * 30


def ranked(hit):
    """Queries whose both directions hit, or not, at 1."""
    ranks = torch.where(torch.as_tensor(hit), 1, 99)
    everyone = torch.arange(len(ranks))
    return Queries(ranks, ranks, everyone, everyone, GROUPS)


def variant(chance, seeds=4, start=0, shared=None):
    """Runs that hit with this chance; queries are as hard for all of them."""
    hard = np.random.default_rng(7).random(len(GROUPS)) if shared is None else shared
    found = {}
    for seed in range(seeds):
        noise = np.random.default_rng(start + seed).random(len(GROUPS))
        found[seed] = ranked(0.7 * hard + 0.3 * noise < np.asarray(chance))
    return found


def test_a_real_difference_is_found_where_it_is():
    lift = np.array([0.0] * 120 + [0.0] * 50 + [0.4] * 30)
    runs = {"base": variant(0.4), "same": variant(0.4, start=50), "tail": variant(0.4 + lift)}
    pairs = [("same", "base"), ("tail", "base")]
    found = {(c.a, c.group): c for c in contrasts(runs, pairs, "hit@1", bootstrap=800)}
    assert found["tail", "tail"].verdict == "better"
    assert found["tail", "tail"].value > 0.25
    assert found["tail", "tail"].corrected_p < 0.01
    assert found["tail", "head"].value == 0
    assert (found["tail", "head"].p, found["tail", "head"].corrected_p) == (1.0, 1.0)
    assert {found["same", g].verdict for g in ("all", "head", "mid", "tail")} == {"same"}
    assert found["tail", "tail"].queries == 30
    shares = [(g, GROUPS.count(g) / 200) for g in ("head", "mid", "tail")]
    assert found["tail", "all"].value == pytest.approx(
        sum(share * found["tail", g].value for g, share in shares)
    )


def test_the_sign_is_that_of_a_minus_b():
    runs = {"low": variant(0.3), "high": variant(0.6)}
    (up, *_), (down, *_) = (
        contrasts(runs, [pair], "hit@1", bootstrap=300)
        for pair in (("high", "low"), ("low", "high"))
    )
    assert up.value == -down.value > 0.2
    assert (up.verdict, down.verdict) == ("better", "worse")
    assert up.corrected_low == pytest.approx(-down.corrected_high, abs=0.03)


def test_correction_widens_with_the_number_of_comparisons():
    runs = {"base": variant(0.4)}
    runs |= {f"v{k}": variant(0.42, start=100 * k) for k in range(1, 9)}
    alone = contrasts(runs, [("v1", "base")], "hit@1", bootstrap=600)[0]
    many = contrasts(runs, [(f"v{k}", "base") for k in range(1, 9)], "hit@1", bootstrap=600)[0]
    assert (alone.value, alone.low, alone.high, alone.p) == (
        many.value,
        many.low,
        many.high,
        many.p,
    )
    assert many.corrected_high - many.corrected_low > 1.1 * (
        alone.corrected_high - alone.corrected_low
    )
    assert many.corrected_p > alone.corrected_p >= alone.p


def test_hand_checked_interval_of_a_difference_without_noise_in_queries():
    """Every query gains in seed 0 and none in seed 1: only the draw of seeds matters."""
    none = torch.zeros(len(GROUPS), dtype=torch.bool)
    runs = {"a": {0: ranked(~none), 1: ranked(none)}, "b": {0: ranked(none), 1: ranked(none)}}
    found = contrasts(runs, [("a", "b")], "hit@1", bootstrap=500)[0]
    assert (found.value, found.low, found.high) == (0.5, 0.0, 1.0)
    assert found.effect == pytest.approx(0.5 / (0.5 / 2) ** 0.5)


def test_effects_need_seeds_that_differ():
    runs = {"a": variant(0.6, seeds=1), "b": variant(0.4, seeds=1)}
    assert contrasts(runs, [("a", "b")], "hit@1", bootstrap=50)[0].effect is None


def test_chance_alone_is_seldom_called_a_difference():
    """20 experiments without any effect, four variants each: at most a few say anything."""
    called = 0
    for number in range(20):
        hard = np.random.default_rng(900 + number).random(len(GROUPS))
        runs = {
            f"v{k}": variant(0.45, start=10_000 * number + 100 * k, shared=hard) for k in range(5)
        }
        found = contrasts(
            runs, [(f"v{k}", "v0") for k in range(1, 5)], "hit@1", bootstrap=200, seed=number
        )
        called += any(c.verdict != "same" for c in found)
    assert called <= 4


def test_only_common_seeds_are_paired():
    runs = {"a": variant(0.6, seeds=3), "b": dict(list(variant(0.4, seeds=4).items())[1:])}
    assert contrasts(runs, [("a", "b")], "hit@1", bootstrap=50)[0].seeds == 2
    runs["c"] = {9: runs["a"][0]}
    assert contrasts(runs, [("c", "b")], "hit@1", bootstrap=50) == []


def test_what_cannot_be_compared():
    runs = {"a": variant(0.5), "b": variant(0.5)}
    with pytest.raises(ValueError, match="not 0"):
        contrasts(runs, [("a", "b")], "hit@1", bootstrap=0)
    everyone = torch.arange(3)
    runs["b"] = {0: Queries(everyone, everyone, everyone, everyone, ["head"] * 3)}
    with pytest.raises(ValueError, match="different queries: 3 and 200"):
        contrasts(runs, [("a", "b")], "hit@1")


def test_means_by_group():
    runs = {"a": variant(0.5)}
    found = estimates(runs, "hit@1", bootstrap=100)
    hits = torch.stack([queries.scores("hit@1") for queries in runs["a"].values()])
    assert found["a", "mid"].value == pytest.approx(float(hits[:, 120:170].mean()))
    assert found["a", "all"].seeds == 4
