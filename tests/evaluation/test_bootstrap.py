"""Intervals over queries and seeds."""

import numpy as np
import pytest
import torch
from scipy import stats

from tauten.evaluation import bootstrap_mean, paired_bootstrap
from tauten.evaluation.bootstrap import BUDGET, resample, weighted_medians
from tauten.evaluation.intervals import student


def test_multiplicities_sum_to_n_and_chunks_cover_all_replicates():
    n = BUDGET // 3
    parts = list(resample(n, 7, torch.Generator().manual_seed(0)))
    assert [len(part) for part in parts] == [3, 3, 1]
    assert all((part.sum(dim=1) == n).all() for part in parts)


@pytest.mark.parametrize("n", [1, 2, 7, 8])
def test_weighted_median_is_the_median_of_the_repeated_values(n):
    generator = torch.Generator().manual_seed(n)
    values = torch.randint(0, 9, (n,), generator=generator).double()
    weight = torch.cat(list(resample(n, 50, generator)))
    expected = [np.median(np.repeat(values.numpy(), w.long().numpy())) for w in weight]
    assert weighted_medians(values, weight).tolist() == expected


def test_interval_over_seeds_and_queries_against_its_formula():
    """t² of the variance over seeds, and z² of the covariance of two seeds' means over queries."""
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(1, 400))
    scores = shared + rng.normal(size=(4, 400)) + 0.1 * rng.normal(size=(4, 1))
    found = bootstrap_mean(scores, bootstrap=4000)
    means = scores.mean(axis=1)
    over_queries = np.cov(scores)[~np.eye(4, dtype=bool)].mean() / 400
    half = np.sqrt(
        stats.t.ppf(0.975, 3) ** 2 * means.var(ddof=1) / 4
        + stats.norm.ppf(0.975) ** 2 * over_queries
    )
    assert found.value == pytest.approx(scores.mean())
    assert found.low == pytest.approx(found.value - half, abs=0.05 * half)
    assert found.high == pytest.approx(found.value + half, abs=0.05 * half)
    assert (found.queries, found.seeds) == (400, 4)


@pytest.mark.parametrize(("seeds", "ratio"), [(2, 4.0), (3, 1.0), (5, 4.0)])
def test_intervals_over_seeds_hold_the_truth(seeds, ratio):
    """200 made experiments: 95 % are promised. Drawing seeds with replacement held 84 % of two."""
    rng, inside = np.random.default_rng(seeds), 0
    for number in range(200):
        scores = rng.normal(size=(seeds, 100)) + ratio * 0.1 * rng.normal(size=(seeds, 1))
        found = bootstrap_mean(scores, bootstrap=100, seed=number)
        inside += found.low <= 0 <= found.high
    assert inside >= 180


def test_one_seed_is_the_percentile_interval_of_its_queries():
    scores = np.random.default_rng(3).normal(size=50)
    drawn = torch.cat(list(resample(50, 300, torch.Generator().manual_seed(7)))).numpy()
    low, high = np.quantile(drawn @ scores / 50, [0.025, 0.975])
    found = bootstrap_mean(scores, bootstrap=300, seed=7)
    assert (found.low, found.high) == pytest.approx((low, high))


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 9, 40])
def test_quantiles_of_student(freedom):
    assert student(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-3)


@pytest.mark.parametrize(("hits", "queries"), [(0, 10), (1, 30), (9, 30), (30, 30)])
def test_shares_have_the_interval_of_wilson(hits, queries):
    found = bootstrap_mean([1.0] * hits + [0.0] * (queries - hits), share=True, bootstrap=10)
    exact = stats.binomtest(hits, queries).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=1e-6)


def test_queries_of_a_cluster_are_drawn_together():
    """Five copies of each query say as much as one."""
    score = (np.random.default_rng(1).random(60) < 0.4).astype(float)
    owner = np.repeat(np.arange(60), 5)
    once = bootstrap_mean(score, seed=2)
    copied = bootstrap_mean(np.repeat(score, 5), seed=2, clusters=10 * owner + 3)
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high))
    wilson = bootstrap_mean(score, share=True)
    both = bootstrap_mean(np.repeat(score, 5), share=True, clusters=owner)
    assert (both.low, both.high) == pytest.approx((wilson.low, wilson.high))
    zero = np.zeros(60)
    gain = paired_bootstrap(np.repeat(score, 5), np.repeat(zero, 5), seed=2, clusters=owner)
    assert (gain.low, gain.high) == pytest.approx((once.low, once.high))
    middle = bootstrap_mean(np.repeat(score, 5), clusters=owner, statistic="median")
    assert middle.value == np.median(score)


