"""Exact ranks against literal loops."""

import itertools
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tauten.evaluation import ranks, retrieval
from tauten.evaluation.ahead import _count_true, count_at_least


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
    sides = torch.tensor(x).float(), torch.tensor(y).float()
    for one_pass in (False, True):
        found = ranks(*sides, y_of_x, normalize=False, tile=tile, one_pass=one_pass)
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


def with_matches(lengths, m):
    rng = np.random.default_rng(0)
    x, y = rng.integers(-2, 3, (len(lengths), 3)), rng.integers(-2, 3, (m, 3))
    y_of_x = [sorted(rng.permutation(m)[:k].tolist()) for k in lengths]
    for j in range(m):
        y_of_x[j % len(lengths)] = sorted({*y_of_x[j % len(lengths)], j})
    return x, y, y_of_x


@pytest.mark.parametrize("lengths", [(1, 9, 25, 40, 60), (1, 2, 3) * 10, (1, 2, 5, 8, 13)])
@pytest.mark.parametrize("tile", [17, 64])
def test_many_matches_per_query_use_the_same_rule(lengths, tile):
    x, y, y_of_x = with_matches(lengths, 60)
    sides = torch.tensor(x).double(), torch.tensor(y).double()
    found = ranks(*sides, y_of_x, normalize=False, tile=tile, one_pass=True)
    assert as_lists(found["x2y"]) == loop_ranks(x @ y.T, y_of_x)
    assert as_lists(found["y2x"]) == loop_ranks(y @ x.T, inverse(y_of_x, 60))


@pytest.mark.parametrize(("noise", "k"), [(0.3, 3), (9.0, 3), (0.3, 40), (9.0, 40)])
def test_matches_near_the_top_and_far_from_it(noise, k):
    """Few candidates ahead of many are counted one by one, many in whole tiles."""
    generator = torch.Generator().manual_seed(k)
    x = torch.randn(12, 24, generator=generator)
    y = x.repeat_interleave(k, 0) + noise * torch.randn(12 * k, 24, generator=generator)
    x, y = x.double(), torch.cat([y, torch.randn(700, 24, generator=generator)]).double()
    y_of_x = torch.arange(12 * k).view(12, k).tolist()
    found = ranks(x, y, y_of_x, directions=["x2y"], normalize=False, tile=391)
    assert as_lists(found["x2y"]) == loop_ranks((x @ y.T).numpy(), y_of_x)
    turned = ranks(
        y[: 12 * k], x, torch.arange(12).repeat_interleave(k), normalize=False, one_pass=True
    )
    assert as_lists(turned["y2x"]) == loop_ranks((x @ y[: 12 * k].T).numpy(), y_of_x)


@pytest.mark.parametrize("by_column", [False, True])
@pytest.mark.parametrize("k", [1, 4, 40])
@pytest.mark.parametrize("highest", [1, 9])
def test_scores_equal_to_a_bar_reach_it(k, highest, by_column):
    """Few scores reach the high bars, most the low ones."""
    generator = torch.Generator().manual_seed(0)
    sim = torch.randint(0, 10, (37, 130), generator=generator).float()
    sim = torch.where(torch.rand(sim.shape, generator=generator) < 0.98, sim.clamp(max=8), sim)
    n = 130 if by_column else 37
    bars = torch.randint(highest, highest + 2, (n, k), generator=generator).float()
    bars[::3, 0] = torch.inf
    bars[1::3, -1] = highest
    bars = bars.sort(dim=1, descending=True).values
    rows = sim.T if by_column else sim
    expected = [
        [sum(score >= bar for score in row) for bar in own]
        for row, own in zip(rows.tolist(), bars.tolist(), strict=True)
    ]
    assert count_at_least(sim, bars, by_column).tolist() == expected


@pytest.mark.parametrize("shape", [(1, 1), (300, 9), (9, 3000), (129, 1025)])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_true_ones_are_counted(shape, share):
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(0)) < share
    assert torch.equal(_count_true(mask), mask.sum(dim=1))
    assert torch.equal(_count_true(mask, by_column=True), mask.sum(dim=0))


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
    for ties in ("pessimistic", "mean"):
        with pytest.raises(ValueError, match=r"a tuple, such as \('y2x',\), got 'y2x'"):
            ranks(EYE, EYE, [0, 1, 2, 3], directions="y2x", ties=ties)
    for wrong in ("both", 3, None):
        with pytest.raises(ValueError, match=rf"such as \('x2y',\), got {wrong!r}"):
            retrieval(EYE, EYE, [0, 1, 2, 3], directions=wrong)
    with pytest.raises(ValueError, match="tile must be at least 1, not 0"):
        ranks(EYE, EYE, [0, 1, 2, 3], tile=0)


def captioned(n=70, k=3, d=16, noise=1.5):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, d, generator=generator)
    y = x.repeat_interleave(k, 0) + noise * torch.randn(n * k, d, generator=generator)
    order = torch.randperm(n * k, generator=generator)
    return x, y[order], order.argsort().view(n, k).tolist()


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for direction, one in expected.items():
        assert torch.equal(found[direction].values, one.values)
        assert torch.equal(found[direction].offsets, one.offsets)
        assert found[direction].candidates == one.candidates


@pytest.mark.parametrize("one_pass", [False, True])
@pytest.mark.parametrize("tile", [5, 9, 64, 71, 211])
def test_tiles_of_odd_sizes_give_the_ranks_of_one_tile(tile, one_pass):
    x, y, y_of_x = captioned()
    assert_same(ranks(x, y, y_of_x, tile=tile, one_pass=one_pass), ranks(x, y, y_of_x))


