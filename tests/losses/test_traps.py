"""Mistakes of a loop are said once, and right loops hear nothing."""

import warnings
from functools import partial

import pytest
import torch

import tauten as tt
from tauten.losses.traps import BATCHES, PATIENCE

N, D = 6, 4
INDEX = torch.arange(N)


def heard(loss_fn, steps, *, optimiser=None, step=True, zero=False, index=INDEX, fixed=False):
    """The warnings of a loop over random batches."""
    generator = torch.Generator().manual_seed(0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", tt.UsageWarning)
        for _ in range(steps):
            if fixed:
                generator.manual_seed(0)
            x, y = torch.randn(2, N, D, generator=generator).requires_grad_()
            with torch.set_grad_enabled(loss_fn.training):
                loss = loss_fn(x, y, index)
            if loss_fn.training:
                loss.backward()
            if optimiser is not None:
                optimiser.step()
                optimiser.zero_grad()
            if zero:
                loss_fn.zero_grad()
            if step:
                loss_fn.step()
    return [str(w.message) for w in caught if issubclass(w.category, tt.UsageWarning)]


def learned():
    return {
        "learnable": tt.InfoNCE(tt.Learnable(0.1, 0.01, 1.0)),
        "bias": tt.SigLIP(0.1, tt.Learnable(-1.0, -9.0, 9.0)),
        "uncertain": tt.InfoNCE(tt.TaU(D)),
        "tempnet": tt.DCL(tt.TempNet(D, 0.5, prototypes=4), directions="x2y"),
    }


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("name", learned())
def test_parameters_that_no_optimiser_moves(name, zero):
    told = heard(learned()[name], 2 * PATIENCE + 2, zero=zero)
    assert len(told) == 1
    assert "no optimiser moves" in told[0]
    assert "*loss_fn.parameters()" in told[0]


class InPlaceOfData(torch.optim.SGD):
    """An optimiser that moves ``.data``, which no version counts."""

    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.data.add_(p.grad, alpha=-group["lr"])


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.AdamW, InPlaceOfData])
@pytest.mark.parametrize("name", learned())
def test_parameters_in_an_optimiser_are_quiet(name, make):
    loss_fn = learned()[name]
    assert heard(loss_fn, PATIENCE + 3, optimiser=make(loss_fn.parameters(), lr=0.5)) == []


def test_a_warm_up_from_zero_a_bound_and_frozen_parameters_are_quiet():
    for make in (torch.optim.SGD, partial(torch.optim.AdamW, fused=True), InPlaceOfData):
        waiting = tt.InfoNCE(tt.Learnable(0.1, 0.01, 1.0))
        assert heard(waiting, 40, optimiser=make(waiting.parameters(), lr=0.0)) == []
    bound = tt.InfoNCE(tt.Learnable(1.0, 0.01, 1.0))
    assert heard(bound, 40, optimiser=torch.optim.SGD(bound.parameters(), lr=1e3)) == []
    assert heard(tt.InfoNCE(tt.Learnable(0.1, 0.01, 1.0)).requires_grad_(False), 40) == []


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: tt.InfoNCE(tt.Cosine(0.1, 0.2, 100)), True),
        (lambda: tt.InfoNCE(2 * tt.mmts([1] * N, 0.1, (0.1, 0.2), 100)), True),
        (
            lambda: tt.InfoNCE(tt.ClusterShift([1, 2, 3, 4, 5, 6], 0.1, 0.2), force="equalized"),
            True,
        ),
        (lambda: tt.InfoNCE(0.1), False),
        (lambda: tt.MaxMargin(tt.ClusterShift([1, 2, 3, 4, 5, 6], 0.1, 0.2)), False),
        (lambda: tt.InfoNCE(tt.DySTreSS() + 0.1), False),
    ],
)
def test_a_step_that_never_comes(make, said):
    told = heard(make(), BATCHES + 5, step=False)
    assert len(told) == said
    assert not said or "call loss_fn.step() after each optimizer.step()" in told[0]


def test_steps_that_come_are_quiet():
    loss_fn, told = tt.InfoNCE(tt.Cosine(0.1, 0.2, 100)), []
    for _ in range(2):
        told += heard(loss_fn, BATCHES - 1, step=False)
        loss_fn.step()
    assert told == []
    assert heard(loss_fn.eval(), BATCHES + 1, step=False) == []