def test_pairing_removes_what_is_common():
    rng = np.random.default_rng(1)
    common = 10 * rng.normal(size=300)
    better = paired_bootstrap(common + 1 + 0.1 * rng.normal(size=300), common)
    assert better.value == pytest.approx(1, abs=0.05)
    assert better.measurable
    assert better.high - better.low < 0.1
    assert bootstrap_mean(common).high - bootstrap_mean(common).low > 1


def test_equal_runs_have_no_measurable_difference():
    scores = torch.rand(3, 40, generator=torch.Generator().manual_seed(0))
    same = paired_bootstrap(scores, scores)
    assert (same.value, same.low, same.high, same.measurable) == (0, 0, 0, False)


def test_sign_is_a_minus_b_and_worse_is_measurable_too():
    worse = paired_bootstrap(torch.zeros(20), torch.ones(20))
    assert worse.value == worse.low == worse.high == -1
    assert worse.measurable


def test_difference_within_its_interval_is_not_measurable():
    rng = np.random.default_rng(2)
    assert not paired_bootstrap(rng.normal(size=50), rng.normal(size=50)).measurable


def test_disagreeing_seeds_widen_the_interval():
    flips = torch.tensor([1.0, -1.0, 1.0, -1.0])[:, None].expand(4, 500)
    over_seeds = paired_bootstrap(flips, torch.zeros(4, 500))
    one_seed = paired_bootstrap(flips[0], torch.zeros(500))
    assert one_seed.measurable
    assert not over_seeds.measurable
    assert over_seeds.high - over_seeds.low > 0.9


def test_null_coverage_is_near_95_percent():
    rng = np.random.default_rng(3)
    found = [
        paired_bootstrap(rng.normal(size=100), rng.normal(size=100), bootstrap=400, seed=i)
        for i in range(300)
    ]
    assert 0.90 < 1 - np.mean([f.measurable for f in found]) < 0.985


def test_median_statistic_averages_over_seeds():
    scores = [[1.0, 2.0, 9.0], [3.0, 4.0, 5.0]]
    assert bootstrap_mean(scores, statistic="median").value == 3.0
    assert paired_bootstrap(scores, np.zeros((2, 3)), statistic="median").value == 3.0


def test_seeded():
    scores = torch.rand(50, generator=torch.Generator().manual_seed(0))
    assert bootstrap_mean(scores, seed=3) == bootstrap_mean(scores, seed=3)
    assert bootstrap_mean(scores, seed=3) != bootstrap_mean(scores, seed=4)


def test_more_seeds_than_queries():
    found = bootstrap_mean(torch.arange(9.0)[:, None], bootstrap=500)
    assert found.low < found.value == 4 < found.high


@pytest.mark.parametrize(
    ("a", "b", "options", "message"),
    [
        (np.zeros(3), np.zeros(4), {}, r"\(1, 3\) but b has \(1, 4\)"),
        (np.zeros((2, 3)), np.zeros((3, 3)), {}, "the same seeds on both sides"),
        (np.zeros(0), np.zeros(0), {}, "a must be a non-empty vector"),
        (np.zeros((1, 1, 1)), np.zeros(1), {}, "a must be a non-empty vector"),
        (np.zeros(2), np.array([0, np.nan]), {}, "b has 1 entries that are NaN or inf"),
        (np.zeros(2), np.zeros(2), {"bootstrap": 0}, "bootstrap must be at least 1, not 0"),
        (np.zeros(2), np.zeros(2), {"statistic": "mode"}, "not 'mode'"),
    ],
)
def test_errors(a, b, options, message):
    with pytest.raises(ValueError, match=message):
        paired_bootstrap(a, b, **options)