@pytest.mark.parametrize("directions", [("x2y",), ("y2x",), ("y2x", "x2y")])
def test_one_pass_keeps_to_the_directions_asked_for(directions):
    x, y, y_of_x = captioned()
    found = ranks(x, y, y_of_x, directions=directions, one_pass=True, tile=32)
    assert tuple(found) == directions
    assert_same(found, ranks(x, y, y_of_x, directions=directions))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_memory_mapped_files_give_the_ranks_of_tensors(tmp_path, dtype):
    x, y, y_of_x = captioned()
    mapped = []
    for name, rows in (("x", x), ("y", y)):
        np.save(tmp_path / f"{name}.npy", rows.numpy().astype(dtype))
        mapped.append(np.load(tmp_path / f"{name}.npy", mmap_mode="r"))
    tensors = [torch.tensor(rows) for rows in mapped]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ResourceWarning)  # files of earlier tests
        found = ranks(*mapped, y_of_x, tile=32, one_pass=True, resume=tmp_path / "state")
    assert_same(found, ranks(*tensors, y_of_x))


def interrupt_after(monkeypatch, blocks):
    """Make the progress bar raise when it is told of that many blocks."""

    def bar(items, **options):
        for number, item in enumerate(items):
            if number == blocks:
                raise KeyboardInterrupt
            yield item

    monkeypatch.setattr("tqdm.auto.tqdm", bar)


def count_blocks(monkeypatch):
    seen = []

    def bar(items, **options):
        for item in items:
            seen.append(item)
            yield item

    monkeypatch.setattr("tqdm.auto.tqdm", bar)
    return seen


@pytest.mark.parametrize("one_pass", [False, True])
@pytest.mark.parametrize("blocks", [0, 1, 4])
def test_interrupted_and_resumed_equals_uninterrupted(tmp_path, monkeypatch, blocks, one_pass):
    x, y, y_of_x = captioned()
    settings = {"tile": 16, "one_pass": one_pass}
    whole = ranks(x, y, y_of_x, **settings)
    resumed = settings | {"resume": tmp_path / "state", "progress": True}
    interrupt_after(monkeypatch, blocks)
    with pytest.raises(KeyboardInterrupt):
        ranks(x, y, y_of_x, **resumed)
    seen = count_blocks(monkeypatch)
    assert_same(ranks(x, y, y_of_x, **resumed), whole)
    of_x, of_y = 5, 14
    assert len(seen) == (of_x if one_pass else of_x + of_y) - blocks
    seen.clear()
    assert_same(ranks(x, y, y_of_x, **resumed), whole)
    assert seen == []
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_resumed_with_another_tile(tmp_path, monkeypatch):
    x, y, y_of_x = captioned()
    interrupt_after(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        ranks(x, y, y_of_x, tile=16, resume=tmp_path / "state", progress=True)
    found = ranks(x, y, y_of_x, tile=11, resume=tmp_path / "state")
    assert_same(found, ranks(x, y, y_of_x))


def changed(rows, i, value):
    out = rows.clone()
    out[i, 3] = value
    return out


X, Y, Y_OF_X = captioned()
OTHER = {
    "an element": ((changed(X, 41, 0.5), Y, Y_OF_X), {}, "x differ"),
    "order": ((X, Y.flip(0), Y_OF_X), {}, "y differ"),
    "rows": ((X[:-1], Y, Y_OF_X[:-1]), {"directions": ["x2y"]}, "x, y_of_x, passes differ"),
    "type": ((X.double(), Y, Y_OF_X), {}, "x differ"),
    "matches": ((X, Y, Y_OF_X[1:] + Y_OF_X[:1]), {}, "y_of_x differ"),
    "owners": (
        (X, Y, [[*Y_OF_X[0], Y_OF_X[1][0]], Y_OF_X[1][1:], *Y_OF_X[2:]]),
        {},
        "y_of_x differ",
    ),
    "dot product": ((X, Y, Y_OF_X), {"normalize": False}, "normalize differ"),
    "direction": ((X, Y, Y_OF_X), {"directions": ["y2x"]}, "passes differ"),
    "one pass": ((X, Y, Y_OF_X), {"one_pass": True}, "passes differ"),
}


@pytest.mark.parametrize("name", OTHER)
def test_state_of_other_inputs_is_refused(tmp_path, name):
    path = tmp_path / "state"
    ranks(X, Y, Y_OF_X, resume=path)
    kept = path.read_bytes()
    arguments, settings, differing = OTHER[name]
    with pytest.raises(ValueError, match=rf"other inputs \({differing}\): delete"):
        ranks(*arguments, resume=path, **settings)
    assert path.read_bytes() == kept


@pytest.mark.parametrize("content", [b"", b"no state", {"inputs": 3}, [1, 2]])
def test_file_that_is_no_state_is_refused(tmp_path, content):
    path = tmp_path / "state"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match="state keeps no counts of ranks"):
        ranks(X, Y, Y_OF_X, resume=path)


def test_retrieval_resumes_and_takes_memory_mapped_files(tmp_path):
    np.save(tmp_path / "y.npy", Y.numpy())
    y = np.load(tmp_path / "y.npy", mmap_mode="r")
    settings = {"one_pass": True, "resume": tmp_path / "state", "bootstrap": 20, "tile": 32}
    expected = retrieval(X, Y, Y_OF_X, bootstrap=20)
    assert retrieval(X, y, Y_OF_X, **settings) == expected
    assert (tmp_path / "state").exists()
    assert retrieval(X, y, Y_OF_X, **settings) == expected
