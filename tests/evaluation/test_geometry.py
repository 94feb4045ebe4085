"""Geometry of the sphere: hand-checked values and literal loops."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tauten.evaluation import effective_rank, geometry

SQUARE = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]).double()


def test_by_hand_on_the_square():
    """Pairs of the square: 8 of 12 ordered pairs at squared distance 2, 4 at 4."""
    found = geometry(SQUARE, SQUARE, ["a", "a", "b", "b"])
    uniformity = math.log((8 * math.exp(-4) + 4 * math.exp(-8)) / 12)
    assert found["alignment"] == 0
    assert found["modality_gap"] == 0
    assert found["uniformity/x"] == pytest.approx(uniformity, abs=1e-12)
    assert found["uniformity/y"] == pytest.approx(uniformity, abs=1e-12)
    assert found["uniformity/cross"] == pytest.approx(uniformity, abs=1e-12)
    assert found["tolerance/x"] == found["tolerance/cross"] == pytest.approx(0, abs=1e-12)


def test_by_hand_opposite_modalities():
    x, y = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[-2.0, 0.0], [0.0, 3.0]])
    found = geometry(x, y, [0, 0])
    assert found["alignment"] == pytest.approx((4 + 2) / 2)
    assert found["uniformity/x"] == 0
    assert found["uniformity/y"] == pytest.approx(-4)
    assert found["modality_gap"] == pytest.approx(math.hypot(1.5, 0.5))
    assert found["tolerance/x"] == 1
    assert found["tolerance/y"] == pytest.approx(0)
    assert found["tolerance/cross"] == pytest.approx(-0.5)


def loop(x, y, labels, y_of_x, t):
    matching = {(i, j) for i, own in enumerate(y_of_x) for j in own}
    label_of_y = {j: labels[i] for i, j in matching}
    rows = {"x": range(len(x)), "y": range(len(y))}
    out = {"alignment": np.mean([((x[i] - y[j]) ** 2).sum() for i, j in matching])}
    for name, a, b, left, right, skip in (
        ("x", x, x, dict(enumerate(labels)), dict(enumerate(labels)), lambda i, j: i == j),
        ("y", y, y, label_of_y, label_of_y, lambda i, j: i == j),
        ("cross", x, y, dict(enumerate(labels)), label_of_y, lambda i, j: (i, j) in matching),
    ):
        first, second = rows[name[0] if name != "cross" else "x"], range(len(b))
        pairs = [(i, j) for i in first for j in second if not skip(i, j)]
        kernel = [math.exp(-t * ((a[i] - b[j]) ** 2).sum()) for i, j in pairs]
        out[f"uniformity/{name}"] = math.log(np.mean(kernel))
        same = [a[i] @ b[j] for i, j in pairs if left[i] == right[j]]
        out[f"tolerance/{name}"] = np.mean(same)
    for name, side in (("x", x), ("y", y)):
        sigma = np.linalg.svd(side, compute_uv=False)
        share = sigma / sigma.sum()
        out[f"effective_rank/{name}"] = math.exp(-(share * np.log(share)).sum())
    out["modality_gap"] = np.linalg.norm(x.mean(0) - y.mean(0))
    return out


@pytest.mark.parametrize("tile", [3, 64])
@pytest.mark.parametrize("t", [2.0, 0.5])
def test_against_loop_with_several_captions(tile, t):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 5)), rng.normal(size=(13, 5))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    y_of_x = [[0, 1], [2], [3, 4], [5, 6], [7], [8, 9], [10], [11, 12]]
    labels = list("aabbbaab")
    found = geometry(x, y, labels, y_of_x=y_of_x, t=t, tile=tile)
    assert found == pytest.approx(loop(x, y, labels, y_of_x, t), abs=1e-12)


def test_means_over_no_pair_are_nan():
    found = geometry(torch.eye(2), torch.eye(2), ["a", "b"])
    assert math.isnan(found["tolerance/x"])
    assert math.isnan(geometry(torch.eye(1), torch.eye(1))["uniformity/cross"])


def test_a_row_of_zeros_has_cosine_0_with_every_row():
    """Squared distances 2 - 2 cos from cosines of numpy, those of zeros taken as 0."""
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(6, 4)), rng.normal(size=(6, 4))
    x[[1, 3]] = y[[3, 4]] = 0
    found = geometry(torch.tensor(x), torch.tensor(y))
    norms = [np.linalg.norm(side, axis=1, keepdims=True) for side in (x, y)]
    a, b = (side / np.where(norm == 0, 1, norm) for side, norm in zip((x, y), norms, strict=True))
    off = ~np.eye(6, dtype=bool)
    assert found["alignment"] == pytest.approx((2 - 2 * (a @ b.T)).diagonal().mean())
    for name, cosines in (("x", a @ a.T), ("y", b @ b.T), ("cross", a @ b.T)):
        expected = math.log(np.exp(-2 * (2 - 2 * cosines))[off].mean())
        assert found[f"uniformity/{name}"] == pytest.approx(expected)
    zeros = geometry(torch.zeros(3, 4), torch.zeros(3, 4), ["a"] * 3)
    assert zeros["alignment"] == 2
    assert zeros["uniformity/x"] == zeros["uniformity/cross"] == pytest.approx(-4)
    assert zeros["tolerance/x"] == zeros["effective_rank/x"] == zeros["modality_gap"] == 0


@pytest.mark.parametrize("missing", [None, math.nan])
def test_rows_without_a_class_have_no_part_in_the_tolerance(missing):
    generator = torch.Generator().manual_seed(5)
    x, y = torch.randn(2, 6, 3, generator=generator, dtype=torch.float64)
    found = geometry(x, y, ["a", missing, "b", "a", missing, "b"], ["g", "h"] * 3)
    kept = [0, 2, 3, 5]
    alone = geometry(x[kept], y[kept], ["a", "b", "a", "b"])
    for side in ("x", "y", "cross"):
        assert found[f"tolerance/{side}"] == pytest.approx(alone[f"tolerance/{side}"])


def test_labels_may_be_a_tensor():
    labels = torch.tensor([0, 0, 1, 1])
    assert geometry(SQUARE, SQUARE, labels) == geometry(SQUARE, SQUARE, ["0", "0", "1", "1"])


def test_separability_of_mixed_and_parted_clouds():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(300, 8, generator=generator) for _ in range(2))
    assert geometry(x, y, separability=True)["separability"] == pytest.approx(0.5, abs=0.08)
    shift = 6 * torch.eye(8)[0]
    assert geometry(x + shift, y - shift, separability=True)["separability"] > 0.99
    assert "separability" not in geometry(x, y)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((SQUARE, SQUARE[:3]), {}, "x has 4 rows but y has 3: give y_of_x"),
        ((SQUARE, torch.eye(4)), {}, "x has width 2 but y has width 4"),
        ((SQUARE * torch.nan, SQUARE), {}, "x has NaN or inf in 4 of 4 rows"),
        ((SQUARE, SQUARE, ["a"]), {}, "labels has 1 entries for 4 x"),
        ((SQUARE, SQUARE), {"t": 0.0}, "t must be positive and finite, not 0.0"),
        ((SQUARE, SQUARE), {"y_of_x": [0, 1, 2, 9]}, "outside 0..3"),
        ((SQUARE[:2], SQUARE[:1], ["a", "b"]), {"y_of_x": [0, 0]}, "different groups"),
        ((SQUARE[:1], SQUARE[:2], ["a"]), {"y_of_x": [0]}, "1 of 2 y have no match"),
        ((SQUARE[:1], SQUARE[:1]), {"separability": True}, "needs 2 rows per side, got 1 x"),
    ],
)
def test_errors(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        geometry(*arguments, **options)


@pytest.mark.parametrize("t", [0.1, 2.0, 8.0, 20.0, 500.0])
@pytest.mark.parametrize("tile", [7, 2048])
def test_uniformity_at_any_sharpness(t, tile):
    """The literal formula in float64 by pairs; the pairs left out are the largest at a high t."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(50, 128, generator=generator)
    y = x + 0.01 * torch.randn(50, 128, generator=generator)
    found = geometry(x, y, t=t, tile=tile)
    a, b = (F.normalize(side.double(), dim=1) for side in (x, y))
    for name, left, right in (("x", a, a), ("y", b, b), ("cross", a, b)):
        exponent = -t * torch.cdist(left, right).square()
        apart = exponent[~torch.eye(50, dtype=torch.bool)]
        expected = float(apart.logsumexp(0) - math.log(len(apart)))
        assert found[f"uniformity/{name}"] == pytest.approx(expected, rel=1e-5)


