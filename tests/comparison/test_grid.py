"""Grids: what is planned, that they go on, and that tuning keeps to the validation split."""

import csv
import dataclasses
import json
import shutil
from types import SimpleNamespace

import pytest

from tauten import cli
from tauten.comparison import SyntheticConfig, compare, load_cell, rerun
from tauten.comparison import train as grids
from tauten.comparison.catalogue import METHODS
from tauten.comparison.cells import CONFIG, FEATURES, RESULT, load_queries
from tauten.comparison.contrasts import contrasts
from tauten.comparison.features import Features, load, save
from tauten.comparison.methods import trials
from tauten.comparison.options import settings as read_settings
from tauten.comparison.summary import COLUMNS, write_csv
from tauten.comparison.train import train_grid
from tauten.comparison.tuning import Median, Trial, best
from tauten.files import Lock
from tauten.training import Config


@pytest.fixture(scope="module")
def finished(make_grid, tmp_path_factory):
    """A small comparison with tuning, and what it found."""
    grid = make_grid(
        tmp_path_factory.mktemp("grid"),
        controls=("constant", "mmts", "matched", "shuffled", "isogclr"),
        trials=4,
    )
    return grid, compare(grid, bootstrap=100)


def test_every_control_has_default_and_tuned_cells(finished):
    grid, found = finished
    trained = found.summary.trained
    assert set(trained.variants) == {(c, s) for c in grid.controls for s in ("default", "tuned")}
    assert all(set(cells) == {0, 1} for cells in trained.variants.values())
    assert set(trained.results) == set(trained.cells)
    assert set(trained.trials) == {"constant", "mmts", "isogclr"}
    assert trained.chosen["matched", "tuned"] == trained.chosen["mmts", "tuned"]
    for control, tried in trained.trials.items():
        assert len(tried) == 4
        assert tried[0].settings == {**METHODS[control].default, **METHODS[control].fixed}
        chosen = best(tried)
        assert chosen.val == max(trial.val for trial in tried if trial.finished)


def test_trials_never_have_test_numbers(finished):
    grid, _ = finished
    folders = list((grid.output / "tuning").glob("*/trial-*"))
    assert len(folders) == 12
    for folder in folders:
        assert json.loads((folder / RESULT).read_text())["metrics"] == {}
        assert not (folder / "queries.npz").exists()
        assert not load_cell(folder).test


