"""Curves at comparable phase."""

import json

import numpy as np

from tauten.report.collect import collect
from tauten.report.curves import _per_period, force_by_group, mean_history, training
from tauten.report.folders import load_runs
from tauten.report.knobs import against_count, by_decile, over_time


def test_means_over_whole_periods_cancel_an_oscillation():
    step = np.arange(1, 101)
    value = 2 + np.cos(2 * np.pi * step / 20)
    centre, mean = _per_period(step, value, 20.0)
    assert centre.tolist() == [10, 30, 50, 70, 90]
    np.testing.assert_allclose(mean, 2, atol=1e-12)


def test_a_begun_period_is_left_out_but_a_few_missing_steps_are_not():
    step = np.arange(1, 51)
    assert _per_period(step, step.astype(float), 20.0)[0].tolist() == [10, 30]
    logged = np.arange(5, 100, 5)
    assert len(_per_period(logged, logged.astype(float), 55.0)[0]) == 1
    assert len(_per_period(np.arange(1, 60), np.ones(59), 20.0)[0]) == 3


def test_history_is_averaged_over_the_steps_of_all_seeds(tmp_path, tiny):
    lines = {0: [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 3.0}, {"step": 2, "epoch": 1}]}
    lines[1] = [{"step": 2, "loss": 5.0}, {"step": 3, "loss": 9.0}]
    for seed, rows in lines.items():
        text = "\n".join(json.dumps(row) for row in rows)
        tiny(tmp_path / f"seed{seed}", seed=seed, **{"history.jsonl": text})
    (run,) = load_runs([tmp_path])
    step, value = mean_history(run, "loss")
    assert (step.tolist(), value.tolist()) == ([2], [4.0])
    assert mean_history(run, "grad_norm")[0].tolist() == []


def test_panels_of_the_control_and_their_words(runs):
    numbers = collect(load_runs(runs), bootstrap=20, seed=0)
    time = over_time(numbers)
    assert [p.title for p in time] == [
        "infonce-mmts: temperature over time",
        "maxmargin-mmts: margin over time",
    ]
    stored = numbers.run("infonce-mmts").first.samples["tau_groups"]
    assert f"head {stored[:, 0].min():.3g} to {stored[:, 0].max():.3g}" in time[0].note
    count = against_count(numbers)
    assert "at count 2 to" in count[0].picture
    assert "ends at the highest point" in count[0].note


def test_diagnostics_are_of_runs_whose_samples_differ(runs):
    numbers = collect(load_runs(runs), bootstrap=20, seed=0)
    logged = [run.first.history[0] for run in numbers.runs]
    assert all({"tau/decile/9", "force/attraction/tail"} <= set(line) for line in logged)
    deciles, force = by_decile(numbers), force_by_group(numbers)
    assert [p.title for p in deciles] == [
        "infonce-mmts: temperature by class count",
        "maxmargin-mmts: margin by class count",
    ]
    assert "Rank correlation of margin and class count at step 60: 1.00." in deciles[1].note
    assert all(f"var(--decile{k})" in deciles[0].picture for k in range(10))
    assert [p.title for p in force] == [
        "infonce-mmts: force on head, mid, tail",
        "maxmargin-mmts: force on head, mid, tail",
    ]


def write_history(path, lines):
    (path / "history.jsonl").write_text("\n".join(json.dumps(line) for line in lines))


def test_deciles_and_groups_that_were_not_logged_are_left_out(tmp_path, tiny):
    for seed, shift in ((0, 0.0), (1, 0.2)):
        path = tiny(tmp_path / f"seed{seed}", control="mmts", seed=seed)
        line = {"tau/decile/2": 0.1 + shift, "tau/decile/7": 0.05, "force/attraction/tail": 3.0}
        line |= {"force/repulsion/tail": 4.0, "tau/spearman": -0.9 + shift}
        write_history(path, [{"step": 1} | line, {"step": 2} | line])
    numbers = collect(load_runs([tmp_path]), 20, 0)
    (panel,) = by_decile(numbers)
    assert "rarest classes 0.2 to 0.2, most frequent classes 0.05 to 0.05" in panel.picture
    assert panel.note.endswith("class count at step 2: −0.80.")
    assert panel.picture.count("var(--decile") == panel.picture.count("var(--decile2)") + (
        panel.picture.count("var(--decile7)")
    )
    (panel,) = force_by_group(numbers)
    assert panel.title == "a: force on tail"
    assert "repulsion of tail from 4 to 4" in panel.picture
    assert "var(--head)" not in panel.picture


def test_a_temperature_of_the_same_value_for_all_has_no_diagnostics(tmp_path, tiny):
    path = tiny(tmp_path / "a", control="cosine")
    line = {f"tau/decile/{k}": 0.1 for k in range(10)} | {"force/attraction/tail": 3.0}
    write_history(path, [{"step": 1, "force/repulsion/tail": 4.0} | line])
    numbers = collect(load_runs([path]), 20, 0)
    assert by_decile(numbers) == force_by_group(numbers) == []


def test_values_of_batches_only_are_not_drawn_against_count(tmp_path, tiny):
    path = tiny(tmp_path / "a", control="mmts")
    np.savez(path / "samples.npz", counts=np.array([3, 1]), tau_final=np.zeros(0))
    assert against_count(collect(load_runs([path]), 20, 0)) == []


def test_run_without_groups_shows_its_mean(tmp_path, tiny):
    path = tiny(tmp_path / "a", control="mmts")
    np.savez(
        path / "samples.npz",
        counts=np.zeros(0),
        tau_steps=np.arange(5),
        tau_groups=np.zeros((5, 0)),
        tau_low=np.zeros((5, 0)),
        tau_high=np.zeros((5, 0)),
        tau_mean=np.linspace(0.1, 0.3, 5),
        tau_group_names=np.array([], dtype=str),
        tau_final=np.full(7, 0.3),
    )
    numbers = collect(load_runs([path]), 20, 0)
    (panel,) = over_time(numbers)
    assert "all 0.1 to 0.3" in panel.note
    assert against_count(numbers) == []


def test_quantity_that_no_run_logged_gives_no_panel(runs):
    numbers = collect(load_runs(runs[:1]), bootstrap=20, seed=0)
    assert training(numbers, "nothing", "nothing", "") == []
    assert len(training(numbers, "loss", "loss", "loss")) == 1