def test_uniformity_of_points_that_are_far_apart():
    assert geometry(torch.eye(50), torch.eye(50), t=20.0)["uniformity/x"] == pytest.approx(-40)
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert geometry(opposite, opposite)["uniformity/x"] == pytest.approx(-8, abs=1e-6)


def test_several_matches_are_left_out_of_the_cross_uniformity():
    generator = torch.Generator().manual_seed(4)
    x, y = torch.randn(6, 5, generator=generator), torch.randn(13, 5, generator=generator)
    y_of_x = [[0, 12], [3, 7, 1], [2], [4, 5], [6, 8, 9], [10, 11]]
    a, b = (F.normalize(side.double(), dim=1) for side in (x, y))
    apart = [
        math.exp(-9.0 * float((a[i] - b[j]).square().sum()))
        for i in range(6)
        for j in range(13)
        if j not in y_of_x[i]
    ]
    for tile in (2, 5, 100):
        found = geometry(x, y, y_of_x=y_of_x, t=9.0, tile=tile)["uniformity/cross"]
        assert found == pytest.approx(math.log(sum(apart) / len(apart)), rel=1e-5)


def test_effective_rank_against_singular_values():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(40, 3)) @ rng.normal(size=(3, 8))
    sigma = np.linalg.svd(rows, compute_uv=False)[:3]
    share = sigma / sigma.sum()
    expected = np.exp(-(share * np.log(share)).sum())
    assert effective_rank(torch.tensor(rows)) == pytest.approx(expected)
    assert effective_rank(torch.eye(5)) == pytest.approx(5)
    assert effective_rank(torch.ones(7, 5)) == pytest.approx(1)
    assert effective_rank(torch.zeros(7, 5)) == effective_rank(torch.zeros(0, 5)) == 0
    more = np.concatenate([rows, np.zeros((3, 8))])
    assert effective_rank(torch.tensor(more)) == pytest.approx(expected)
    line = torch.randn(9, 4, dtype=torch.float64)
    found = geometry(torch.ones(9, 4), line)
    assert found["effective_rank/x"] == pytest.approx(1)
    assert 1 < found["effective_rank/y"] <= 4 + 1e-9


