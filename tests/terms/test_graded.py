"""Terms of graded pairs, of two heads and of a teacher, against their formulas in float64."""

import math

import pytest
import torch
from scipy.stats import pearsonr, rankdata
from torch.nn import functional as F

from tauten import terms
from tauten.structure import ClusterBatches

X = torch.randn(7, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.randn(7, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
SCORES = torch.tensor([5.0, 1.0, 3.0, 3.0, 0.0, 4.0, 1.0])


def cosines(x, y):
    return F.cosine_similarity(x, y, dim=1)


def pearson(x, y):
    s, g = cosines(x, y), SCORES.double()
    of_both = ((s - s.mean()) * (g - g.mean())).mean()
    return 1 - of_both / (s.var(unbiased=False) * g.var(unbiased=False)).sqrt()


def rank_kl(x, y):
    places = rankdata(-SCORES.numpy(), method="average") - 1
    wanted = (torch.from_numpy((6 - places) / 6) / 0.2).softmax(0)
    logs = (cosines(x, y) / 0.2).log_softmax(0)
    return sum(wanted[i] * (wanted[i].log() - logs[i]) for i in range(7))


def preference_order(x, y):
    s, losses = cosines(x, y) / 0.1, []
    for k in range(7):
        gaps = {j: float(SCORES[k] - SCORES[j]) for j in range(7) if SCORES[j] < SCORES[k]}
        if gaps:
            own = (max(gaps.values()) * s[k]).exp()
            losses.append(-(own / (own + sum((w * s[j]).exp() for j, w in gaps.items()))).log())
    return sum(losses) / len(losses)


def joint_entropy(x, y):
    x, y = F.normalize(x, dim=1), F.normalize(y, dim=1)
    rows = []
    for i in range(7):
        far = [((x[i] - x[j]) ** 2).sum() + ((y[i] - y[j]) ** 2).sum() for j in range(7)]
        rows.append((sum((-d / (2 * 0.4)).exp() for d in far) / 7).log())
    return sum(rows) / 7


ORACLES = {
    "pearson": (terms.Pearson(), pearson, (SCORES,)),
    "rank-kl": (terms.RankKL(0.2), rank_kl, (SCORES,)),
    "preference": (terms.PreferenceOrder(0.1), preference_order, (SCORES,)),
    "joint-entropy": (terms.JointEntropy(0.4), joint_entropy, ()),
}


@pytest.mark.parametrize("name", ORACLES)
def test_it_equals_the_formula(name):
    term, formula, more = ORACLES[name]
    pair = X.clone().requires_grad_(), Y.clone().requires_grad_()
    found, expected = term(*pair, *more), formula(*pair)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    ours, theirs = torch.autograd.grad(found, pair), torch.autograd.grad(expected, pair)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_the_correlation_is_that_of_scipy():
    told = pearsonr(cosines(X, Y).numpy(), SCORES.numpy()).statistic
    assert float(terms.Pearson()(X, Y, SCORES)) == pytest.approx(1 - told)


def test_a_teacher_gets_no_gradient():
    x, teacher = X.clone().requires_grad_(), Y.clone().requires_grad_()
    value = terms.Distillation()(x, teacher)
    unit = F.normalize(X, dim=1) - F.normalize(Y, dim=1)
    assert float(value.detach()) == pytest.approx(float((unit**2).sum(1).mean()))
    value.backward()
    assert x.grad.abs().max() > 0
    assert teacher.grad is None


@pytest.mark.parametrize("name", ["pearson", "rank-kl", "preference"])
def test_equal_scores_say_nothing(name):
    x = X.clone().requires_grad_()
    value = ORACLES[name][0](x, Y, torch.ones(7))
    value.backward()
    assert float(value.detach()) == 0.0
    assert bool((x.grad == 0).all())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: terms.RankKL(0.0), "temperature must be a number above 0, got 0.0"),
        (lambda: terms.JointEntropy(math.inf), "temperature must be a number above 0"),
        (lambda: terms.Pearson()(X, Y, SCORES[:3]), r"scores must be \(7,\), one for each pair"),
        (lambda: terms.Pearson()(X, Y, SCORES * math.nan), "scores must be finite"),
        (lambda: terms.JointEntropy()(X, Y[:3]), "a row for each sample"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_batches_hold_one_task_and_ties_contribute_nothing():
    """CoDiEmb: lists to rank and graded pairs never meet, and equal scores are not compared."""
    tasks = torch.tensor([0, 1, 1, 0, 1, 0, 1, 1, 0, 0, 1, 0, 1, 1])
    sampler = ClusterBatches(tasks, 3)
    batches = [torch.tensor(batch) for batch in sampler]
    assert len(batches) == 4
    assert all(len(tasks[batch].unique()) == 1 for batch in batches)
    assert {int(tasks[batch][0]) for batch in batches} == {0, 1}
    scores, tau = torch.tensor([3.0, 1.0, 3.0, 2.0, 1.0, 3.0, 0.0], dtype=torch.float64), 0.05
    s = (F.normalize(X, dim=1) * F.normalize(Y, dim=1)).sum(1) / tau

    def preference(compared):
        of_pairs = []
        for k in range(7):
            weights = scores[k] - scores
            if not bool((weights > 0).any()):
                continue
            own = (weights.max() * s[k]).exp()
            others = sum((weights[j] * s[j]).exp() for j in range(7) if compared(k, j))
            of_pairs.append(-(own / (own + others)).log())
        return float(torch.stack(of_pairs).mean())

    found = float(terms.PreferenceOrder(tau)(X, Y, scores))
    assert found == pytest.approx(preference(lambda k, j: scores[k] > scores[j]), rel=1e-9)
    with_ties = preference(lambda k, j: k != j and scores[k] >= scores[j])
    assert with_ties > found + 1e-6