def test_csv_has_a_row_per_cell_group_and_metric(finished):
    grid, found = finished
    with (grid.output / "cells.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    keys = {(r["control"], r["setting"], r["seed"], r["group"], r["metric"]) for r in rows}
    assert len(keys) == len(rows)
    name = found.summary.trained.variants["mmts", "default"][1]
    metrics = found.summary.trained.results[name].metrics
    told = {
        (r["group"], r["metric"]): float(r["value"])
        for r in rows
        if (r["control"], r["setting"], r["seed"]) == ("mmts", "default", "1")
    }
    assert told == {(g, m): value for g, ms in metrics.items() for m, value in ms.items()}
    assert json.loads(rows[0]["settings"])["control.kind"] == "constant"


def test_tables_are_written_whole_or_not_at_all(finished, tmp_path):
    """Nothing of a table that breaks off shows, neither in the row of a cell nor of a contrast."""
    summary = finished[1].summary
    summary = dataclasses.replace(summary, grid=dataclasses.replace(summary.grid, output=tmp_path))
    write_csv(summary)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(before) == ["cells.csv", "differences.csv"]
    trained, (*_, last) = summary.trained, summary.trained.results
    cells = dict(trained.cells)
    del cells[last]
    for broken in (
        {"trained": dataclasses.replace(trained, cells=cells)},
        {"to_parts": [*summary.to_parts, object()]},
    ):
        with pytest.raises((KeyError, AttributeError)):
            write_csv(dataclasses.replace(summary, **broken))
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_tables_and_page_show_every_variant(finished):
    grid, found = finished
    page = found.page.read_text(encoding="utf-8")
    markdown = (grid.output / "comparison.md").read_text(encoding="utf-8")
    for variant in found.summary.variants:
        assert all(variant.name in shown for shown in (found.text, page, markdown))
    assert "mmts (tuned) − shuffled (tuned)" in found.text
    assert "http" not in page.replace("http://www.w3.org", "")
    assert page.count("<svg") >= 5
    assert "Theory gives the higher temperature to: neither" in page


def test_retrieval_of_classes_stands_beside_that_of_pairs(finished):
    grid, found = finished
    level = found.summary.beside
    cells = found.summary.trained.variants
    queries = {
        f"{control} ({setting})": {s: load_queries(grid.output / n) for s, n in of.items()}
        for (control, setting), of in cells.items()
    }
    pairs = dict.fromkeys((c.a, c.b) for c in found.summary.to_baseline)
    assert level.metric == "class_map"
    assert level.to_baseline == contrasts(queries, [*pairs], "class_map", found.summary.bootstrap)
    with (grid.output / "differences.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "class_map"]
    assert [float(row["corrected_low"]) for row in rows] == [
        c.corrected_low for c in level.to_baseline
    ]
    mean = f"{100 * level.means['constant (default)', 'all'].value:.1f} ["
    page, tex = found.page.read_text("utf-8"), (grid.output / "comparison.tex").read_text("utf-8")
    assert all(mean in shown for shown in (found.text, page, tex))
    assert all(f'id="trade-off-{g}' in page for g in found.summary.groups)
    rows = [line for line in tex.splitlines() if line.endswith(r"\\")]
    assert "control & class\\_map & difference & p & d & head & mid & tail" in tex
    assert all(row.count("&") in (9, 7, 3) for row in rows)


def test_started_again_it_trains_nothing(finished, monkeypatch):
    grid, found = finished

    def never(*args, **options):
        raise AssertionError("trained again")

    monkeypatch.setattr("tauten.comparison.cell_run.train_heads", never)
    assert compare(grid, bootstrap=100).text == found.text


def test_a_cell_repeats_from_its_record(finished, tmp_path):
    grid, found = finished
    name = found.summary.trained.variants["shuffled", "tuned"][1]
    recorded, again = rerun(grid.output / name, tmp_path / "again")
    assert (recorded.metrics, recorded.val, recorded.curve) == (
        again.metrics,
        again.val,
        again.curve,
    )
    with pytest.raises(ValueError, match="not empty"):
        rerun(grid.output / name, tmp_path / "again")


def test_an_interrupted_grid_ends_as_an_uninterrupted_one(make_grid, tmp_path, monkeypatch):
    whole = train_grid(make_grid(tmp_path / "whole"))
    real, done = grids.run_cell, []

    def interrupted(cell, root):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(cell)
        return real(cell, root)

    monkeypatch.setattr(grids, "run_cell", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_grid(make_grid(tmp_path / "cut"))
    monkeypatch.setattr(grids, "run_cell", real)
    again = train_grid(make_grid(tmp_path / "cut"))
    assert {n: r.metrics for n, r in again.results.items()} == {
        n: r.metrics for n, r in whole.results.items()
    }


def test_one_failed_cell_does_not_stop_the_rest(make_grid, tmp_path):
    grid = make_grid(tmp_path, controls=("constant", "mmts"))
    broken = tmp_path / "cells" / "mmts" / "default-seed1"
    broken.parent.mkdir(parents=True)
    broken.write_text("a file where a folder should be")
    found = compare(grid, bootstrap=50)
    (failure,) = found.summary.trained.failures
    assert failure.task == "cells/mmts/default-seed1"
    (listed,) = json.loads((tmp_path / "failed.json").read_text())
    assert listed["task"] == failure.task
    assert "failed: cells/mmts/default-seed1" in found.text
    assert "Finished of 2 seeds: mmts (default) 1" in found.text
    assert failure.task in found.page.read_text(encoding="utf-8")
    broken.unlink()
    again = compare(grid, bootstrap=50)
    assert not again.summary.trained.failures
    assert not (tmp_path / "failed.json").exists()


@pytest.fixture(scope="module")
def trained(make_grid, tmp_path_factory):
    """A folder with two controls and two seeds, and what was found."""
    folder = tmp_path_factory.mktemp("trained")
    return folder, train_grid(make_grid(folder, controls=("constant", "mmts")))


@pytest.mark.parametrize("file", [CONFIG, RESULT, "queries.npz"])
@pytest.mark.parametrize("damage", ["empty", "cut", "list", "swapped", "removed"])
def test_a_damaged_cell_is_trained_again(trained, make_grid, tmp_path, caplog, file, damage):
    output = tmp_path / "out"
    shutil.copytree(trained[0], output)
    cell = output / "cells" / "mmts" / "default-seed1"
    path, other = cell / file, output / "cells" / "constant" / "default-seed0" / file
    whole = path.read_bytes()
    made = {"empty": b"", "cut": whole[: len(whole) // 2], "list": b"[1]"}
    if damage == "removed":
        path.unlink()
    else:
        path.write_bytes(other.read_bytes() if damage == "swapped" else made[damage])
    grid = make_grid(output, controls=("constant", "mmts"))
    if (file, damage) == (CONFIG, "swapped"):
        with pytest.raises(ValueError, match="holds another cell"):
            train_grid(grid)
        return
    found = train_grid(grid)
    assert not found.failures
    again = {name: (r.metrics, r.val) for name, r in found.results.items()}
    assert again == {name: (r.metrics, r.val) for name, r in trained[1].results.items()}
    assert path.exists()
    # a result that is not there is no damage: the cell has not finished
    said = [record.getMessage() for record in caplog.records if "is damaged" in record.getMessage()]
    assert len(said) == (0 if (file, damage) == (RESULT, "removed") else 1)
    assert all(str(cell) in message for message in said)


def test_damaged_features_are_named(trained, make_grid, tmp_path):
    shutil.copytree(trained[0], tmp_path / "out")
    path = tmp_path / "out" / FEATURES
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"features.npz is no file of features.*Remove it"):
        train_grid(make_grid(tmp_path / "out", controls=("constant", "mmts")))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"settings": {"seed": 3}}, "seed cannot be set for all cells: give --seeds"),
        ({"settings": {"output": "x"}}, "output cannot be set for all cells: give --output"),
        ({"settings": {"model.image": "vit"}}, "model.image changes nothing in a training of head"),
        ({"settings": {"data.label": "c"}}, "data.label changes nothing in a training of heads"),
        ({"settings": {"optim.accumulation": 2}}, "optim.accumulation changes nothing"),
        ({"settings": {"control.alpha": 0.1}}, "control.alpha is a setting of mmts, matched"),
        ({"settings": {"control.kind": "anneal"}}, "control.kind is a setting of constant, mmts"),
        ({"recipe": "emoji"}, "synthetic.concepts, .*: of synthetic pairs only, not of emoji"),
        ({"recipe": "emoji", "synthetic": SyntheticConfig(), "hidden": 3}, "hidden layers are of"),
    ],
)
def test_settings_that_would_change_nothing_are_refused(make_grid, tmp_path, fields, message):
    with pytest.raises(ValueError, match=message):
        train_grid(make_grid(tmp_path / "out", **fields))
    assert not (tmp_path / "out").exists()


