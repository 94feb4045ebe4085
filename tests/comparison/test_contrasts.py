"""Paired differences: recovered, calibrated, and corrected for how many there are."""

import numpy as np
import pytest
import torch
from scipy import stats

from tauten.comparison.contrasts import contrasts, estimates
from tauten.evaluation import QueryRanks
from tauten.outcome import Outcome, Queries

GROUPS = ["head"] * 120 + ["mid"] * 50 + ["tail"] * 30


def ranked(hit):
    """Queries whose both directions hit, or not, at 1."""
    ranks = torch.where(torch.as_tensor(hit), 1, 99)
    everyone = torch.arange(len(ranks))
    found = QueryRanks(ranks, torch.arange(len(ranks) + 1), len(ranks))
    sides = {
        way: Queries(GROUPS[: len(ranks)], GROUPS[: len(ranks)], ranks=found)
        for way in ("x2y", "y2x")
    }
    return Outcome("pairs", sides, everyone, everyone)


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
    assert found["tail", "head"].p == found["tail", "head"].corrected_p == 1
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
    assert up.value == pytest.approx(-down.value)
    assert up.value > 0.2
    assert (up.verdict, down.verdict) == ("better", "worse")
    assert up.corrected_low == pytest.approx(-down.corrected_high, abs=0.03)


def test_correction_widens_with_the_number_of_comparisons():
    runs = {"base": variant(0.4)}
    runs |= {f"v{k}": variant(0.42, start=100 * k) for k in range(1, 9)}
    alone = contrasts(runs, [("v1", "base")], "hit@1", bootstrap=600)[0]
    many = contrasts(runs, [(f"v{k}", "base") for k in range(1, 9)], "hit@1", bootstrap=600)[0]
    assert alone.value == pytest.approx(many.value)
    assert many.corrected_high - many.corrected_low > 1.5 * (many.high - many.low)
    for one in (alone, many):
        assert one.corrected_low <= one.low <= one.value <= one.high <= one.corrected_high
        assert one.corrected_p >= one.p


def test_hand_checked_interval_of_a_difference_without_noise_in_queries():
    """Every query gains in seeds 0 and 2 and none in 1 and 3: Student's interval of 1, 0, 1, 0."""
    none = torch.zeros(len(GROUPS), dtype=torch.bool)
    runs = {
        "a": {seed: ranked(none if seed % 2 else ~none) for seed in range(4)},
        "b": {seed: ranked(none) for seed in range(4)},
    }
    found = contrasts(runs, [("a", "b")], "hit@1", bootstrap=500)[0]
    half = stats.t.ppf(0.975, 3) * np.std([1, 0, 1, 0], ddof=1) / 2
    assert found.value == pytest.approx(0.5)
    assert found.low == pytest.approx(0.5 - half, rel=0.1)
    assert found.high == pytest.approx(0.5 + half, rel=0.1)
    assert found.p == pytest.approx(stats.ttest_1samp([1, 0, 1, 0], 0).pvalue, abs=0.03)
    assert found.effect == pytest.approx(0.5 / (np.var([1, 0, 1, 0], ddof=1) / 2) ** 0.5)


def test_hand_checked_interval_of_queries_that_all_seeds_share():
    """Seeds agree on every query: nothing but the draw of queries matters, as with one seed."""
    hit = torch.tensor(np.random.default_rng(0).random(len(GROUPS)) < 0.3)
    none = torch.zeros(len(GROUPS), dtype=torch.bool)
    runs = {name: {0: ranked(h), 1: ranked(h)} for name, h in (("a", hit), ("b", none))}
    found = {c.group: c for c in contrasts(runs, [("a", "b")], "hit@1", bootstrap=4000)}
    for group in ("head", "tail"):
        own = hit.numpy()[np.array(GROUPS) == group]
        half = stats.t.ppf(0.975, len(own) - 1) * own.std(ddof=1) / len(own) ** 0.5
        assert found[group].high - found[group].value == pytest.approx(half, rel=0.08)
        assert found[group].value - found[group].low == pytest.approx(half, rel=0.08)


def test_one_seed_gives_no_verdict():
    runs = {"a": variant(0.9, seeds=1), "b": variant(0.1, seeds=1)}
    found = contrasts(runs, [("a", "b")], "hit@1", bootstrap=200)
    assert {c.verdict for c in found} == {"one seed"}
    assert found[0].corrected_low > 0
    runs["c"] = variant(0.9, seeds=3, start=70)
    runs["d"] = variant(0.1, seeds=3, start=90)
    found = contrasts(runs, [("a", "b"), ("c", "d")], "hit@1", bootstrap=200)
    verdicts = {(c.a, c.group): c.verdict for c in found}
    assert verdicts["a", "all"] == "one seed"
    assert verdicts["c", "all"] == "better"


