"""Bad input is refused before any work is lost, with the value and the remedy."""

import pytest
import torch

import tauten as tt

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
LOSSES = [tt.InfoNCE(0.1), tt.DCL(0.1), tt.SigLIP(0.1), tt.MaxMargin(0.1)]


@pytest.mark.parametrize("make", [tt.InfoNCE, tt.DCL, tt.SigLIP])
def test_a_temperature_that_reaches_zero_is_refused_with_range_and_remedy(make):
    tau = tt.mmts([2, 9], alpha=0.2, shift=(0.05, 0.2), period=10)
    with pytest.raises(ValueError, match=r"\[-0.05, 0.3\].*shift low > alpha / 2"):
        make(tau)
    with pytest.raises(ValueError, match=r"must stay finite and > 0"):
        make(0.0)
    make(tau.clamp(0.01, 1.0))


def test_a_negative_margin_is_refused():
    with pytest.raises(ValueError, match=r"MaxMargin's margin must stay finite and >= 0"):
        tt.MaxMargin(tt.Cosine(-0.1, 0.2, period=5))


def test_a_negative_weight_is_refused():
    with pytest.raises(ValueError, match=r"weight must stay finite and >= 0"):
        tt.InfoNCE(0.1, weight=-1.0)


@pytest.mark.parametrize("option", ["force", "directions", "reduction", "tile"])
def test_unknown_options_are_refused(option):
    with pytest.raises(ValueError, match=f"{option} must be.*'odd'"):
        tt.InfoNCE(0.1, **{option: "odd"})


@pytest.mark.parametrize("tile", [0, (4, 0), (1, 2, 3), 2.5])
def test_bad_tiles_are_refused(tile):
    with pytest.raises(ValueError, match="tile must be"):
        tt.InfoNCE(0.1, tile=tile)


@pytest.mark.parametrize("loss_fn", LOSSES)
def test_unequal_lengths(loss_fn):
    with pytest.raises(ValueError, match="x has 4 rows and y has 3"):
        loss_fn(X, X[:3])


def test_wrong_shapes():
    with pytest.raises(ValueError, match=r"same d > 0 and N > 0, got \(4, 3\) and \(4, 2\)"):
        tt.InfoNCE(0.1)(X, X[:, :2])
    with pytest.raises(ValueError, match=r"got \(0, 3\)"):
        tt.InfoNCE(0.1)(X[:0], X[:0])


@pytest.mark.parametrize("loss_fn", LOSSES)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_embeddings_are_named(loss_fn, value):
    bad = X.clone()
    bad[2, 1] = value
    with pytest.raises(tt.NonFiniteLossError, match=r"y has NaN.*1 of 4 rows: 2; data set ids 7"):
        loss_fn(X, bad, torch.tensor([5, 6, 7, 8]))


def test_no_data_set_ids_are_named_where_none_were_given():
    bad = X.clone()
    bad[2, 1] = float("nan")
    with pytest.raises(tt.NonFiniteLossError, match=r"1 of 4 rows: 2$"):
        tt.InfoNCE(0.1)(bad, bad)
    with pytest.raises(tt.NonFiniteLossError, match=r"rows 0, 1, 2, 3, temperature in") as refused:
        tt.InfoNCE(0.1, normalize=False)(1e30 * X, 1e30 * X)
    assert "ids" not in str(refused.value)


def test_a_missing_index_is_refused():
    tau = tt.ClusterShift([1, 2, 3, 4], 0.1, 0.2)
    with pytest.raises(ValueError, match="InfoNCE's temperature is per sample.*pass index="):
        tt.InfoNCE(tau)(X, X)
    with pytest.raises(ValueError, match="MaxMargin's margin is per sample"):
        tt.MaxMargin(tau)(X, X)
    with pytest.raises(ValueError, match="InfoNCE's weight is per sample"):
        tt.InfoNCE(0.1, weight=tau)(X, X)
    with pytest.raises(ValueError, match="SigLIP's bias is per sample"):
        tt.SigLIP(0.1, bias=tau)(X, X)


def test_ids_outside_the_table_and_of_the_wrong_length_are_refused():
    tau = tt.ClusterShift([1, 2, 3, 4], 0.1, 0.2)
    with pytest.raises(ValueError, match="1 unknown sample ids: 4; the table has 4 samples"):
        tt.InfoNCE(tau)(X, X, torch.tensor([0, 1, 2, 4]))
    with pytest.raises(ValueError, match="index must name every row, 4 of x and 4 of y"):
        tt.InfoNCE(tau)(X, X, torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match="positions, got list"):
        tt.InfoNCE(tau)(X, X, [0, 1, 2, 3])


def test_one_pair_has_no_negative():
    for loss_fn in (tt.DCL(0.1), tt.MaxMargin(0.1)):
        with pytest.raises(ValueError, match="needs at least 2 pairs"):
            loss_fn(X[:1], X[:1])
    assert float(tt.InfoNCE(0.1)(X[:1], X[:1])) == pytest.approx(0.0, abs=1e-6)


def test_relations_that_make_no_sense_are_refused():
    loss_fn = tt.InfoNCE(0.1)
    ids = torch.arange(4)
    with pytest.raises(ValueError, match="positives= or labels=, not both"):
        loss_fn(X, X, positives=ids, labels=ids)
    with pytest.raises(ValueError, match=r"rows of y in 0 .. 3, got 1 .. 4"):
        loss_fn(X, X, positives=ids + 1)
    with pytest.raises(ValueError, match="at most one row of x, but rows 0 of y"):
        loss_fn(X, X, positives=torch.zeros(4, dtype=torch.long))
    with pytest.raises(ValueError, match=r"labels \[3\] of x have no positive"):
        loss_fn(X, X, labels=(ids, ids.clamp(max=2)))
    with pytest.raises(ValueError, match=r"labels \[3\] of y have no positive"):
        tt.InfoNCE(0.1, directions="y2x")(X, X, labels=(ids.clamp(max=2), ids))
    with pytest.raises(ValueError, match=r"leaves out the positive of 1 rows of x: 2;"):
        loss_fn(X, X, ignore=torch.diag(ids == 2))
    with pytest.raises(ValueError, match="ignore must be a bool matrix"):
        loss_fn(X, X, ignore=torch.zeros(4, 4))
    with pytest.raises(ValueError, match="same must be a vector of 4 ids"):
        loss_fn(X, X, same=ids[:3])
    with pytest.raises(ValueError, match="same must hold integers"):
        loss_fn(X, X, same=[ids.float()])


def test_max_margin_refuses_labels_and_bad_relevance():
    with pytest.raises(ValueError, match="pass labels as same="):
        tt.MaxMargin(0.1)(X, X, labels=torch.arange(4))
    for relevance in (torch.ones(3), torch.tensor([0.0, 0.5, 1.1, 1.0])):
        with pytest.raises(ValueError, match=r"relevance must be \(4,\) in \[0, 1\]"):
            tt.MaxMargin(0.1)(X, X, relevance=relevance)
