"""Losses beside those of pairs name the rows and numbers that they refuse."""

from __future__ import annotations

import pytest
import torch

import tauten as tt
from tauten.candidates import Prototypes

BAD = torch.zeros(4, 6).index_put((torch.tensor(2), torch.tensor(1)), torch.tensor(torch.nan))
CLASSES = torch.tensor([0, 1, 0, 1])


def z():
    return torch.randn(4, 6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: swav()([z(), z() + BAD, z()]), "crop 1 has .* 1 of 4 rows: 2"),
        (lambda: simlap()(z() + BAD, CLASSES, 1 - CLASSES), "z has .* 1 of 4 rows: 2"),
        (
            lambda: tt.AMCL(2, 6)([z(), z()], [z(), z() + BAD]),
            "head 1 of y has .* 1 of 4 rows: 2",
        ),
    ],
)
def test_a_row_that_is_not_finite_is_named(call, message):
    with pytest.raises(tt.NonFiniteLossError, match=message):
        call()


def swav():
    return tt.SwAV(0.1, Prototypes(3, 6), "uniform")


def simlap():
    return tt.SimLAP(0.1, tt.PairGate(2, 6))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tt.SwAV(0.1, Prototypes(3, 6, momentum=0.9), "uniform"), "learned Prototypes"),
        (lambda: swav()([z(), z()], earlier=z()), "earlier must be .2, Q, 6."),
        (
            lambda: swav()([z(), z()], earlier="queue"),
            "earlier must be a tensor .2, Q, d., got 'qu",
        ),
        (lambda: swav()(["a", "b"]), "crops must be a list of tensors .*, got 'a' at place 0"),
        (lambda: swav()(None), "crops must be a list of tensors .N, d., got None"),
        (lambda: swav()(torch.zeros(())), r"crops must be a list .* got a tensor \(\)"),
        (lambda: tt.AMCL(2, 6)(None, [z(), z()]), "x must be a list of tensors .N, d., got None"),
        (lambda: tt.AMCL(2, 6)([z(), z()], [z(), 3]), "y must be .*, got 3 at place 1"),
        (lambda: simlap()(z(), CLASSES + 1, CLASSES + 1), r"in 0 .. 1, got 2 .. 2"),
        (lambda: simlap()(z()[:0], CLASSES[:0], CLASSES[:0]), "at least one row"),
        (
            lambda: tt.SupReMix(0.1)(z(), torch.tensor([1.5, 1.5, 2, 31.5])),
            r"labels 2.0, 31.5 have no positive but one row each, 2, 3",
        ),
        (lambda: tt.PairGate(0, 6), "classes must be at least 1, got 0"),
        (lambda: Prototypes(2.5, 6), "count must be a whole number, got 2.5"),
    ],
)
def test_wrong_numbers_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_heads_of_float64_are_compared_by_temperatures_of_float32():
    loss_fn, (x, y) = tt.AMCL(2, 6), torch.randn(2, 2, 4, 6)
    value = loss_fn(x.double(), y.double())
    assert value.dtype == torch.float64
    torch.testing.assert_close(value.float(), loss_fn(x, y), rtol=1e-4, atol=1e-4)
