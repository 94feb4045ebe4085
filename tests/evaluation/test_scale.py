"""Rows of any length have their direction, also where squares over- or underflow."""

import pytest
import torch

import tauten as tt
from tauten import evaluation

X = torch.randn(24, 8, generator=torch.Generator().manual_seed(0))
Y = X + 0.7 * torch.randn(24, 8, generator=torch.Generator().manual_seed(1))
CLASSES = torch.arange(24) % 3
PAIRS = torch.arange(24)

NUMBERS = {
    "retrieval": lambda x, y: evaluation.retrieval(x, y, PAIRS, (1,), bootstrap=0),
    "one_pass": lambda x, y: evaluation.retrieval(
        x, y, PAIRS, (1,), bootstrap=0, one_pass=True, tile=5
    ),
    "geometry": lambda x, y: evaluation.geometry(x, y, CLASSES),
    "knn": lambda x, y: evaluation.knn(x, CLASSES, y, CLASSES, ks=(1, 3), bootstrap=0),
    "zero_shot": lambda x, y: evaluation.zero_shot(x, CLASSES, y[:3], (1, 2), bootstrap=0),
    "alignment": lambda x, y: {"": float(tt.terms.Alignment()(x, y))},
    "uniformity": lambda x, y: {"": float(tt.terms.Uniformity()(x))},
    "cross": lambda x, y: {"": float(tt.terms.CrossUniformity()(x, y))},
    "koleo": lambda x, y: {"": float(tt.terms.KoLeo()(x))},
}


@pytest.mark.parametrize(("of_x", "of_y"), [(1e25, 1.0), (1e-25, 1e30), (1e-38, 1e-22)])
@pytest.mark.parametrize("name", NUMBERS)
def test_lengths_change_no_number(name, of_x, of_y):
    right = NUMBERS[name](X, Y)
    assert NUMBERS[name](X * of_x, Y * of_y) == pytest.approx(right, rel=1e-4, abs=1e-5)


def test_a_predicted_temperature_knows_no_length():
    net = tt.TempNet(8, 1.0).eval()
    for scale in (1e25, 1e-25):
        torch.testing.assert_close(net.predict(X * scale), net.predict(X))
