"""τ over a training: what is logged, and what is drawn, are the formulas of TS and MM-TS."""

import json
import re
from math import cos, pi

import numpy as np
import pytest
import yaml

from tauten.report import write
from tauten.report.collect import collect
from tauten.report.curves import rarely_logged
from tauten.report.folders import load_runs
from tauten.report.knobs import against_count, by_decile, over_time
from tauten.report.schedule import by_group, deciles, schedule
from tauten.report.settings import describe
from tauten.training import Config, specs, train

ALPHA, LOW, HIGH = 0.1, 0.15, 0.3


def short(output, **fields):
    """A few steps on a few drawings, three in an epoch."""
    config = Config(output=output, progress=False, tensorboard=False, **fields)
    config.data.limit, config.optim.batch_size = 96, 32
    config.model.channels, config.model.dim, config.model.text_width = (8,), 8, 8
    config.evaluation.every, config.evaluation.bootstrap = 4, 5
    return config


def run_mmts(output, log_every):
    """MM-TS by step: 24 steps, a period of 12."""
    config = short(output, name="mmts", log_every=log_every)
    config.control = specs.control(
        "mmts", oscillations=2.0, alpha=ALPHA, shift_low=LOW, shift_high=HIGH
    )
    config.optim.epochs, config.data.groups = 8, "thirds"
    train(config)
    return output


def run_ts(output, log_every):
    """TS by epoch: 8 epochs of 3 steps, a period of 4 epochs."""
    config = short(output, name="ts", log_every=log_every)
    config.task = "views"
    config.control = specs.control("cosine", every="epoch", low=0.1, high=1.0, oscillations=2.0)
    config.optim.epochs = 8
    config.model.grid, config.evaluation.metric, config.evaluation.probe = 2, "last", "none"
    train(config)
    return output


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("schedules")
    return {
        (name, every): make(root / f"{name}-{every}", every)
        for name, make in (("mmts", run_mmts), ("ts", run_ts))
        for every in (1, 11)
    }


def history(path):
    lines = [json.loads(line) for line in (path / "history.jsonl").open()]
    return [line for line in lines if "tau/mean" in line]


def ts(step):
    """TS, methods' formula: epochs from 1, held; steps from 0."""
    epoch = step // 3 + 1
    return 0.1 + 0.5 * (1.0 - 0.1) * (1 + cos(pi * epoch / 2))


def mmts(step, counts):
    """MM-TS: a zero-mean cosine by step and a shift that is linear in the class's count."""
    share = (counts - counts.min()) / (counts.max() - counts.min())
    return ALPHA / 2 * cos(2 * pi * step / 12) + LOW + share * (HIGH - LOW)


def test_ts_is_logged_as_its_formula_by_epoch(trained):
    lines = history(trained["ts", 1])
    assert [line["step"] for line in lines] == list(range(1, 25))
    for line in lines:
        for key in ("tau/mean", "tau/min", "tau/max"):
            assert line[key] == pytest.approx(ts(line["step"] - 1), abs=1e-6)
    told = {line["step"]: round(line["tau/mean"], 6) for line in lines}
    # epochs 1 to 5: high, low in epoch 2, back at the top in epoch 4
    assert [told[t + 1] for t in (1, 3, 5, 6, 9, 11, 12)] == [0.55, 0.1, 0.1, 0.55, 1.0, 1.0, 0.55]


def test_mmts_is_logged_as_its_formula_by_step(trained):
    with np.load(trained["mmts", 1] / "samples.npz") as stored:
        counts = stored["counts"].astype(float)
    lines = history(trained["mmts", 1])
    assert [line["step"] for line in lines] == list(range(1, 25))
    for line in lines:
        tau = mmts(line["step"] - 1, counts)
        told = [line[f"tau/{name}"] for name in ("mean", "min", "max")]
        assert told == pytest.approx([tau.mean(), tau.min(), tau.max()], abs=1e-6)
    low = min(lines, key=lambda line: line["tau/min"])
    high = max(lines, key=lambda line: line["tau/max"])
    assert (low["step"], low["tau/min"]) == (7, pytest.approx(LOW - ALPHA / 2, abs=1e-6))
    assert (high["step"], high["tau/max"]) == (1, pytest.approx(HIGH + ALPHA / 2, abs=1e-6))


