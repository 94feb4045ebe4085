"""Cells that are whole training runs."""

import dataclasses
import json
import re

import pytest
import torch

from tauten import cli, report
from tauten.comparison import Grid, compare, load_cell, rerun
from tauten.comparison.cells import load_queries
from tauten.comparison.end_to_end import train_run
from tauten.comparison.page import anchors
from tauten.comparison.step_cost import step_cost
from tauten.outcome import VIEWS
from tauten.training import from_dict
from tauten.training.run.result import load_result

TINY = {
    "data.limit": 96,
    "model.channels": [8],
    "model.dim": 8,
    "model.text_width": 8,
    "optim.batch_size": 32,
    "optim.epochs": 1,
    "evaluation.every": 1,
}
OF_VIEWS = {
    "data.source": "emoji_lt",
    "data.limit": 200,
    "data.image_size": 16,
    "model.grid": 2,
    "model.channels": [16],
    "optim.epochs": 4,
    "optim.lr": 0.03,
}


def small(output, **fields):
    settings = TINY | fields.pop("settings", {})
    given = {"seeds": (0,), "trials": 1, "threads": 1, "progress": False}
    return Grid(output, settings=settings, **(given | fields))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    grid = small(tmp_path_factory.mktemp("pairs"), controls=("constant", "shuffled"), trials=2)
    return grid, compare(grid, bootstrap=50)


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    grid = small(
        tmp_path_factory.mktemp("views"),
        recipe="caltech98_lt_simclr",
        controls=("constant", "mmts", "matched", "shuffled", "isogclr"),
        settings=OF_VIEWS,
    )
    return grid, compare(grid, bootstrap=50)


def test_emoji_end_to_end(pairs):
    grid, found = pairs
    assert grid.runner == "train"
    trained = found.summary.trained
    assert not trained.failures
    assert len(trained.results) in (2, 3, 4)
    first = trained.results["cells/constant/default-seed0"]
    assert first.steps == 3
    assert first.metrics["all"]["n"] == 96
    run = grid.output / "cells" / "constant" / "default-seed0" / "run"
    assert not (run / "checkpoints").exists()
    trial = grid.output / "tuning" / "mmts" / "trial-0" / "run"
    assert {path.name for path in trial.iterdir()} == {
        "config.yaml",
        "history.jsonl",
        "results.json",
    }
    assert {trial.share for trial in trained.trials["mmts"]} == {1.0}
    assert compare(grid, bootstrap=50).text == found.text


def test_the_page_links_to_runs_that_a_report_can_show(pairs):
    grid, found = pairs
    page = found.page.read_text(encoding="utf-8")
    links = re.findall(r'href="(cells/[^"]+)"', page)
    assert "cells/constant/default-seed0/run/" in links
    assert len(links) == len(found.summary.variants)
    assert all((grid.output / link / "results.json").is_file() for link in links)
    shown = report.write([grid.output / links[0]], grid.output / "of_one")
    assert "constant default" in shown.read_text(encoding="utf-8")
    assert "../comparison.html#constant" in shown.read_text(encoding="utf-8")
    ids = anchors(found.summary)
    assert ids[0] == "constant"
    assert {"shuffled", "constant"} <= set(ids)
    for name in ids:
        assert page.count(f'id="{name}"') == 1


def test_cost_of_a_step_grows_with_the_table_of_the_loss(views):
    results = views[1].summary.trained.results
    constant, table = (results[f"cells/{n}/default-seed0"] for n in ("constant", "isogclr"))
    assert 0 < constant.seconds_per_step < constant.seconds
    assert 0.1 < constant.memory_mib < 50
    assert table.memory_mib > constant.memory_mib


def test_measuring_a_step_leaves_the_run_as_it_is(tmp_path, monkeypatch):
    config = small(tmp_path / "grid", recipe="caltech98_lt_moco", settings=OF_VIEWS).base()
    config.loss.queue = 64
    costs = []

    def watched(config, total_steps):
        state, files = torch.get_rng_state(), contents(config.output)
        costs.append(step_cost(config, total_steps))
        assert torch.equal(torch.get_rng_state(), state)
        assert contents(config.output) == files
        return costs[-1]

    monkeypatch.setattr("tauten.comparison.end_to_end.step_cost", watched)
    measured = train_run(dataclasses.replace(config), tmp_path / "a", test=True)
    monkeypatch.setattr("tauten.comparison.end_to_end.step_cost", lambda *_: None)
    blind = train_run(dataclasses.replace(config), tmp_path / "b", test=True)
    assert (measured.memory_mib, measured.seconds_per_step) == (
        costs[0].memory_mib,
        costs[0].seconds,
    )
    assert blind.memory_mib is None
    assert blind.seconds_per_step * blind.steps == load_result(tmp_path / "b" / "run").wall_s
    assert (measured.val, measured.queries.metrics()) == (blind.val, blind.queries.metrics())


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_report_shows_runs_of_views(views):
    grid, _ = views
    runs = [grid.output / "cells" / name / "default-seed0" / "run" for name in ("constant", "mmts")]
    assert not (runs[0] / "train_images.npz").exists()
    page = report.write(runs, grid.output / "report").read_text(encoding="utf-8")
    assert "knn@10" in page
    assert "../comparison.html#mmts" in page


