"""The pages of evidence say what their files say."""

import csv
import json
import re
import statistics
from pathlib import Path
from tempfile import gettempdir

import pytest
import torch

from by_path import load
from tauten import recipes
from tauten.comparison.methods import Method, configure
from tauten.training import Config
from tauten.training.build import build_control

DOCS = Path(__file__).resolve().parents[1] / "docs"
COLUMNS = ["data", "control", "force", "seed", "group", "metric", "value", "settings"]
#: a difference and its interval
QUOTED = re.compile(r"[+−]?\d+\.\d \[[+−]?\d+\.\d, [+−]?\d+\.\d\]")


def _load(name):
    return load(DOCS.parent / "benchmarks" / f"{name}.py", name)


# each before those that import it
MODULES = ("read", "sets", "tables", "grids", "settings", "forces", "figures")
read, _, tables, _, tried, forces, figures = (_load(f"evidence_{name}") for name in MODULES)
PAGES = {name: (DOCS / f"{name}.md").read_text(encoding="utf-8") for name in tables.PAGES}
NAMES = [path.stem.removesuffix("_differences") for path in DOCS.glob("evidence/*_differences.csv")]


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_tables_are_those_of_the_files(page):
    assert tables.BLOCK.findall(page)
    assert tables.filled(page) == page


def test_every_table_is_on_a_page():
    shown = {match[1] for page in PAGES.values() for match in tables.BLOCK.findall(page)}
    assert shown == set(tables.TABLES)


def test_differences_in_the_text_are_rows_of_the_files():
    known = {
        read.difference(row).rstrip("▲▼")
        for name in NAMES
        for row in read.read(f"{name}_differences")
    }
    quoted = [
        text for page in PAGES.values() for text in QUOTED.findall(tables.BLOCK.sub("", page))
    ]
    assert len(quoted) >= 5
    assert [text for text in quoted if text not in known] == []


@pytest.mark.parametrize("name", NAMES)
def test_differences_are_those_of_the_cells(name):
    rows = read.read(name)
    assert list(rows[0])[: len(COLUMNS)] == COLUMNS
    form = "{control} ({setting})" if name.startswith("compare") else "{control} {setting}"
    values = {}
    for row in rows:
        key = form.format(**row), row["group"], row["metric"]
        values.setdefault(key, {})[int(row["seed"])] = float(row["value"])

    def of(variant, group, metric):
        """Cells; where tuning chose the default setting, "tuned" has those of the default."""
        found = values.get((variant, group, metric))
        return found or values[variant.replace("(tuned)", "(default)"), group, metric]

    for row in read.read(f"{name}_differences"):
        a, b = (of(row[side], row["group"], row["metric"]) for side in "ab")
        common = set(a) & set(b)
        assert len(common) == int(row["seeds"])
        found = statistics.fmean(a[seed] - b[seed] for seed in common)
        assert found == pytest.approx(float(row["value"]), abs=1e-9)


@pytest.mark.parametrize("study", read.STUDIES)
def test_the_chosen_settings_are_the_best_on_validation(study):
    searched = [
        row
        for row in read.read(f"{study}_search")
        if (row["split"], row["group"]) == ("val", "all")
    ]
    found = read.metrics_of(study)
    metrics = {"instances": found[:1], "classes": found[1:], "both": found}
    if "mean_recall" not in found:
        metrics = {"classes": found[1:]}
    chosen = read.read(f"{study}_chosen")
    assert {row["target"] for row in chosen} == set(metrics)
    assert {row["rule"] for row in chosen} == {row["rule"] for row in searched}
    for row in chosen:
        own = {
            s["setting"]: sum(float(s[metric]) for metric in metrics[row["target"]])
            for s in searched
            if s["rule"] == row["rule"]
        }
        assert own[row["setting"]] == max(own.values())


def test_the_parts_of_a_shift_have_its_mean():
    labels = [str(k) for k in range(30) for _ in range(k + 1)]
    counts = torch.tensor([labels.count(label) for label in labels])
    means = {}
    for setting in tried.causes():
        found = configure(Config(), Method(setting.rule, "", {}), setting.settings)
        control = build_control(found, len(counts), counts, total_steps=100, labels=labels)
        means[setting.key] = control.mean(torch.arange(len(counts)), 100)
    assert len(means) == 7
    for mean in means.values():
        assert mean == pytest.approx(means["part mean"], rel=1e-5)


def test_the_recipe_for_both_is_what_was_chosen():
    (row,) = (
        row
        for row in read.read("study_chosen")
        if (row["rule"], row["target"]) == ("MM-TS reversed", "both")
    )
    recipe = recipes.get("emoji_infonce_reversed")()
    base = recipes.get("emoji_infonce_constant")()
    chosen = configure(base, Method(row["rule"], "", {}), json.loads(row["settings"]))
    assert (recipe.control, recipe.loss) == (chosen.control, chosen.loss)
    assert (recipe.optim, recipe.model, recipe.data) == (chosen.optim, chosen.model, chosen.data)


