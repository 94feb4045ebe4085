"""The page of evidence says what its files say."""

import csv
import importlib.util
import re
import statistics
import sys
from pathlib import Path
from tempfile import gettempdir

import pytest
import torch

from tauten.comparison.methods import Method, configure
from tauten.training import Config
from tauten.training.build import build_control

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = (DOCS / "evidence.md").read_text(encoding="utf-8")
COLUMNS = ["data", "control", "force", "seed", "group", "metric", "value", "settings"]
#: a difference and its interval
QUOTED = re.compile(r"[+−]?\d+\.\d \[[+−]?\d+\.\d, [+−]?\d+\.\d\]")


def _load(name):
    path = DOCS.parent / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


tables, tried = _load("evidence_tables"), _load("evidence_settings")
NAMES = [path.stem.removesuffix("_differences") for path in DOCS.glob("evidence/*_differences.csv")]


def test_tables_are_those_of_the_files():
    assert tables.BLOCK.findall(PAGE)
    assert tables.filled(PAGE) == PAGE


def test_differences_in_the_text_are_rows_of_the_files():
    known = {
        tables.difference(row).rstrip("▲▼")
        for name in NAMES
        for row in tables.read(f"{name}_differences")
    }
    quoted = QUOTED.findall(tables.BLOCK.sub("", PAGE))
    assert len(quoted) >= 10
    assert [text for text in quoted if text not in known] == []


@pytest.mark.parametrize("name", NAMES)
def test_differences_are_those_of_the_cells(name):
    rows = tables.read(name)
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

    for row in tables.read(f"{name}_differences"):
        a, b = (of(row[side], row["group"], row["metric"]) for side in "ab")
        common = set(a) & set(b)
        assert len(common) == int(row["seeds"])
        found = statistics.fmean(a[seed] - b[seed] for seed in common)
        assert found == pytest.approx(float(row["value"]), abs=1e-9)


def test_schedules_of_a_study_have_the_mean_of_the_constant():
    counts = torch.tensor([30] * 30 + [3] * 30 + [2] * 60)
    sizes = {"classes": counts} | {str(k): counts for k in tried.CLUSTERS}
    schedules = [s for s in tried.sensitivity(sizes) if s.control == "mmts"]
    assert len(schedules) == 20
    for setting in schedules:
        found = configure(Config(), Method("mmts", "", {}), setting.settings)
        control = build_control(found, len(counts), counts, total_steps=100)
        mean = control.mean(torch.arange(len(counts)), 100)
        assert mean == pytest.approx(tried.LEVEL, abs=1e-3)


def test_every_composition_is_a_training():
    counts = torch.tensor([30] * 30 + [5] * 5)
    found = [*tried.compositions(counts), *tried.second_compositions(), *tried.probe()]
    assert len({setting.key for setting in found}) == len(found)
    for setting in found:
        configure(Config(), Method(setting.control, "", {}), setting.settings)


def test_files_hold_no_path_of_a_machine():
    for path in DOCS.glob("evidence/*.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        assert not any(cell.startswith("/") or gettempdir() in cell for cell in cells), path.name