def test_views_end_to_end(views):
    grid, found = views
    trained = found.summary.trained
    assert not trained.failures
    assert found.summary.metric == "knn@10/class_mean"
    assert {"matched", "shuffled"} <= {c.b.split()[0] for c in found.summary.to_parts}
    for name, result in trained.results.items():
        test = load_result(grid.output / name / "run").test
        for metric in VIEWS.names:
            assert result.metrics["all"][metric] == pytest.approx(test[metric], abs=1e-6)
        for group in ("head", "mid", "tail"):
            key = "knn@10/class_mean"
            assert result.metrics[group][key] == pytest.approx(test[f"{key}/{group}"], abs=1e-6)
        assert not any(key.startswith("linear") for key in test)
    right = [load_queries(grid.output / name).scores("knn@10") for name in trained.results]
    assert len({tuple(hits.tolist()) for hits in right}) >= 4
    assert "majority vote of the nearest training images" in found.page.read_text(encoding="utf-8")


def test_a_grid_of_views_goes_on_and_takes_a_control_more(views, monkeypatch):
    grid, found = views
    trained = []

    def watched(config, folder, **options):
        trained.append(folder.parent.name)
        return train_run(config, folder, **options)

    monkeypatch.setattr("tauten.comparison.cell_run.train_run", watched)
    assert compare(grid, bootstrap=50).text == found.text
    more = dataclasses.replace(grid, controls=("constant", "cosine"))
    assert not compare(more, bootstrap=50).summary.trained.failures
    assert trained == ["cosine"]


@pytest.mark.parametrize("control", ["mmts", "isogclr"])
def test_a_cell_of_views_repeats_from_its_record(views, tmp_path, control):
    place = views[0].output / "cells" / control / "default-seed0"
    recorded, again = rerun(place, tmp_path / "again")
    assert (recorded.metrics, recorded.val) == (again.metrics, again.val)


def test_the_last_checkpoint_is_judged_by_its_neighbours(tmp_path):
    settings = OF_VIEWS | {"evaluation.metric": "last"}
    grid = small(
        tmp_path,
        recipe="caltech98_lt_simclr",
        controls=("constant",),
        trials=2,
        settings=settings,
    )
    found = compare(grid, bootstrap=20).summary.trained
    assert all(0 <= trial.val <= 1 for trial in found.trials["constant"])
    result = found.results["cells/constant/default-seed0"]
    run = load_result(tmp_path / "cells" / "constant" / "default-seed0" / "run")
    assert result.val == run.val["knn@10/class_mean"]


def test_margins_of_clips(shared_data, tmp_path, capsys):
    words = ["compare", "--recipe", "emoji_video_margin_mmts", "--data"]
    words += [f"emoji_video:{shared_data}", "--controls", "constant,mmts,matched,shape-only"]
    words += [
        "--metric",
        "nDCG",
        "--seeds",
        "1",
        "--trials",
        "1",
        "--bootstrap",
        "50",
        "--processes",
        "1",
    ]
    shared = {**TINY, "data.frames": 2, "data.image_size": 16, "model.grid": 2}
    words += [word for name, value in shared.items() for word in ("--set", f"{name}={value}")]
    assert cli.main([*words, "--threads", "1", "--output", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "shape-only (default)" in shown
    assert "failed" not in shown
    place = tmp_path / "out" / "cells" / "mmts" / "default-seed0"
    config = from_dict(dict(load_cell(place).config))
    assert (config.family, config.control.alpha) == ("maxmargin", 0.2)
    written = json.loads((place / "run" / "results.json").read_text())
    low, high = written["control_range"]
    assert 0.07 - 1e-6 <= low < high <= 0.40 + 1e-6
    for name, full in (("nDCG", "nDCG/mean"), ("mAP", "mAP_official/mean")):
        graded = load_queries(place).metrics()["all"][name]
        assert graded == pytest.approx(written["test"][f"multi_instance/{full}"], abs=1e-6)
    recorded, again = rerun(place, tmp_path / "again")
    assert (recorded.metrics, recorded.val) == (again.metrics, again.val)
