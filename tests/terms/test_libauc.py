"""Numbers of LibAUC 2.0.1 on fixed tensors: GCLoss_v1 and v2, and losses of partial AUC."""

import math

import pytest
import torch
from torch.nn import functional as F

import tauten as tt
from tauten import terms

T = torch.arange(12, dtype=torch.float64).view(4, 3)
FIRST = F.normalize((T * 0.7 + 0.3).sin(), dim=1)
SECOND = F.normalize((T * 0.7 + 0.3).sin() * 0.6 + (T * 1.3).cos() * 0.5, dim=1)
IDS = [torch.tensor([4, 0, 5, 2]), torch.tensor([0, 2, 4, 5])]

# gradients of the first side in the first and the second step; γ is 1, then 0.6; τ = 0.3
V2 = [
    "-0.2631201919 0.2424992241 0.2452607663 0.0245831383 -0.649362048 -0.3600913442 "
    "0.4721955336 0.9070687426 0.4382452149 0.0214292 0.0385244131 -0.0769325603",
    "0.3089273047 0.1254921418 0.5800859861 -0.0823541431 0.2886082791 -0.1555486431 "
    "0.317675935 0.3540873653 0.643867328 -0.9947672426 -1.0437826484 -1.9193188334",
]
# the same with enable_isogclr, rho 0.3, eta 0.01, beta 0.9, tau in [0.05, 0.7]
V2_ISOGCLR = [
    "-0.2631201939 0.2424992203 0.2452607643 0.0245831398 -0.6493620441 -0.3600913418 "
    "0.4721955347 0.9070687426 0.4382452147 0.021429198 0.0385244086 -0.0769325623",
    "0.3086607161 0.1253553105 0.5795390949 -0.0825242016 0.2883720715 -0.1559422503 "
    "0.3180534168 0.3543479998 0.6446896384 -0.9945794006 -1.043651855 -1.91898655",
]
V1 = (
    "-0.26072616 -0.0376261699 0.1096249234 -0.1639401417 -0.5387171939 -0.2175925967 "
    "-0.0901996723 0.0942304037 0.0131717431 -0.0704284724 -0.0435326481 0.0595973609"
)
# margin 0.6, Lambda 0.7, tau 1.3, gammas 1, scores sin(1.7 k), positives 0, 3 and 4
AUC = {
    ("squared_hinge", "one way"): "-0.9694009739 2.3699318405 0.0055717586 -1.6501848296 "
    "-0.510685367 0.754451122 0.0001349152 0.0001815343",
    ("squared_hinge", "two ways"): "-0.1588385353 3.8088615753 0.002955564 -4.564161379 "
    "-0.0359007515 0.9462082752 0.000373155 0.0005020963",
    ("squared_hinge", "all"): "-0.4446147761 0.6942261017 0.2152976638 -1.0460896577 "
    "-0.2669233628 0.6169550225 0.1101253326 0.121023676",
    ("squared", "one way"): "-0.9677474374 2.3391817544 -0.0023847769 -1.6501848296 "
    "-0.3686757186 0.7398847022 -0.0516759485 -0.0383977458",
    ("squared", "two ways"): "-0.1583993391 3.8032566976 0.0023648518 -4.5586781108 "
    "-0.027206737 0.9445847621 -0.003557501 -0.0023646235",
    ("logistic", "one way"): "-0.1080075776 0.1181801731 0.0463417391 -0.1347935955 "
    "-0.0929290934 0.1018545566 0.0336677852 0.0356860125",
    ("logistic", "two ways"): "-0.1016178519 0.1213508132 0.0473792373 -0.1644697186 "
    "-0.0779675312 0.1045218658 0.0343661959 0.0364369894",
    ("logistic", "all"): "-0.1011460459 0.0791277849 0.0580144528 -0.1270588306 "
    "-0.0870520483 0.0760346467 0.0503424694 0.051737571",
}


def read(line, *shape):
    return torch.tensor([float(part) for part in line.split()], dtype=torch.float64).view(*shape)


