"""The watch over measured ratios: what it calls worse, and what is recorded."""

import importlib
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def bench():
    before = set(sys.modules)
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module("bench")
    finally:
        sys.path.remove(str(BENCHMARKS))
        for name in set(sys.modules) - before:
            if str(BENCHMARKS) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]


def test_every_figure_is_recorded(bench):
    assert set(bench.read(bench.RECORDED)) == set(bench.figures())


@pytest.mark.parametrize(
    ("rounds", "word"),
    [
        ([1.0, 1.1, 0.95], ""),
        ([1.35, 1.19, 1.4], ""),
        ([1.35, 1.25, 1.4], "WORSE"),
        ([0.79, 0.7, 0.81], ""),
        ([0.79, 0.7, 0.75], "better"),
    ],
)
def test_a_figure_beyond_the_noise_is_marked(bench, rounds, word):
    assert bench.verdict(rounds, bench.Recorded(1.0, 0.1)) == word


def test_what_was_never_recorded_is_new(bench):
    assert bench.verdict([3.0], None) == "new"


def test_a_record_leaves_figures_that_were_not_measured(bench, tmp_path):
    path = tmp_path / "recorded.json"
    bench.write(path, {"a / b": [1.0, 1.25, 2.0], "c / d": [0.5]})
    bench.write(path, {"c / d": [0.75]})
    assert bench.read(path) == {"a / b": (1.25, 1.0), "c / d": (0.75, 0.0)}


@pytest.mark.parametrize(("now", "status"), [(1.0, 0), (9.0, 1)])
def test_the_command_fails_where_something_is_worse(
    bench, monkeypatch, tmp_path, capsys, now, status
):
    path = tmp_path / "recorded.json"
    bench.write(path, {"a / b": [1.0], "other": [1.0]})
    monkeypatch.setattr(bench, "RECORDED", path)
    monkeypatch.setattr(bench, "figures", lambda: {"a / b": lambda: now, "other": lambda: 1.0})
    monkeypatch.setattr(sys, "argv", ["bench.py", "--only", "a"])
    assert bench.main() == status
    printed = capsys.readouterr().out
    assert "a / b" in printed
    assert "other" not in printed
    assert ("WORSE" in printed) == bool(status)
