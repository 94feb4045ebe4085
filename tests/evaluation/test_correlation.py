import pytest
import torch
from scipy.stats import spearmanr

from tauten.evaluation import spearman


def test_equals_the_textbook_with_ties():
    generator = torch.Generator().manual_seed(0)
    a = torch.randint(0, 9, (60,), generator=generator).float()
    b = a + torch.randint(0, 9, (60,), generator=generator)
    found = spearman(a, b, bootstrap=200)
    assert found.value == pytest.approx(spearmanr(a.numpy(), b.numpy()).statistic, abs=1e-12)
    assert found.low < found.value < found.high
    assert (found.queries, found.seeds) == (60, 1)


def test_seeds_are_averaged():
    generator = torch.Generator().manual_seed(1)
    b = torch.arange(30.0)
    a = b + 10 * torch.randn(3, 30, generator=generator)
    expected = sum(spearmanr(row.numpy(), b.numpy()).statistic for row in a) / 3
    assert spearman(a, b, bootstrap=50).value == pytest.approx(expected, abs=1e-12)


def test_the_interval_of_clusters_is_wider_where_clusters_share_a_value():
    generator = torch.Generator().manual_seed(2)
    clusters = torch.arange(12).repeat_interleave(40)
    level = torch.randn(12, generator=generator)
    a = level[clusters] + 0.1 * torch.randn(480, generator=generator)
    b = torch.rand(12, generator=generator)[clusters]
    single, whole = spearman(a, b, bootstrap=300), spearman(a, b, clusters, bootstrap=300)
    assert single.value == whole.value
    assert whole.high - whole.low > 2 * (single.high - single.low)
    assert whole.queries == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.rand(4), torch.rand(5)), r"got \(4,\) and \(5,\)"),
        ((torch.rand(2), torch.rand(2)), "Q >= 3"),
        ((torch.ones(4), torch.rand(4)), "a is constant"),
        ((torch.rand(4), torch.tensor([1.0, 2.0, float("nan"), 3.0])), "b has NaN"),
        ((torch.rand(4), torch.rand(4), torch.zeros(3).long()), r"clusters must be \(4,\)"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        spearman(*arguments)