@pytest.mark.parametrize("make", [tt.InfoNCE, lambda tau: tt.SigLIP(tau, -1.0)])
def test_a_control_that_another_loss_steps_is_quiet(make):
    """Two losses share a control, and only one of them is stepped."""
    tau, told = tt.Cosine(0.1, 0.2, 100), []
    other, loss_fn = tt.MaxMargin(tau), make(tau)
    for _ in range(2 * BATCHES // 50 + 1):
        told += heard(loss_fn, 50, step=False)
        other.step()
    assert told == []
    assert len(heard(loss_fn, 2 * BATCHES + 1, step=False)) == 1


def test_a_mean_that_no_step_moves_is_told_though_the_control_moves():
    tau, told = tt.Cosine(0.1, 0.2, 100), []
    other, loss_fn = tt.MaxMargin(tau), tt.InfoNCE(tau, force="equalized")
    for _ in range(BATCHES // 50 + 1):
        told += heard(loss_fn, 50, step=False)
        other.step()
    assert len(told) == 1


def evaluated(loss_fn, index):
    told = []
    for _ in range(2):
        told += heard(loss_fn, 1, index=index)
    return told


@pytest.mark.parametrize(
    "make",
    [
        lambda: tt.iSogCLR(N, rho=0.5, tau_init=0.1),
        lambda: tt.InfoNCE(tt.ClusterShift([1, 2, 3, 4, 5, 6], 0.1, 0.2)),
        lambda: tt.InfoNCE(0.1, weight=tt.ClusterShift([1, 2, 3, 4, 5, 6], 0.1, 0.2)),
    ],
)
def test_positions_of_another_set(make):
    assert evaluated(make(), INDEX) == []
    loss_fn = make().eval()
    told = evaluated(loss_fn, INDEX)
    assert len(told) == 1
    assert "samples of the training set alone" in told[0]
    before = {name: value.clone() for name, value in loss_fn.state_dict().items()}
    heard(loss_fn, 1, step=False)
    loss_fn.step()
    after = loss_fn.state_dict()
    assert [n for n in before if not torch.equal(before[n], after[n])] == [
        n for n in before if n.endswith("_step")
    ]


def test_positions_where_nothing_is_looked_up_are_quiet():
    assert evaluated(tt.InfoNCE(tt.Cosine(0.1, 0.2, 9)).eval(), INDEX) == []
    x, y = torch.randn(2, N, D)
    loss_fn = tt.InfoNCE(tt.ClusterShift([1, 2, 3, 4, 5, 6], 0.1, 0.2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ResourceWarning)  # files of earlier tests
        tt.forces(loss_fn, x, y, INDEX)


RANGE = {"tau_init": 0.1, "tau_range": (0.05, 1.0)}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: tt.DCL(tt.Individual(N, rho=2.0, lr=1e-6, **RANGE)), "τ can only fall"),
        (lambda: tt.iSogCLR(N, rho=2.0, gamma=1.0, lr=1e-6, **RANGE), "τ can only fall"),
        (lambda: tt.iSogCLR(N, rho=9.0, gamma=0.8, lr=0.5, **RANGE), "at their lower end"),
        (lambda: tt.DCL(tt.Individual(N, rho=1.5, **RANGE)), None),
        (lambda: tt.iSogCLR(N, rho=2.0, gamma=0.8, lr=1e-6, **RANGE), None),
        (lambda: tt.SogCLR(N, 0.1, rho=9.0), None),
    ],
)
def test_a_rho_that_no_batch_reaches(make, said):
    """Six pairs have five negatives: log 5 = 1.61."""
    told = heard(make(), 3 * PATIENCE, fixed=True)
    assert len(told) == (said is not None)
    if said:
        assert said in told[0]
        assert "log(5) = 1.61" in told[0]


def test_what_was_noticed_is_no_state():
    loss_fn = tt.InfoNCE(tt.Learnable(0.1, 0.01, 1.0))
    before = set(loss_fn.state_dict())
    heard(loss_fn, 3)
    assert set(loss_fn.state_dict()) == before


def two_losses():
    control = tt.Cosine(0.05, 0.2, period=40)
    make = [tt.SogCLR(16, control, gamma=0.5), tt.InfoNCE(control, force="equalized")]
    return control, make


def test_two_losses_that_both_advance_a_control_are_told():
    control, losses = two_losses()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", tt.UsageWarning)
        for _ in range(6):
            for loss_fn in losses:
                loss_fn(*torch.randn(2, 8, 4), torch.arange(8))
                loss_fn.step()
    told = [str(w.message) for w in caught if "twice in each optimiser step" in str(w.message)]
    assert len(told) == 2  # once by each
    assert "step(controls=False)" in told[0]
    assert control.steps == 12


@pytest.mark.parametrize("first", [0, 1])
def test_two_losses_share_a_control_that_one_of_them_advances(first):
    control, losses = two_losses()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(8):
            for number, loss_fn in enumerate(losses):
                loss_fn(*torch.randn(2, 8, 4), torch.arange(8))
                loss_fn.step(controls=number == first)
    assert control.steps == 8
    assert [loss_fn.steps for loss_fn in losses] == [8, 8]
    assert int(losses[0].tables.of("x2y").visits.sum()) == 64