@pytest.mark.parametrize("every", [1, 11])
def test_the_schedule_of_a_run_does_not_depend_on_its_log(trained, every):
    (run,) = load_runs([trained["mmts", every]])
    found = schedule(run.first)
    assert found.steps.tolist() == list(range(25))
    for t, values in zip(found.steps, found.value, strict=True):
        assert values == pytest.approx(mmts(t, found.count.astype(float)), abs=1e-6)
    counts = run.first.samples["counts"]
    assert found.samples.sum() == len(counts) == 96
    assert found.mean()[7] == pytest.approx(mmts(7, counts.astype(float)).mean())
    assert found.over_time() == pytest.approx(mmts(3, counts.astype(float)).mean())
    (run,) = load_runs([trained["ts", every]])
    found = schedule(run.first)
    assert found.value[:, 0].tolist() == pytest.approx([ts(t) for t in range(25)], abs=1e-6)


def test_groups_and_deciles_are_those_that_were_logged(trained):
    (run,) = load_runs([trained["mmts", 1]])
    found = schedule(run.first)
    groups, tenth = by_group(run.first, found), deciles(found)
    assert sum(groups.values()).tolist() == found.samples.tolist()
    for line in history(trained["mmts", 1]):
        values = found.value[list(found.steps).index(line["step"] - 1)]
        for name, samples in groups.items():
            assert values @ samples / samples.sum() == pytest.approx(line[f"tau/{name}"], abs=1e-6)
            assert values[samples > 0].max() == pytest.approx(line[f"tau/{name}/high"], abs=1e-6)
        for k in set(tenth.tolist()):
            part = np.where(tenth == k, found.samples, 0)
            assert values @ part / part.sum() == pytest.approx(line[f"tau/decile/{k}"], abs=1e-6)


def test_a_rare_log_does_not_hide_the_oscillation(trained, tmp_path):
    rare = trained["mmts", 11]
    assert [line["step"] for line in history(rare)] == [1, 11, 12, 22, 24]
    for path, notes in ((trained["mmts", 1], 0), (rare, 1)):
        numbers = collect(load_runs([path]), 20, 0)
        (panel,) = over_time(numbers)
        said = re.search(r"(?:tail|head) ([\d.]+) to ([\d.]+)", panel.note)
        assert float(said[2]) - float(said[1]) == pytest.approx(ALPHA, abs=1e-3)
        assert panel.note.endswith("Drawn from the schedule, at every step.")
        (panel,) = by_decile(numbers)
        ends = re.search(r"rarest classes ([\d.]+) to ([\d.]+)", panel.picture)
        assert float(ends[2]) - float(ends[1]) == pytest.approx(ALPHA, abs=1e-3)
        assert len(rarely_logged(numbers)) == notes
    assert rarely_logged(numbers) == [
        "mmts was logged every 10 steps, 1.2 times a period: its curves of loss, gradient and "
        "force miss the oscillation. Its temperature is drawn from the schedule."
    ]
    assert "temperature by MM-TS: 0.1 to 0.35 over time and samples" in describe(numbers.runs[0])
    assert "1.2 times a period" in write([rare], tmp_path, bootstrap=20).read_text("utf-8")


def test_a_log_that_is_not_of_the_schedule_is_drawn_as_logged(trained, tmp_path):
    import shutil

    path = tmp_path / "run"
    shutil.copytree(trained["mmts", 11], path, ignore=shutil.ignore_patterns("checkpoints"))
    record = yaml.safe_load((path / "config.yaml").read_text())
    record["config"]["control"]["alpha"] = 0.2
    (path / "config.yaml").write_text(yaml.safe_dump(record))
    numbers = collect(load_runs([path]), 20, 0)
    assert schedule(numbers.runs[0].first) is None
    (panel,) = over_time(numbers)
    assert "Drawn from the schedule" not in panel.note
    (note,) = rarely_logged(numbers)
    assert note.endswith("So does that of its temperature, which is as logged.")


def test_a_phase_by_epoch_counts_epochs_from_1(trained):
    numbers = collect(load_runs([trained["ts", 1]]), 20, 0)
    (run,) = numbers.runs
    assert (run.period, run.held) == (12, 3)
    # the value of step 24 is that of epoch 9, a quarter past the top of epoch 8
    assert "ends at 0.25 of a period past the highest point" in against_count(numbers)[0].note
    (run,) = load_runs([trained["mmts", 1]])
    assert (run.period, run.held) == (12, 1)


@pytest.mark.parametrize(
    "control",
    [{"kind": "constant"}, {"kind": "mmts", "sizes": "shuffled"}, {"kind": "unheard-of"}, "mmts"],
)
def test_what_is_no_schedule_has_none(tmp_path, tiny, control):
    lines = json.dumps({"step": 1, "tau/mean": 0.1})
    path = tiny(tmp_path / "a", config={"control": control}, **{"history.jsonl": lines})
    (run,) = load_runs([path])
    assert schedule(run.first) is None
