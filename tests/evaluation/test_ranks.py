"""Exact ranks against literal loops."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tauten.evaluation import ranks


def loop_ranks(sim, relevant):
    """Pessimistic ranks of each query's matches by counting, one candidate at a time."""
    out = []
    for i, own in enumerate(relevant):
        found = []
        scores = sorted((sim[i, j] for j in own), reverse=True)
        for place, score in enumerate(scores):
            ahead = 0
            for j in range(sim.shape[1]):
                if j not in own and sim[i, j] >= score:
                    ahead += 1
            found.append(ahead + place + 1)
        out.append(found)
    return out


def inverse(y_of_x, m):
    return [[i for i, own in enumerate(y_of_x) if j in own] for j in range(m)]


def as_lists(found):
    bounds = found.offsets.tolist()
    values = found.values.tolist()
    return [values[a:b] for a, b in itertools.pairwise(bounds)]


@st.composite
def problems(draw):
    n, m, d = draw(st.integers(1, 7)), draw(st.integers(1, 14)), draw(st.integers(1, 3))
    seed = draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    levels = draw(st.integers(1, 3))
    x, y = rng.integers(-levels, levels + 1, (n, d)), rng.integers(-levels, levels + 1, (m, d))
    dense = rng.random((n, m)) < draw(st.sampled_from([0.1, 0.4, 0.95]))
    dense[np.arange(n), rng.integers(0, m, n)] = True
    dense[rng.integers(0, n, m), np.arange(m)] = True
    y_of_x = [np.flatnonzero(row).tolist() for row in dense]
    return x, y, y_of_x, draw(st.integers(1, 5))


@settings(max_examples=150, deadline=None)
@given(problems())
def test_ties_and_several_matches_against_loop(problem):
    x, y, y_of_x, tile = problem
    found = ranks(
        torch.tensor(x).float(), torch.tensor(y).float(), y_of_x, normalize=False, tile=tile
    )
    assert as_lists(found["x2y"]) == loop_ranks(x @ y.T, y_of_x)
    assert as_lists(found["y2x"]) == loop_ranks(y @ x.T, inverse(y_of_x, len(y)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_tile_size_does_not_matter(dtype):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(70, 16, generator=generator).to(dtype)
    y = torch.randn(210, 16, generator=generator).to(dtype)
    y_of_x = torch.arange(210).view(70, 3).tolist()
    whole = ranks(x, y, y_of_x, tile=4096)
    tiled = ranks(x, y, y_of_x, tile=13)
    for direction in ("x2y", "y2x"):
        assert torch.equal(whole[direction].values, tiled[direction].values)


def test_many_matches_per_query_use_the_same_rule():
    rng = np.random.default_rng(0)
    x, y = rng.integers(-2, 3, (5, 3)), rng.integers(-2, 3, (60, 3))
    y_of_x = [sorted(rng.permutation(60)[:k].tolist()) for k in (1, 9, 25, 40, 60)]
    found = ranks(
        torch.tensor(x).double(),
        torch.tensor(y).double(),
        y_of_x,
        normalize=False,
        directions=("x2y",),
        tile=17,
    )
    assert as_lists(found["x2y"]) == loop_ranks(x @ y.T, y_of_x)


def test_collapsed_embeddings_rank_last_in_every_position():
    row = torch.randn(1, 384, generator=torch.Generator().manual_seed(0))
    x = row.expand(257, -1).contiguous()
    found = ranks(x, x.clone(), torch.arange(257), tile=100)
    assert found["x2y"].best.unique().tolist() == [257]
    assert found["y2x"].best.unique().tolist() == [257]


def test_zero_row_ranks_last():
    x = torch.eye(4)
    x[2] = 0
    assert ranks(x, torch.eye(4), [0, 1, 2, 3])["x2y"].best.tolist() == [1, 1, 4, 1]


def test_duplicate_candidate_counts_as_ahead():
    y = torch.eye(3)[[0, 0, 1, 2]]
    assert ranks(torch.eye(3), y, [0, 2, 3], directions=["x2y"])["x2y"].best.tolist() == [2, 1, 1]


def test_normalised_by_default():
    x, y = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [9.0, 9.0]])
    assert ranks(x, y, [[0]], directions=["x2y"])["x2y"].best.tolist() == [1]
    assert ranks(x, y, [[0]], directions=["x2y"], normalize=False)["x2y"].best.tolist() == [2]