def test_groups_are_their_points_alone():
    rng = np.random.default_rng(4)
    x, y = torch.tensor(rng.normal(size=(9, 4))), torch.tensor(rng.normal(size=(7, 4)))
    y_of_x = [[0], [1], [1, 2], [3], [3], [4], [5], [6], [6, 5]]
    labels = ["a", "b", "b", "c", "c", "d", "e", "e", "e"]
    groups = ["head"] * 5 + ["tail"] * 4
    found = geometry(x, y, labels, groups, y_of_x=y_of_x)
    alone = geometry(x[5:], y[4:], labels[5:], y_of_x=[[0], [1], [2], [2, 1]])
    assert {k.removesuffix("/tail") for k in found if k.endswith("/tail")} == alone.keys()
    for key, value in alone.items():
        assert found[f"{key}/tail"] == pytest.approx(value)
    unit = F.normalize(x[:5], dim=1)
    own = math.log(
        np.mean(
            [
                float(torch.exp(-2 * (unit[i] - unit[j]).square().sum()))
                for i in range(5)
                for j in range(5)
                if i != j
            ]
        )
    )
    assert found["uniformity/x/head"] == pytest.approx(own)
    with pytest.raises(ValueError, match="groups"):
        geometry(x, y, labels, groups[1:], y_of_x=y_of_x)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            torch.tensor([[1.0, 2.0], [torch.nan, 0.0]]),
            "rows are NaN or infinite in 1 of 2 rows: 1",
        ),
        (torch.ones(3), r"rows must be floating \(N, d\) with d > 0, got \(3,\)"),
        (torch.ones(3, 0), r"with d > 0, got \(3, 0\)"),
        (torch.eye(3).long(), r"got torch.int64: pass rows.float\(\)"),
        ([[1.0]], "got list"),
    ],
)
def test_an_effective_rank_of_no_numbers_is_refused(rows, said):
    with pytest.raises(ValueError, match=said):
        effective_rank(rows)