def test_missing_data_are_refused_before_any_training(make_grid, tmp_path):
    settings = {"data.source": str(tmp_path / "nothing.jsonl"), "data.label": "label"}
    fields = {"recipe": "pairs", "mode": "train", "synthetic": SyntheticConfig()}
    grid = make_grid(tmp_path / "out", settings=settings, **fields)
    with pytest.raises(FileNotFoundError, match="nothing.jsonl"):
        train_grid(grid)
    assert not (tmp_path / "out").exists()


def test_without_the_baseline_there_is_nothing_to_compare(make_grid, tmp_path):
    for seed in (0, 1):
        place = tmp_path / "cells" / "constant" / f"default-seed{seed}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("")
    with pytest.raises(ValueError, match="no cell of the baseline constant"):
        compare(make_grid(tmp_path))


def test_a_folder_of_another_grid_is_refused_before_any_work(make_grid, tmp_path):
    train_grid(make_grid(tmp_path, controls=("constant",), seeds=(0,)))
    with pytest.raises(ValueError, match=r"another cell: config.optim.epochs: 3"):
        train_grid(make_grid(tmp_path, settings={"optim.epochs": 3.0}))
    other = make_grid(tmp_path)
    other.synthetic = type(other.synthetic)(concepts=3, pairs=99)
    with pytest.raises(ValueError, match="holds other features"):
        train_grid(other)
    assert len(train_grid(make_grid(tmp_path)).results) == 6