@pytest.mark.parametrize("form", ["constant", "isogclr"])
def test_gcloss_v2_has_the_gradient_times_the_number_of_negatives(form):
    """It sums over the B − 1 negatives what the paper takes the mean of."""
    loss_fn = tt.SogCLR(6, 0.3, 0.6, normalize=False)
    if form == "isogclr":
        options = {"tau_init": 0.3, "tau_range": (0.05, 0.7), "lr": 0.01, "beta": 0.9}
        loss_fn = tt.iSogCLR(6, 0.3, 0.6, **options, max_gradient=None, normalize=False)
    loss_fn = loss_fn.double()
    for step, line in enumerate(V2 if form == "constant" else V2_ISOGCLR):
        x = FIRST.roll(step, 0).clone().requires_grad_()
        (grad,) = torch.autograd.grad(loss_fn(x, SECOND.roll(step, 1), IDS[step]), x)
        torch.testing.assert_close(3 * grad, read(line, 4, 3), rtol=1e-5, atol=1e-7)
        loss_fn.step()


def test_gcloss_v1_has_twice_the_gradient_of_two_views():
    """On first visits; later it averages exponentials without the positive's."""
    loss_fn = tt.SogCLR(6, 0.3, 0.6, directions="x2y").double()
    x = FIRST.clone().requires_grad_()
    (grad,) = torch.autograd.grad(loss_fn.two_views(x, SECOND, IDS[0]), x)
    torch.testing.assert_close(2 * grad, read(V1, 4, 3), rtol=1e-6, atol=1e-8)


TERM = {"one way": (0.7,), "two ways": (0.7, 1.3), "all": (math.inf,)}


@pytest.mark.parametrize(("surrogate", "form"), AUC)
def test_partial_auc_has_the_gradient_of_libauc(surrogate, form):
    scores = (torch.arange(8, dtype=torch.float64) * 1.7).sin().requires_grad_()
    positives = torch.tensor([1, 0, 0, 1, 1, 0, 0, 0]).bool()
    term = terms.PartialAUC(*TERM[form], surrogate=surrogate, margin=0.6)
    (grad,) = torch.autograd.grad(term(scores, positives), scores)
    torch.testing.assert_close(grad, read(AUC[surrogate, form], 8), rtol=1e-8, atol=1e-9)


SCORES = torch.tensor([0.3, -0.2, 0.9, 0.1], dtype=torch.float64)
HIGH = torch.tensor([True, False, True, False])


def test_its_value_is_the_robust_objective():
    """λ·log mean exp(ℓ/λ) is the largest Σ p·ℓ − λ·KL(p ‖ uniform)."""
    loss = (0.6 - (SCORES[HIGH][:, None] - SCORES[~HIGH])).clamp(min=0).square()
    value = terms.PartialAUC(0.2, margin=0.6)(SCORES, HIGH)
    p = torch.linspace(0, 1, 20001, dtype=torch.float64)
    p = torch.stack([p, 1 - p], dim=1)
    entropy = -torch.special.xlogy(p, p).sum(1)
    best = [(p @ row - 0.2 * (math.log(2) - entropy)).max() for row in loss]
    assert float(value) == pytest.approx(float(sum(best)) / 2, abs=1e-7)
    assert float(terms.PartialAUC(1e6, margin=0.6)(SCORES, HIGH)) == pytest.approx(
        float(terms.PartialAUC(math.inf, margin=0.6)(SCORES, HIGH)), rel=1e-5
    )


def test_gradients_are_those_of_finite_differences():
    scores = SCORES.clone().requires_grad_()
    for term in (terms.PartialAUC(0.2, 0.5, surrogate="hinge", margin=2.0), terms.PartialAUC(0.3)):
        assert torch.autograd.gradcheck(lambda s, term=term: term(s, HIGH), scores)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: terms.PartialAUC(0), "strength must be a number above 0"),
        (lambda: terms.PartialAUC(math.inf, 1.0), "goes with a finite strength"),
        (lambda: terms.PartialAUC(surrogate="step"), "surrogate must be one of"),
        (lambda: terms.PartialAUC()(SCORES, HIGH[:2]), r"got \(4,\) and torch.bool \(2,\)"),
        (
            lambda: terms.PartialAUC()(SCORES, ~HIGH & HIGH),
            "positive and a negative, got 0 and 4",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()
