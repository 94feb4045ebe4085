"""Attraction and repulsion of each pair against autograd of literal loops."""

import math
import warnings
from copy import deepcopy

import pytest
import torch
from torch.nn import functional as F

import tauten as tt

N = 6
INDEX = torch.tensor([3, 0, 5, 1, 2, 4])
COUNTS = [1, 3, 9, 27, 81, 243]
ROW = tt.ClusterShift(COUNTS, 0.1, 0.5, scale="log")


def embeddings(n=N, d=4, seed=0, noise=1.0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    y = x + noise * torch.randn(n, d, generator=generator, dtype=torch.float64)
    return F.normalize(x, dim=1), F.normalize(y, dim=1)


def taus():
    return ROW.double().at(INDEX).double()


def rows_and_columns(s, of_anchor):
    """½ Σ_i of_anchor(i, [s_i·]) + of_anchor(i, [s_·i]), a loss of the similarities."""
    total = 0.0
    for i in range(len(s)):
        total = total + of_anchor(i, list(s[i])) / 2 + of_anchor(i, list(s[:, i])) / 2
    return total


def infonce(s):
    def of_anchor(i, scores):
        exps = [torch.exp(score / taus()[i]) for score in scores]
        return -torch.log(exps[i] / sum(exps))

    return rows_and_columns(s, of_anchor)


def dcl(s):
    def of_anchor(i, scores):
        exps = [torch.exp(score / taus()[i]) for j, score in enumerate(scores) if j != i]
        return torch.log(sum(exps)) - scores[i] / taus()[i]

    return rows_and_columns(s, of_anchor)


def max_margin(s):
    def of_anchor(i, scores):
        hinges = [F.relu(taus()[i] - scores[i] + score) for j, score in enumerate(scores) if j != i]
        return sum(hinges) / len(hinges)

    return rows_and_columns(s, of_anchor)


def siglip(s, bias=-1.5):
    def of_anchor(i, scores):
        signs = [1 if j == i else -1 for j in range(len(scores))]
        return sum(
            F.softplus(-sign * (score / taus()[i] + bias))
            for sign, score in zip(signs, scores, strict=True)
        )

    return rows_and_columns(s, of_anchor)


def sogclr(s):
    """τ_i·g_i/sg(u_i) with u_i = g_i, the value of γ = 1."""

    def of_anchor(i, scores):
        exps = [
            torch.exp((score - scores[i]) / taus()[i]) for j, score in enumerate(scores) if j != i
        ]
        return taus()[i] * torch.log(sum(exps) / len(exps))

    return rows_and_columns(s, of_anchor)


OFFSETS = {"x2y": [0.2, -0.1, 0.0, 0.3, -0.2, 0.1], "y2x": [-0.3, 0.1, 0.2, 0.0, 0.4, -0.1]}


def nuclr(s):
    total = 0.0
    for scores, side in ((s, "y2x"), (s.T, "x2y")):
        zeta = [OFFSETS[side][int(k)] for k in INDEX]
        for i in range(N):
            exps = [
                torch.exp((scores[i, j] - scores[i, i] - zeta[j]) / taus()[i])
                for j in range(N)
                if j != i
            ]
            constant = torch.exp(-max(OFFSETS[side]) / taus()[i]) / (N - 1)
            total = total + taus()[i] * torch.log(sum(exps) / len(exps) + constant) / 2
    return total


def offset_nuclr(**options):
    loss_fn = tt.NUCLR(N, ROW, 1.0, **options).double()
    for at, (side, values) in enumerate(OFFSETS.items()):
        zeta = torch.tensor(values, dtype=torch.float64)
        loss_fn.offsets[side].write(torch.arange(N), {"zeta": zeta})
        loss_fn.largest[at] = max(values)
    return loss_fn


LOSSES = {
    "infonce": (infonce, lambda **kw: tt.InfoNCE(ROW, **kw)),
    "dcl": (dcl, lambda **kw: tt.DCL(ROW, **kw)),
    "max-margin": (max_margin, lambda **kw: tt.MaxMargin(ROW, **kw)),
    "siglip": (siglip, lambda **kw: tt.SigLIP(ROW, bias=-1.5, **kw)),
    "sogclr": (sogclr, lambda **kw: tt.SogCLR(N, ROW, 1.0, **kw)),
    "nuclr": (nuclr, offset_nuclr),
}


@pytest.mark.parametrize("tile", ["dense", (2, 3)])
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("name", LOSSES)
def test_forces_are_the_derivatives_of_a_literal_loop(name, reduction, tile):
    literal, build = LOSSES[name]
    x, y = embeddings(noise=1.5)
    s = (x @ y.T).requires_grad_()
    (expected,) = torch.autograd.grad(literal(s), s)
    found = tt.forces(build(reduction=reduction, tile=tile), 3 * x, y / 2, INDEX)
    torch.testing.assert_close(found.pairs, expected, rtol=1e-6, atol=1e-9)
    assert not found.pairs.requires_grad
    pulled = [-sum(min(float(f), 0.0) for f in row) for row in expected]
    pushed = [sum(max(float(f), 0.0) for f in row) for row in expected]
    assert found.attraction.tolist() == pytest.approx(pulled, rel=1e-6)
    assert found.repulsion.tolist() == pytest.approx(pushed, rel=1e-6)
    assert found.by_group == {}


def test_infonce_pulls_by_one_minus_p_over_tau_and_pushes_by_p_over_tau():
    """a_i = (1 − p_ii)/τ_i and r_ij = p_ij/τ_i, the mean of both directions."""
    x, y = embeddings()
    s, tau = x @ y.T, taus()
    one = tt.forces(tt.InfoNCE(ROW, directions="x2y"), x, y, INDEX)
    other = tt.forces(tt.InfoNCE(ROW, directions="y2x"), x, y, INDEX)
    both = tt.forces(tt.InfoNCE(ROW), x, y, INDEX)
    for i in range(N):
        row = [math.exp(float(s[i, j] / tau[i])) for j in range(N)]
        column = [math.exp(float(s[j, i] / tau[i])) for j in range(N)]
        pull = (1 - row[i] / sum(row)) / float(tau[i])
        assert float(one.attraction[i]) == pytest.approx(pull, rel=1e-6)
        for j in range(N):
            if j != i:
                push = row[j] / sum(row) / float(tau[i])
                assert float(one.pairs[i, j]) == pytest.approx(push, rel=1e-6)
                push = column[j] / sum(column) / float(tau[i])
                assert float(other.pairs[j, i]) == pytest.approx(push, rel=1e-6)
    torch.testing.assert_close(both.pairs, (one.pairs + other.pairs) / 2)


def test_dcl_attracts_by_one_over_tau_whatever_the_batch():
    x, y = embeddings(noise=0.1)
    found = tt.forces(tt.DCL(ROW, directions="x2y"), x, y, INDEX)
    torch.testing.assert_close(found.attraction, 1 / taus())
    torch.testing.assert_close(found.repulsion, 1 / taus())
    plain = tt.forces(tt.InfoNCE(ROW, directions="x2y"), x, y, INDEX)
    assert float((plain.attraction * taus()).max()) < 0.9


@pytest.mark.parametrize(
    ("control", "free"),
    [
        (lambda: ROW, True),
        (lambda: tt.Constant(0.2), True),
        (lambda: tt.DySTreSS(0.1, 0.2), False),
        (lambda: tt.PairDistance(torch.arange(6.0)[:, None], 0.2), False),
        (lambda: tt.TeMo(0.1, 0.3, detach=True), False),
    ],
)
def test_rows_are_free_of_force_with_a_temperature_for_the_row_and_not_for_the_pair(control, free):
    x, y = embeddings()
    found = tt.forces(tt.InfoNCE(control(), directions="x2y"), x, y, INDEX)
    net = found.pairs.sum(1).abs()
    assert float(net.max()) < 1e-9 if free else float(net.min()) > 1e-3
    torch.testing.assert_close(found.repulsion - found.attraction, found.pairs.sum(1))


def test_a_temperature_that_is_not_detached_is_part_of_the_force():
    x, y = embeddings()
    s = (x @ y.T).requires_grad_()
    for detach in (False, True):
        tau = 0.1 + 0.2 * (((s.detach() if detach else s) + 1) / 2).sqrt()
        logits = s / tau
        expected = torch.autograd.grad((logits.logsumexp(1) - logits.diagonal()).sum(), s)[0]
        control = tt.TeMo(0.1, 0.3, detach=detach)
        found = tt.forces(tt.InfoNCE(control, directions="x2y"), x, y).pairs
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


def test_the_gradient_of_the_embeddings_is_the_force_on_each_pair():
    """∂L/∂x = pairs · y for similarities that are dot products."""
    x, y = embeddings()
    loss_fn = tt.InfoNCE(ROW, normalize=False, reduction="sum", force="equalized").eval()
    a = x.clone().requires_grad_()
    loss_fn(a, y, INDEX).backward()
    found = tt.forces(loss_fn, x, y, INDEX).pairs
    torch.testing.assert_close(a.grad, found @ y)


def test_groups_are_summed_over_their_rows():
    x, y = embeddings()
    names = ["head", "tail", "head", "mid", "tail", "head"]
    found = tt.forces(tt.InfoNCE(ROW), x, y, INDEX, groups=names)
    assert list(found.by_group) == ["head", "tail", "mid"]
    for name, rows in {"head": [0, 2, 5], "tail": [1, 4], "mid": [3]}.items():
        pulled = sum(float(found.attraction[i]) for i in rows)
        pushed = sum(float(found.repulsion[i]) for i in rows)
        assert found.by_group[name] == pytest.approx((pulled, pushed), rel=1e-12)


@pytest.mark.parametrize("length", [0, 5, 7])
def test_groups_of_another_length_are_refused(length):
    x, y = embeddings()
    with pytest.raises(ValueError, match=f"each of the 6 rows of x, got {length}"):
        tt.forces(tt.InfoNCE(0.1), x, y, groups=["head"] * length)


def test_what_the_loss_refuses_is_refused():
    x, y = embeddings()
    with pytest.raises(ValueError, match="x has 6 rows and y has 5"):
        tt.forces(tt.InfoNCE(0.1), x, y[:5])
    with pytest.raises(ValueError, match="SogCLR keeps a moving average.*pass index="):
        tt.forces(tt.SogCLR(N), x, y)
    with pytest.raises(ValueError, match="needs at least 2 pairs"):
        tt.forces(tt.DCL(0.1), x[:1], y[:1])


def test_labels_are_refused_where_the_loss_refuses_them():
    x, y = embeddings()
    with pytest.raises(ValueError, match="pass labels as same="):
        tt.forces(tt.MaxMargin(0.2), x, y, labels=torch.tensor([0, 1, 0, 2, 1, 3]))


def test_a_refusal_leaves_the_mode_as_it_was():
    x, y = embeddings()
    loss_fn = tt.SogCLR(N)
    with pytest.raises(ValueError, match="pass index="):
        tt.forces(loss_fn, x, y)
    assert loss_fn.training


def test_labels_make_further_pairs_attract():
    x, y = embeddings()
    labels = [0, 1, 0, 2, 1, 3]
    s = (x @ y.T).requires_grad_()
    total = 0.0
    for i in range(N):
        friends = [j for j in range(N) if labels[j] == labels[i]]
        partition = torch.log(sum(torch.exp(s[i, j] / taus()[i]) for j in range(N)))
        total = total + partition - sum(s[i, j] for j in friends) / len(friends) / taus()[i]
    (expected,) = torch.autograd.grad(total, s)
    loss_fn = tt.InfoNCE(ROW, directions="x2y")
    found = tt.forces(loss_fn, x, y, INDEX, labels=torch.tensor(labels)).pairs
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
    assert found[0, 2] < 0
    assert found[0, 1] > 0


@pytest.mark.parametrize("name", LOSSES)
def test_ignored_pairs_have_no_force(name):
    x, y = embeddings(noise=2.0)
    loss_fn = LOSSES[name][1]()
    ignore = torch.zeros(N, N, dtype=torch.bool)
    ignore[0, 3] = ignore[4, 1] = True
    same = (torch.tensor([0, 1, 1, 3, 4, 5]), torch.tensor([0, 1, 2, 3, 4, 4]))
    found = tt.forces(loss_fn, x, y, INDEX, ignore=ignore, same=same).pairs
    left_out = ignore | (same[0][:, None] == same[0]) | (same[1][:, None] == same[1])
    left_out.fill_diagonal_(False)
    assert int(left_out.sum()) == 6
    assert found[left_out].tolist() == [0.0] * 6
    without = tt.forces(loss_fn, x, y, INDEX).pairs
    assert int(without[left_out].count_nonzero()) > 0


def test_positives_elsewhere_are_those_that_attract():
    x, y = embeddings()
    order = torch.tensor([2, 0, 1, 5, 3, 4])
    moved = tt.forces(tt.InfoNCE(ROW), x, y, INDEX).pairs
    found = tt.forces(
        tt.InfoNCE(ROW), x, y[order], (INDEX, INDEX[order]), positives=order.argsort()
    )
    torch.testing.assert_close(found.pairs, moved[:, order])


def trained(make):
    """A loss in the middle of a training, with observations that no step has written yet."""
    loss_fn = make()
    x, y = embeddings(seed=1)
    for _ in range(2):
        loss_fn(x, y, INDEX)
        loss_fn.step()
    a = x.clone().requires_grad_()
    loss_fn(a, y, INDEX).backward()
    return loss_fn


STATEFUL = {
    "equalized": lambda: tt.InfoNCE(deepcopy(ROW).train(), force="equalized"),
    "learned": lambda: tt.InfoNCE(tt.Learnable(0.2, 0.05, 1.0)),
    "macl": lambda: tt.InfoNCE(tt.MACL(), force="reweighted"),
    "tau": lambda: tt.InfoNCE(tt.TaU(4)),
    "tempnet": lambda: tt.SogCLR(N, tt.TempNet(4), 0.5),
    "individual": lambda: tt.DCL(tt.Individual(N, 0.5, 0.2)),
    "sogclr": lambda: tt.SogCLR(N, 0.2, 0.5),
    "isogclr": lambda: tt.iSogCLR(N, 0.5, 0.5, 0.2),
    "fastclip-v2": lambda: tt.FastCLIP(N, "v2", 0.5),
    "fastclip-v3": lambda: tt.FastCLIP(N, "v3", 0.5),
    "nuclr": lambda: tt.NUCLR(N, 0.2, 0.5),
}


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("name", STATEFUL)
def test_a_loss_in_training_is_left_as_it_was(name, grad):
    torch.manual_seed(0)
    probed = trained(STATEFUL[name])
    torch.manual_seed(0)
    plain = trained(STATEFUL[name])
    random_state = torch.get_rng_state()
    last = probed.last_tau
    x, y = embeddings(seed=2)
    x.requires_grad_()
    with torch.set_grad_enabled(grad):
        found = tt.forces(probed, x, y, INDEX)
    assert float(found.repulsion.sum()) > 0
    assert torch.equal(torch.get_rng_state(), random_state)
    assert probed.training
    assert all(part.training for part in probed.modules())
    assert probed.last_tau is last
    assert x.grad is None
    for (key, mine), theirs in zip(probed.named_parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine.grad, theirs.grad), key
    for loss_fn in (probed, plain):
        loss_fn.step()
    for key, value in plain.state_dict().items():
        assert torch.equal(probed.state_dict()[key], value), key
    torch.manual_seed(0)
    evaluated = trained(STATEFUL[name]).eval()
    assert torch.equal(found.pairs, tt.forces(evaluated, x, y, INDEX).pairs)


def test_each_part_keeps_the_mode_it_was_in():
    """A control in evaluation, such as a frozen network, inside a loss in training."""
    x, y = embeddings()
    loss_fn = tt.SogCLR(N, tt.TempNet(4), 0.5)
    loss_fn.strength.eval()
    tt.forces(loss_fn, x, y, INDEX)
    assert loss_fn.training
    assert not loss_fn.strength.training


def test_a_loss_in_evaluation_stays_in_it():
    x, y = embeddings()
    loss_fn = tt.SogCLR(N, 0.2).eval()
    tt.forces(loss_fn, x, y, INDEX)
    assert not loss_fn.training
    assert loss_fn.last_tau is None


def test_the_forces_of_a_table_are_divided_by_its_average():
    """w_ij = exp(h_ij/τ)/u_i/(B − 1) with u_i = (1 − γ)·u_i + γ·g_i, the step's own."""
    x, y = embeddings()
    loss_fn = tt.SogCLR(N, 0.25, 0.5, directions="x2y").double()
    old = torch.linspace(0.5, 2.0, N, dtype=torch.float64)
    loss_fn.tables["x2y"].write(INDEX, {"log_u": old.log()})
    s = x @ y.T
    found = tt.forces(loss_fn, x, y, INDEX)
    for i in range(N):
        e = [math.exp(float(s[i, j] - s[i, i]) / 0.25) for j in range(N)]
        u = (float(old[i]) + (sum(e) - e[i]) / (N - 1)) / 2
        for j in range(N):
            if j != i:
                assert float(found.pairs[i, j]) == pytest.approx(e[j] / u / (N - 1), rel=1e-6)
        assert float(found.attraction[i]) == pytest.approx((sum(e) - e[i]) / u / (N - 1), rel=1e-6)


def test_half_precision_embeddings_have_finite_forces():
    x, y = (part.half() for part in embeddings())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ResourceWarning)  # files of earlier tests
        found = tt.forces(tt.InfoNCE(0.01), x, y)
    assert found.pairs.dtype == torch.float32
    assert torch.isfinite(found.pairs).all()


def test_lengths_of_rows_do_not_change_their_forces():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(5, 4, generator=generator) for _ in range(2))
    long, short = x.clone(), y.clone()
    long[1] *= 2.0**80
    short[3] *= 2.0**-80
    expected, got = (tt.forces(tt.InfoNCE(0.1), *sides).pairs for sides in ((x, y), (long, short)))
    assert torch.allclose(got, expected, rtol=1e-4, atol=1e-6)