def test_every_setting_is_a_training():
    sets = (tried.searched, tried.searched_on_icons, tried.searched_on_clips)
    found = [s for make in (*sets, tried.searched_on_views, tried.causes) for s in make()]
    settings = {}
    for setting in found:
        assert settings.setdefault(setting.key, setting.settings) == setting.settings
        config = configure(Config(), Method(setting.rule, "", {}), setting.settings)
        if config.control.kind == "mmts":
            # sizes that fall like those of emoji_lt: 518 to 2
            labels = [str(k) for k in range(60) for _ in range(max(2, 518 // (k + 1)))]
            counts = torch.tensor([labels.count(label) for label in labels])
            control = build_control(config, len(counts), counts, total_steps=100, labels=labels)
            assert control.range()[0] > 0, setting.key


@pytest.mark.parametrize("study", read.STUDIES)
def test_the_trade_off_has_a_point_for_each_training(study):
    panels = figures.panels(study)
    drawing = figures.trade_off(panels, figures.axes_of(study))
    trained = {(row["rule"], row["setting"]) for row in read.read(f"{study}_search")}
    for axes, (title, points) in zip(drawing.axes, panels.items(), strict=True):
        assert axes.get_title() == title
        assert {point[:2] for point in points} == trained
        drawn = {tuple(at) for line in axes.get_lines() for at in line.get_xydata().tolist()}
        assert drawn == {at for _, _, at in points}


def test_a_trade_off_shows_test_queries():
    row = next(
        row
        for row in read.read("study_search")
        if (row["split"], row["group"], row["setting"]) == ("test", "tail", "0.085")
    )
    at = tuple(100 * float(row[name]) for name in ("mean_recall", "class_map"))
    assert ("constant", "0.085", at) in figures.panels("study")["tail"]


@pytest.mark.parametrize("study", read.STUDIES)
def test_the_sets_beside_each_other_are_those_of_each_alone(study):
    title = read.SETS[study]
    for name, target, place in (("pairs", "instances", 0), ("classes", "classes", 1)):
        metric = read.metrics_of(study)[place]
        own = {
            read.rule_of(row["a"]): read.difference(row)
            for row in read.own_family(study, target, metric)
            if row["group"] == "all"
        }
        header, _, *lines = tables.TABLES[f"sets-{name}"]().splitlines()
        columns = [cell.strip() for cell in header.split("|")]
        if not own:
            assert title not in header
            continue
        place_of = next(k for k, cell in enumerate(columns) if cell.startswith(f"{title} − "))
        cells = [[cell.strip() for cell in line.split("|")] for line in lines]
        assert {row[1]: row[place_of] for row in cells if row[place_of] != "–"} == own


@pytest.mark.parametrize("rule", ["constant 0.085", "MM-TS", "shape only", "weight only"])
def test_the_forces_are_those_of_the_loss(rule):
    x, y = forces.drawn()
    rare, dense, mean = forces.WIDE
    control = torch.full((len(x),), 0.085, dtype=x.dtype)
    if rule != "constant 0.085":
        control[:] = rare
        control[: forces.MATES] = dense
    sim = (x @ y.T).requires_grad_()
    tau = mean if rule == "weight only" else control[:, None]
    loss = torch.nn.functional.cross_entropy(sim / tau, torch.arange(len(x)), reduction="none")
    weight = {"shape only": control / mean, "weight only": mean / control}.get(rule, 1)
    (force,) = torch.autograd.grad((weight * loss).sum(), sim)
    found = forces.totals()[rule]
    for side, part in forces.ANCHORS.items():
        pushed = force[part].clamp(min=0).sum(1).mean()
        assert sum(found[side][1:]) == pytest.approx(float(pushed), rel=1e-9)


def test_where_the_formula_pushes_less_on_the_own_class_it_keeps_together():
    pushed = {rule: found["dense"][1] for rule, found in forces.totals().items()}
    kept = forces.measured()
    assert set(kept) == set(pushed)
    ranks = [{rule: k for k, rule in enumerate(sorted(own, key=own.get))} for own in (pushed, kept)]
    mean = (len(kept) - 1) / 2
    both = sum((ranks[0][rule] - mean) * (ranks[1][rule] - mean) for rule in kept)
    alone = sum((k - mean) ** 2 for k in range(len(kept)))
    assert f"rank correlation {both / alone:.2f}".replace("-", "−") in PAGES["evidence"]


def test_the_mirror_images_are_those_of_the_control():
    labels = [str(k) for k in range(30) for _ in range(k + 1)]
    counts = torch.tensor([labels.count(label) for label in labels])
    setting = next(s for s in tried.schedules() if s.key == "MM-TS reversed 0.089 to 0.485 plain")
    config = configure(Config(), Method(setting.rule, "", {}), setting.settings)
    control = build_control(config, len(counts), counts, total_steps=100, labels=labels)
    rare, dense, _ = forces.REVERSED
    found = [control.mean(torch.tensor([place]), 100) for place in (0, len(counts) - 1)]
    # the product of both ends is that of the true shift, up to the factor that keeps the mean
    assert found[0] / found[1] == pytest.approx(rare / dense, rel=0.02)
    assert found[0] / found[1] == pytest.approx(0.485 / 0.089, rel=1e-5)


def test_files_hold_no_path_of_a_machine():
    for path in DOCS.glob("evidence/*.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        assert not any(cell.startswith("/") or gettempdir() in cell for cell in cells), path.name