def test_per_query_metrics_by_hand():
    sim = torch.tensor([[0.9, 0.8, 0.7, 0.6], [0.1, 0.4, 0.3, 0.2]])
    found = ranks(sim, torch.eye(4), [[1, 3], [1, 2]], directions=["x2y"], normalize=False)["x2y"]
    assert as_lists(found) == [[2, 4], [1, 2]]
    assert found.hit(1).tolist() == [0, 1]
    assert found.recall(2).tolist() == [0.5, 1.0]
    assert found.average_precision().tolist() == [(1 / 2 + 2 / 4) / 2, 1.0]
    assert found.metric("hit@2").tolist() == [1, 1]
    assert found.metric("recall@1").tolist() == [0, 0.5]
    assert found.metric("rank").tolist() == [2, 1]
    assert torch.equal(found.metric("mAP"), found.average_precision())
    with pytest.raises(ValueError, match="unknown metric 'ndcg'"):
        found.metric("ndcg")


def test_under_autocast_scores_stay_exact():
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.randn(300, 32, generator=generator) for _ in range(2))
    plain = ranks(x, y, torch.arange(300))["x2y"].values
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(ranks(x, y, torch.arange(300))["x2y"].values, plain)


def test_inputs_are_left_alone_and_may_need_gradients():
    x = torch.randn(5, 3, requires_grad=True)
    before = x.detach().clone()
    found = ranks(x, x, range(5))
    assert torch.equal(x.detach(), before)
    assert not found["x2y"].values.requires_grad


def test_progress_bar_is_shown_on_request(capsys):
    ranks(torch.eye(3), torch.eye(3), [0, 1, 2], progress=True)
    assert "ranks x2y" in capsys.readouterr().err


EYE = torch.eye(4)
NAN = EYE.clone()
NAN[2, 1] = torch.nan
NAN[3, 1] = torch.inf
ERRORS = {
    "width": ((EYE, torch.eye(5), [0, 1, 2, 3]), "x has width 4 but y has width 5"),
    "nan x": ((NAN, EYE, [0, 1, 2, 3]), r"x has NaN or inf in 2 of 4 rows: 2, 3"),
    "nan y": ((EYE, NAN, [0, 1, 2, 3]), r"y has NaN or inf in 2 of 4 rows: 2, 3"),
    "vector": ((EYE[0], EYE, [0]), r"x must be a non-empty float matrix"),
    "integers": ((EYE.long(), EYE, [0, 1, 2, 3]), r"not torch.int64"),
    "empty": ((EYE[:0], EYE, []), r"x must be a non-empty float matrix"),
    "length": ((EYE, EYE, [0, 1]), "y_of_x has 2 entries for 4 x"),
    "beyond": ((EYE, EYE, [0, 1, 2, 4]), r"outside 0..3: y_of_x\[3\] has 4"),
    "negative": ((EYE, EYE, [[0], [1], [2], [3, -1]]), r"outside 0..3: y_of_x\[3\] has -1"),
    "repeated": ((EYE, EYE, [[0], [1, 1], [2], [3]]), r"y_of_x\[1\] lists y 1 more than once"),
    "float": ((EYE, EYE, [0.0, 1.0, 2.0, 3.0]), "must hold integer positions"),
    "matrix": ((EYE, EYE, torch.zeros(4, 2).long()), "must be one vector"),
    "no y": ((EYE, EYE, [[0, 1], [], [2], [3]]), r"1 of 4 x have no match .*x 1\)"),
    "no x": ((EYE, EYE, [[0], [1], [2], [2]]), r"1 of 4 y have no match .*y 3\)"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    arguments, message = ERRORS[name]
    with pytest.raises(ValueError, match=message):
        ranks(*arguments)


def test_error_of_direction_and_tile():
    with pytest.raises(ValueError, match="unknown direction 'i2t'"):
        ranks(EYE, EYE, [0, 1, 2, 3], directions=["i2t"])
    with pytest.raises(ValueError, match="tile must be at least 1, not 0"):
        ranks(EYE, EYE, [0, 1, 2, 3], tile=0)
