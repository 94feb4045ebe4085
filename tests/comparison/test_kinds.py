"""Controls as margins and as temperatures of two views: their settings, and what is refused."""

import numpy as np
import pytest
import torch

from tauten import MaxMargin, cli
from tauten.comparison import METHODS, Grid, compare, rerun
from tauten.comparison.frozen import train_heads
from tauten.comparison.kinds import CONTROLS, methods_of, usual
from tauten.comparison.methods import configure, trials
from tauten.training.build import build_loss
from tauten.training.tasks.view_module import ViewBatch

MARGIN = ("constant", "matched", "ts", "ics", "mmts", "shuffled", "shape-only", "anneal")
VIEWS = (*MARGIN, "learnable", "dystress", "macl", "isogclr", "sogclr", "tempnet", "cosine")


def margins(make_grid, output, **fields):
    return make_grid(output, family="maxmargin", **fields)


def test_published_settings_of_margins():
    known = methods_of("margin")
    assert known["constant"].default == {"control.value": 0.2}
    schedule = known["mmts"].default
    assert [schedule[f"control.{name}"] for name in ("alpha", "shift_low", "shift_high")] == [
        0.2,
        0.17,
        0.30,
    ]
    assert known["mmts"].fixed == METHODS["mmts"].fixed
    assert METHODS["constant"].default == {"control.value": 0.07}


@pytest.mark.parametrize(
    ("kind", "fields", "names"),
    [
        ("temperature", {}, tuple(METHODS)),
        ("margin", {"family": "maxmargin"}, MARGIN),
        ("views", {"recipe": "caltech98_lt_simclr"}, VIEWS),
    ],
)
def test_every_kind_has_settings_that_the_loss_accepts(tmp_path, kind, fields, names):
    grid = Grid(tmp_path, **fields)
    assert grid.kind == kind
    assert not {grid.catalogue[name].refused for name in names} - {""}
    for name in names:
        method = grid.catalogue[name]
        if method.parts_of is None:
            drawn = trials(method, grid.base(), 4, seed=0)
            assert len(drawn) == 4
            for settings in drawn:
                made = configure(grid.base(), method, settings)
                loss_fn = build_loss(made, 2, torch.tensor([3, 1]), 100, ["a", "b"])
                assert isinstance(loss_fn, MaxMargin) == (kind == "margin")
        else:
            configure(grid.base(), method, grid.catalogue[method.parts_of].default)


@pytest.mark.parametrize("name", MARGIN)
def test_every_margin_trains(make_grid, tmp_path, pairs, name):
    grid = margins(make_grid, tmp_path)
    method = grid.catalogue[name]
    default = grid.catalogue[method.parts_of or name].default
    found = train_heads(configure(grid.base(), method, default), pairs)
    assert np.isfinite(found.val)
    assert len(found.queries.groups) == 36


@pytest.mark.parametrize("name", [*VIEWS, "reversed", "weight-only", "temo", "tau-uncertainty"])
def test_every_control_of_views_has_a_loss_of_two_views(tmp_path, name):
    grid = Grid(tmp_path, recipe="caltech98_lt_simclr")
    method = grid.catalogue[name]
    made = configure(grid.base(), method, grid.catalogue[method.parts_of or name].default)
    labels, index = ["a"] * 5 + ["b"] * 2 + ["c"], torch.arange(8)
    counts = torch.tensor([5] * 5 + [2] * 2 + [1])
    loss_fn = build_loss(made, 8, counts, 100, labels)
    z = torch.randn(16, made.model.dim, generator=torch.Generator().manual_seed(0))
    batch = ViewBatch.of_two(z[:8].requires_grad_(), z[8:], index)
    loss = loss_fn(batch.x, batch.y, batch.ids, **batch.relation())
    loss.backward()
    assert loss.isfinite()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("learnable", "a learned margin only shrinks"),
        ("tau-uncertainty", "a learned margin only shrinks"),
        ("weight-only", "pulls equally hard whatever the margin"),
        ("isogclr", "a hinge has no partition"),
        ("tempnet", "a hinge has no partition"),
        ("fastclip-v3", "a hinge has no partition"),
        ("sogclr", "a loss of its own with a temperature"),
        ("dystress", "published for temperatures"),
    ],
)
def test_what_means_nothing_for_a_margin_is_refused_by_name(make_grid, tmp_path, name, reason):
    grid = margins(make_grid, tmp_path / "out", controls=("constant", name))
    with pytest.raises(ValueError, match=f"{name} cannot be compared here: .*{reason}"):
        compare(grid)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"controls": ("constant", "fastclip-v1")}, "fastclip-v1 .*of pairs of two modalities"),
        ({"mode": "frozen"}, "two views train the tower itself"),
        ({"family": "maxmargin"}, "task=views has the families .*infonce, "),
        (
            {"controls": ("constant", "sogclr"), "settings": {"loss.queue": 64}},
            "sogclr cannot be compared here: loss.queue means nothing to family=sogclr, got 64",
        ),
    ],
)
def test_what_means_nothing_for_views_is_refused(tmp_path, fields, message):
    with pytest.raises(ValueError, match=message):
        compare(Grid(tmp_path / "out", recipe="caltech98_lt_simclr", seeds=(0,), **fields))
    assert not (tmp_path / "out").exists()


def test_the_family_is_that_of_the_recipe_where_schedules_can_drive_it(tmp_path):
    def family(recipe, **fields):
        return Grid(tmp_path, recipe=recipe, **fields).base().family

    assert family("emoji_video_margin_mmts") == "maxmargin"
    assert family("emoji_video_margin_mmts", family="dcl") == "dcl"
    assert family("emoji_isogclr") == family("emoji") == "infonce"
    assert family("emoji", settings={"family": "maxmargin"}) == "maxmargin"
    assert usual("margin") == tuple(name for name in CONTROLS if name != "learnable")
    assert Grid(tmp_path, recipe="emoji_video_margin_mmts").controls == usual("margin")
    assert Grid(tmp_path).controls == CONTROLS


def test_only_views_go_without_probes(tmp_path):
    """Cells of pairs that were trained before there were views must stay the same."""
    assert Grid(tmp_path).base().evaluation.probe == "svm"
    assert Grid(tmp_path, recipe="caltech98_lt_ts").base().evaluation.probe == "none"
    kept = Grid(tmp_path, recipe="caltech98_lt_ts", settings={"evaluation.probe": "sgd"})
    assert kept.base().evaluation.probe == "sgd"


def test_a_comparison_of_margins(make_grid, tmp_path):
    grid = margins(make_grid, tmp_path / "out", controls=MARGIN[:5], trials=2)
    found = compare(grid, bootstrap=50)
    trained = found.summary.trained
    assert not trained.failures
    assert set(trained.trials) == {"constant", "mmts"}
    assert {cell.config["family"] for cell in trained.cells.values()} == {"maxmargin"}
    assert "Schedules set the margin" in found.page.read_text(encoding="utf-8")
    name = trained.variants["mmts", "default"][1]
    recorded, again = rerun(grid.output / name, tmp_path / "again")
    assert (recorded.metrics, recorded.val, recorded.curve) == (
        again.metrics,
        again.val,
        again.curve,
    )


def test_listed_for_a_recipe(capsys):
    assert cli.main(["compare", "--controls", "list", "--set", "family=maxmargin"]) == 0
    shown = capsys.readouterr().out
    assert "not here: a violated term of a hinge" in shown
    assert cli.main(["compare", "--controls", "list", "--recipe", "caltech98_lt_ts"]) == 0
    assert "TS as published" in capsys.readouterr().out