def test_a_cell_in_which_nothing_has_begun_is_another_ones_to_take(make_grid, tmp_path):
    fields = {"controls": ("constant",), "seeds": (0,)}
    failed = train_grid(make_grid(tmp_path, settings={"optim.batch_size": 9999}, **fields))
    assert len(failed.failures) == 1
    assert "set optim.batch_size=" in failed.failures[0].error
    path = tmp_path / "cells" / "constant" / "default-seed0"
    assert [file.name for file in path.iterdir()] == [CONFIG]
    found = train_grid(make_grid(tmp_path, **fields))
    assert not found.failures
    assert load_cell(path).config["optim"]["batch_size"] != 9999


def test_cells_of_an_earlier_version_go_on(make_grid, tmp_path, monkeypatch):
    """Their records lack a field that came later: it counts as its default."""
    grid = make_grid(tmp_path, controls=("constant",), seeds=(0,))
    whole = train_grid(grid)
    path = tmp_path / "cells" / "constant" / "default-seed0" / CONFIG
    recorded = json.loads(path.read_text())

    def store(change):
        record = json.loads(json.dumps(recorded))
        change(record["config"])
        path.write_text(json.dumps(record))

    def earlier(config):
        del config["optim"]["chunk"], config["model"]["views"], config["checkpoint"]

    store(earlier)
    monkeypatch.setattr("tauten.comparison.cell_run.train_heads", None)
    assert train_grid(grid).results == whole.results
    assert load_cell(path.parent).config["optim"].get("chunk", "lacking") == "lacking"
    monkeypatch.undo()
    recorded_result, again = rerun(path.parent, tmp_path / "again")
    assert recorded_result.metrics == again.metrics

    store(lambda config: config["model"].update(dim=9))
    with pytest.raises(ValueError, match="another cell: config.model.dim: 8, was 9"):
        train_grid(grid)
    store(lambda config: config["loss"].update(speed=3))
    with pytest.raises(ValueError, match="this version cannot repeat: infonce has no loss.speed"):
        train_grid(grid)


def test_given_features(make_grid, tmp_path, pairs):
    save(Features("mine", pairs.splits), tmp_path / "mine.npz")
    fields = {"recipe": "emoji", "synthetic": SyntheticConfig(), "controls": ("constant",)}
    grid = make_grid(tmp_path / "out", features=tmp_path / "mine.npz", **fields)
    assert grid.runner == "frozen"
    found = train_grid(grid)
    assert {cell.data for cell in found.cells.values()} == {"mine"}
    assert load(tmp_path / "out" / FEATURES).name == "mine"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"controls": ("constant", "ms")}, "unknown controls ms; there are constant, learnable"),
        ({"controls": ("mmts",)}, "baseline 'constant' is not among"),
        ({"controls": ("constant", "constant")}, "each control once"),
        ({"seeds": ()}, "seeds must be 1 or more"),
        ({"trials": 0}, "trials must be 1 or more"),
        ({"threads": 0}, "threads must be 1 or more, got 0"),
        ({"hidden": -1}, "hidden must be 0 or more, got -1"),
        ({"mode": "train"}, "mode must be frozen"),
        ({"force": "equalized", "controls": ("constant", "shape-only")}, "take the plain force"),
        ({"settings": {"optim.speed": 2}}, "no setting 'optim.speed'"),
        ({"recipe": "nothing"}, "no recipe 'nothing'"),
    ],
)
def test_bad_grids_are_refused_before_any_work(make_grid, tmp_path, fields, message):
    with pytest.raises(ValueError, match=message):
        train_grid(make_grid(tmp_path, **fields))
    assert not (tmp_path / FEATURES).exists()


def test_trials_are_the_default_and_then_draws_that_the_loss_accepts(make_grid, tmp_path):
    base = make_grid(tmp_path).base()
    for method in METHODS.values():
        if method.parts_of is None:
            drawn = trials(method, base, 5, seed=0)
            assert drawn[0] == method.default
            assert len({json.dumps(d, sort_keys=True) for d in drawn}) == 5
            assert trials(method, base, 3, seed=0) == drawn[:3]
            assert trials(method, base, 3, seed=1)[1:] != drawn[1:3]
        else:
            assert len(trials(method, base, 5, seed=0)) == 1