def test_runs_counted_twice_prove_nothing_more():
    """A tuned setting that is the default has the same runs: no second view of the seeds."""
    rng = np.random.default_rng(5)
    runs = {
        name: {seed: ranked(rng.random(200) < rng.uniform(0.2, 0.8)) for seed in range(2)}
        for name in ("base", "a")
    }
    alone = contrasts(runs, [("a", "base")], "hit@1", bootstrap=100)[0]
    runs["a again"] = dict(runs["a"])
    twice = contrasts(runs, [("a", "base"), ("a again", "base")], "hit@1", bootstrap=100)[0]
    assert twice.corrected_high == pytest.approx(alone.corrected_high, rel=0.15)


def test_effects_need_seeds_that_differ():
    runs = {"a": variant(0.6, seeds=1), "b": variant(0.4, seeds=1)}
    assert contrasts(runs, [("a", "b")], "hit@1", bootstrap=50)[0].effect is None


def made(rng, mean, sd_seed, seeds):
    """Runs whose hits, 1 in 2 where ``mean`` is 0, go up and down together by the seed."""
    found = {}
    for seed in range(seeds):
        chance = 0.5 + mean + sd_seed * rng.normal()
        found[seed] = ranked(rng.random(len(GROUPS)) < chance)
    return found


@pytest.mark.parametrize(
    ("seeds", "ratio"), [(2, 0.0), (2, 4.0), (3, 1.0), (3, 4.0), (5, 2.0), (5, 12.0)]
)
def test_chance_alone_is_seldom_called_a_difference(seeds, ratio):
    """60 experiments without any effect, three comparisons each in four groups, for each ratio of
    the spread over seeds to that over queries: 3 in which anything is called are promised."""
    rng = np.random.default_rng(100 * seeds + int(ratio))
    sd_seed = ratio * 0.5 / len(GROUPS) ** 0.5
    called = 0
    for number in range(60):
        runs = {f"v{k}": made(rng, 0.0, sd_seed, seeds) for k in range(4)}
        pairs = [(f"v{k}", "v0") for k in range(1, 4)]
        found = contrasts(runs, pairs, "hit@1", bootstrap=100, seed=number)
        called += any(c.verdict != "same" for c in found)
    assert called <= 9


def test_five_seeds_find_four_standard_deviations():
    """Of a run; most of 20 experiments, where the spread over seeds is twice that over queries."""
    rng = np.random.default_rng(4)
    sd_query = 0.5 / len(GROUPS) ** 0.5
    lift = 4 * (sd_query**2 + (2 * sd_query) ** 2) ** 0.5
    found = 0
    for number in range(20):
        runs = {f"v{k}": made(rng, lift * (k == 1), 2 * sd_query, 5) for k in range(4)}
        pairs = [(f"v{k}", "v0") for k in range(1, 4)]
        best = contrasts(runs, pairs, "hit@1", bootstrap=100, seed=number)[0]
        found += best.verdict == "better"
    assert found >= 12


def test_only_common_seeds_are_paired():
    runs = {"a": variant(0.6, seeds=3), "b": dict(list(variant(0.4, seeds=4).items())[1:])}
    assert contrasts(runs, [("a", "b")], "hit@1", bootstrap=50)[0].seeds == 2
    runs["c"] = {9: runs["a"][0]}
    assert contrasts(runs, [("c", "b")], "hit@1", bootstrap=50) == []


def test_what_cannot_be_compared():
    runs = {"a": variant(0.5), "b": variant(0.5)}
    with pytest.raises(ValueError, match="not 0"):
        contrasts(runs, [("a", "b")], "hit@1", bootstrap=0)
    runs["b"] = {0: ranked([True] * 3)}
    with pytest.raises(ValueError, match="different queries: 3 and 200"):
        contrasts(runs, [("a", "b")], "hit@1")


def test_means_by_group():
    runs = {"a": variant(0.5)}
    found = estimates(runs, "hit@1", bootstrap=100)
    hits = torch.stack([queries.scores("hit@1") for queries in runs["a"].values()])
    assert found["a", "mid"].value == pytest.approx(float(hits[:, 120:170].mean()))
    assert found["a", "all"].seeds == 4
