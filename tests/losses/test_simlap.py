"""Any two classes as positives in a gated space, against the formula in float64."""

import pytest
import torch
from torch.nn import functional as F

import tauten as tt
from compared import check

LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0])
PARTNERS = torch.tensor([0, 2, 1, 1, 1, 0, 0])
TAU = tt.ClusterShift([1, 3, 9, 27, 81, 243, 400], 0.1, 0.5)
INDEX = torch.tensor([5, 0, 3, 2, 4, 1, 6])
every_tile = pytest.mark.parametrize("tile", ["dense", (2, 3)])


@pytest.fixture
def z():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(7, 5, generator=generator, dtype=torch.float64).requires_grad_()


def open_gate(first, second):
    return torch.ones(1, 5, dtype=torch.float64)


class Open(torch.nn.Module):
    """A gate that lets everything through."""

    def forward(self, first, second):
        return open_gate(first, second)


@every_tile
def test_it_equals_the_formula(z, tile):
    torch.manual_seed(0)
    gate = tt.PairGate(3, 5, 8).double()
    tau = TAU.double().at(INDEX).double()
    loss_fn = tt.SimLAP(TAU, gate, tile=tile).double()
    expected = 0
    for i in range(7):
        both = (gate.classes.weight[LABELS[i]] + gate.classes.weight[PARTNERS[i]]) / 2
        g = torch.sigmoid(gate.layers(both))
        units = F.normalize(g * z, dim=1)
        s = units @ units[i] / tau[i]
        positive = [j for j in range(7) if LABELS[j] == PARTNERS[i] and j != i]
        negative = [j for j in range(7) if LABELS[j] not in (LABELS[i], PARTNERS[i])]
        below = s[negative].exp().sum()
        for p in positive:
            expected = expected + ((s[p].exp() + below).log() - s[p]) / len(positive) / 7
    check(loss_fn(z, LABELS, PARTNERS, INDEX), expected, [z, *gate.parameters()])
    assert torch.equal(loss_fn.tau(INDEX), loss_fn.loss.tau(INDEX))


@every_tile
def test_the_own_class_and_an_open_gate_is_decoupled_supcon(z, tile):
    found = tt.SimLAP(TAU, Open(), tile=tile).double()(z, LABELS, LABELS, INDEX)
    plain = tt.DecoupledSoftmax(TAU, directions="x2y", tile=tile).double()
    check(found, plain(z, None, INDEX, labels=LABELS), [z])


def test_a_gate_is_open_where_two_classes_agree():
    """Classes that share one of two attributes: the gate opens where that attribute lies."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (400,), generator=generator)
    color, shape = labels % 2, labels // 2
    z = torch.cat([F.one_hot(color, 2), F.one_hot(shape, 2)], dim=1).float()
    z = z + 0.2 * torch.randn(400, 4, generator=generator)
    torch.manual_seed(0)
    gate = tt.PairGate(4, 4, 16)
    loss_fn = tt.SimLAP(0.1, gate)
    optimizer = torch.optim.Adam(gate.parameters(), lr=0.02)
    for step in range(40):
        rows = slice(40 * (step % 10), 40 * (step % 10) + 40)
        optimizer.zero_grad()
        loss_fn(z[rows], labels[rows], labels[rows] ^ 2).backward()  # the same colour
        optimizer.step()
    opened = gate(torch.tensor([0, 1]), torch.tensor([2, 3])).mean(0)
    assert float(opened[:2].min()) > 2 * float(opened[2:].max())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda z: tt.SimLAP(tt.MACL(0.1), Open()), "cannot be SimLAP's temperature"),
        (lambda z: tt.PairGate(0, 5), "classes must be at least 1, got 0"),
        (lambda z: tt.SimLAP(0.1, Open())(z, LABELS, PARTNERS[:3]), "each of 7 rows, got 7 and 3"),
        (lambda z: tt.SimLAP(0.1, Open())(z, LABELS, LABELS + 5), "have no positive"),
        (lambda z: tt.SimLAP(0.1, open_gate), "gate must be a module such as PairGate"),
        (
            lambda z: tt.SimLAP(0.1, Open())(z[:, 0], LABELS, LABELS),
            r"z must be \(N, d\) .* \(7,\)",
        ),
        (lambda z: tt.SimLAP(0.1, Open())(z[:, 1:], LABELS, LABELS), r"\(1, 4\), .* got \(1, 5\)"),
        (lambda z: tt.SimLAP(0.1, Open())(z, LABELS.tolist(), LABELS), "labels must be a vector"),
        (lambda z: tt.SimLAP(TAU, Open())(z, LABELS, LABELS, INDEX[:3]), "each of 7 rows, got 3"),
        (lambda z: tt.SimLAP(0.1, Open())(z, LABELS, LABELS, [0, 1]), "index must be a vector"),
    ],
)
def test_what_does_not_fit_is_refused(z, make, said):
    with pytest.raises(ValueError, match=said):
        make(z)