def test_median_stopping():
    curves = [[[1 / 3, 0.3], [2 / 3, 0.5], [1.0, 0.6]], [[1 / 3, 0.5], [2 / 3, 0.4], [1.0, 0.8]]]
    assert not Median(curves[:1])(1 / 3, 0.0)
    assert Median(curves)(1 / 3, 0.39)
    assert not Median(curves)(1 / 3, 0.41)
    rising = Median(curves)
    assert not rising(1 / 3, 0.45)
    assert rising(2 / 3, 0.49)
    assert not Median(curves)(2 / 3, 0.5)


def test_a_stopped_or_failed_trial_is_never_chosen():
    tried = [Trial("trial-0", {}, 0.2, 1.0), Trial("trial-1", {}, 0.9, 1 / 3)]
    assert best([*tried, Trial("trial-2", {}, None, 0.0, "broke")]) is tried[0]
    assert best(tried[1:]) is None


def test_the_command_fails_where_a_cell_did(tmp_path, capsys):
    broken = tmp_path / "cells" / "mmts" / "default-seed0"
    broken.parent.mkdir(parents=True)
    broken.write_text("")
    words = ["compare", "--recipe", "synthetic", "--controls", "constant,mmts", "--seeds", "1"]
    words += ["--trials", "1", "--bootstrap", "50", "--processes", "1", "--threads", "1"]
    shared = ["synthetic.concepts=8", "synthetic.pairs=120", "synthetic.queries=2"]
    shared += ["optim.epochs=1", "optim.batch_size=40", "model.dim=4"]
    words += [word for setting in shared for word in ("--set", setting)]
    assert cli.main([*words, "--output", str(tmp_path)]) == 1
    shown = capsys.readouterr()
    assert "comparison.html" in shown.out
    assert "1 trainings failed, the first is cells/mmts/default-seed0: FileExists" in shown.err
    broken.unlink()
    assert cli.main([*words, "--output", str(tmp_path)]) == 0


def test_command(tmp_path, capsys):
    words = ["compare", "--recipe", "synthetic", "--controls", "constant,mmts", "--seeds", "2"]
    words += ["--trials", "1", "--bootstrap", "50", "--processes", "1", "--threads", "1"]
    shared = ["synthetic.concepts=8", "synthetic.pairs=120", "synthetic.queries=2"]
    shared += ["optim.epochs=1", "optim.batch_size=40", "model.dim=4"]
    words += [word for setting in shared for word in ("--set", setting)]
    assert cli.main([*words, "--output", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "constant (default)" in shown
    assert "comparison.html" in shown
    cell = tmp_path / "out" / "cells" / "mmts" / "default-seed1"
    assert json.loads((cell / CONFIG).read_text())["config"]["model"]["dim"] == 4
    again = ["compare", "--rerun", str(cell), "--output", str(tmp_path / "again")]
    assert cli.main(again) == 0
    assert "the same numbers again" in capsys.readouterr().out
    assert cli.main(["compare", "--controls", "list"]) == 0
    assert "weight-only" in capsys.readouterr().out
    assert cli.main(["compare", "--set", "epochs"]) == 1
    assert "NAME=VALUE" in capsys.readouterr().err
    assert cli.main(["compare", "--set", "synthetic.size=3"]) == 1
    assert cli.main(["compare", "--seeds", "x"]) == 1


def test_one_comparison_at_a_time_in_a_folder(make_grid, tmp_path):
    grid = make_grid(tmp_path / "grid")
    with (
        Lock(grid.output),
        pytest.raises(ValueError, match="a comparison has its folder to itself"),
    ):
        train_grid(grid)
    assert list(tmp_path.iterdir()) == []


def test_a_setting_that_does_not_parse_is_named():
    with pytest.raises(ValueError, match=r"--set optim\.epochs=\[1: the value is not readable"):
        read_settings(["optim.epochs=[1"])
    assert read_settings(["optim.epochs=1.5"])[0] == {"optim.epochs": 1.5}


def test_a_metric_of_classes_needs_pairs_that_have_some(tmp_path, monkeypatch):
    monkeypatch.setattr(grids, "load_split", lambda *_: SimpleNamespace(labels=None))
    grid = SimpleNamespace(output=tmp_path, runner="train", progress=False, base=Config)
    planned = grids.Trained(cells={"cell": object()})
    with pytest.raises(ValueError, match=r"metric=class_map needs the class.*data\.label"):
        grids._check_data(grid, planned, "class_map")
    grids._check_data(grid, planned, "mean_recall")
