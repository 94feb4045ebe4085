import dataclasses
import importlib
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tauten import NonFiniteLossError
from tauten.losses import batch as batches
from tauten.relations import agreement
from tauten.training import Config, from_dict, load_result, specs, train
from tauten.training.build import build_control, build_loss
from tauten.training.loop.trainer import ContrastiveTrainer
from tauten.training.run.run_folder import RunFolder
from tauten.training.stores.classes import with_classes
from tauten.training.stores.splits import load_splits
from tauten.training.tasks.module import ContrastiveModule
from tauten.training.tasks.results import samples
from tauten.training.tasks.selectable import selectable


def test_run_folder(finished_run):
    names = {path.name for path in finished_run.output.iterdir()}
    assert names == {
        "config.yaml", "history.jsonl", "results.json", "samples.npz", "outcome.npz",
        "embeddings.npz", "test_images.npz", "checkpoints", "tensorboard",
    }  # fmt: skip
    results = json.loads((finished_run.output / "results.json").read_text())
    assert set(results["protocol"]) == {
        "data", "retrieval", "ties", "selection", "intervals", "groups", "class",
    }  # fmt: skip
    assert {"x2y/hit@1", "y2x/hit@1/low", "geometry/alignment"} <= set(results["test"])
    assert load_result(finished_run.output) == finished_run


def test_history_has_losses_tau_and_validation(finished_run):
    lines = [json.loads(line) for line in (finished_run.output / "history.jsonl").open()]
    training = [line for line in lines if "loss" in line]
    assert [line["step"] for line in training] == [1, 2, 3, 4, 6]
    assert {"grad_norm", "learning_rate", "tau/mean", "tau/min", "tau/max", "epoch"} <= set(
        training[0]
    )
    assert all(line["tau/min"] <= line["tau/mean"] <= line["tau/max"] for line in training)
    assert [line["step"] for line in lines if "val/x2y/hit@1" in line] == [3, 6]


def test_history_has_tau_by_decile_and_forces_by_group(finished_run):
    lines = [json.loads(line) for line in (finished_run.output / "history.jsonl").open()]
    for line in lines:
        if "loss" not in line:
            assert not [key for key in line if key.startswith(("tau/", "force/"))]
            continue
        deciles = [value for key, value in line.items() if key.startswith("tau/decile/")]
        assert 3 < len(deciles) <= 10
        assert deciles == sorted(deciles)
        assert line["tau/spearman"] == pytest.approx(1)
        for kind in ("attraction", "repulsion"):
            assert line[f"force/{kind}/tail"] > 0


@pytest.mark.parametrize("family", ["infonce", "sogclr", "isogclr"])
def test_looking_at_forces_changes_nothing(tmp_path, make_config, monkeypatch, family):
    found = []
    for name in ("seen", "unseen"):
        config = make_config(tmp_path / name, family=family, optim__epochs=1, log_every=1)
        if family == "infonce":
            config.loss.force, config.control = "equalized", specs.control("mmts")
        else:
            config.control.value = 0.1
        if name == "unseen":
            monkeypatch.setattr(ContrastiveModule, "forces", lambda self, groups: {})
        run = train(config)
        found.append(load_file(run.output / "checkpoints" / "checkpoint-3" / "model.safetensors"))
    seen, unseen = found
    assert seen.keys() == unseen.keys()
    assert all(torch.equal(seen[key], unseen[key]) for key in seen)


def test_tensorboard_shows_the_same(finished_run):
    events = EventAccumulator(str(finished_run.output / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4, 6]
    assert [event.step for event in events.Scalars("val/mean_recall")] == [3, 6]


def test_best_is_by_validation(finished_run):
    lines = [json.loads(line) for line in (finished_run.output / "history.jsonl").open()]
    key = "val/mean_recall"
    scores = {line["step"]: line[key] for line in lines if key in line}
    assert finished_run.best_step == max(scores, key=lambda step: (scores[step], -step))
    assert finished_run.val["mean_recall"] == pytest.approx(scores[finished_run.best_step])


def test_samples(finished_run):
    with np.load(finished_run.output / "samples.npz") as found:
        assert found["counts"].shape == found["tau_final"].shape == (96,)
        assert found["label_counts"].sum() == 96
        assert found["tau_groups"].shape == (5, len(found["tau_group_names"]))
        assert (found["tau_low"] <= found["tau_groups"] + 1e-6).all()
        assert found["tau_steps"].tolist() == [1, 2, 3, 4, 6]
        # at the last step a whole number of periods is over: the cosine is at its top
        shift = found["tau_final"] - 0.02
        order = np.argsort(found["counts"])
        assert (np.diff(shift[order]) >= -1e-6).all()
        assert shift.min() == pytest.approx(0.05, abs=1e-5)


def test_embeddings(finished_run):
    with np.load(finished_run.output / "embeddings.npz") as found:
        assert found["x"].shape == (96, 8)
        np.testing.assert_allclose(np.linalg.norm(found["y"], axis=1), 1, atol=1e-5)
        score = found["x"] @ found["y"].T
        right = score[np.arange(96), found["y_of_x"]]
        ranks = (score >= right[:, None]).sum(1)
        assert (ranks <= 10).mean() == pytest.approx(finished_run.test["x2y/hit@10"], abs=0.02)


def test_a_finished_run_is_not_trained_again(finished_run, monkeypatch):
    monkeypatch.setattr(ContrastiveTrainer, "train", None)
    record = (finished_run.output / "config.yaml").read_bytes()
    again = train(RunFolder(finished_run.output).config())
    assert again == finished_run
    assert (finished_run.output / "config.yaml").read_bytes() == record


def test_equal_seeds_give_equal_weights_and_others_not(tmp_path, make_config):
    weights = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run = train(make_config(tmp_path / name, seed=seed, optim__epochs=1))
        weights.append(load_file(run.output / "checkpoints" / "best" / "model.safetensors"))
    key = "encoder.image_projection.weight"
    assert torch.equal(weights[0][key], weights[1][key])
    assert not torch.equal(weights[0][key], weights[2][key])


def test_torchs_settings_are_restored(tmp_path, make_config):
    before = torch.are_deterministic_algorithms_enabled()
    train(make_config(tmp_path / "run", optim__epochs=1))
    assert torch.are_deterministic_algorithms_enabled() == before


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        ("infonce", "learnable"),
        ("siglip", "learnable"),
        ("maxmargin", "anneal"),
        ("dcl", "anneal"),
        ("dclw", "anneal"),
        ("nuclr", "anneal"),
        ("fastclip", "learnable"),
        ("sogclr", "tempnet"),
    ],
)
def test_every_loss_trains(tmp_path, make_config, family, kind):
    config = make_config(tmp_path / "run", family=family, control__kind=kind)
    config.optim.loss_lr = 0.05
    if hasattr(config.control, "value"):
        config.control.value = 0.1
    run = train(config)
    lines = [json.loads(line) for line in (run.output / "history.jsonl").open()]
    assert lines[-1]["step"] == run.total_steps == 6
    tau = [line["tau/mean"] for line in lines if "tau/mean" in line]
    assert tau[-1] != pytest.approx(tau[0])


def test_loss_parameters_have_no_weight_decay_and_their_own_rate(tmp_path, make_config):
    config = make_config(tmp_path / "run", control__kind="learnable", optim__loss_lr=0.5)
    groups = []
    original = ContrastiveTrainer.create_optimizer

    def spy(self, model=None):
        made = original(self, model)
        groups.extend(dict(group) for group in made.param_groups)
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ContrastiveTrainer, "create_optimizer", spy)
        train(config)
    loss = groups[2]
    assert [tuple(p.shape) for p in loss["params"]] == [(1,)]
    assert (loss["weight_decay"], loss["initial_lr"] if "initial_lr" in loss else loss["lr"]) == (
        0.0,
        0.5,
    )


def test_duplicates_are_masked_and_index_is_given(tmp_path, make_config, monkeypatch):
    seen = []
    original = ContrastiveModule.forward

    def spy(self, images, texts, index, same):
        seen.append((index.clone(), same))
        return original(self, images, texts, index, same)

    monkeypatch.setattr(ContrastiveModule, "forward", spy)
    config = make_config(tmp_path / "run", data__limit=None, data__image_size=16, model__grid=2)
    config.optim.epochs, config.optim.batch_size = 0.1, 1024
    config.optim.epochs = 1 / 3
    train(config)
    index, (image_ids, caption_ids) = seen[0]
    assert len(index.unique()) == 1024
    assert int(index.max()) < 3812
    assert len(caption_ids.unique()) < 1024
    assert len(image_ids.unique()) <= 1024


@pytest.mark.parametrize(("family", "kind"), [("infonce", "mmts"), ("isogclr", "individual")])
def test_ids_that_are_looked_at_give_the_weights_of_the_mask(
    tmp_path, make_config, monkeypatch, family, kind
):
    """Batches of few rows that agree in a caption, and some of none."""
    weights, steps, counts, usual = [], [], [], batches.reduce_both

    def counted(*args, out=None, **kwargs):
        steps.append(0 if out is None else len(out))
        return usual(*args, out=out, **kwargs)

    monkeypatch.setattr(batches, "reduce_both", counted)
    for name in ("looked at", "masked"):
        config = make_config(tmp_path / name, family=family, control__kind=kind, log_every=1000)
        config.data.limit, config.data.image_size, config.model.grid = 512, 16, 2
        config.optim.epochs = 1
        with monkeypatch.context() as patched:
            if name == "masked":
                patched.setattr(agreement, "_agreeing", lambda ids: None)
            run = train(config)
        counts.append(len(steps))
        weights.append(load_file(run.output / "checkpoints" / "best" / "model.safetensors"))
    assert steps.count(0) > 0
    assert max(steps) > 0
    assert counts[0] == counts[1] >= run.total_steps
    torch.testing.assert_close(*weights, rtol=1e-3, atol=1e-4)


def test_gradient_accumulation_steps_the_control_once(tmp_path, make_config):
    config = make_config(tmp_path / "run", optim__accumulation=3, control__kind="mmts")
    run = train(config)
    assert run.total_steps == 2
    saved = load_file(run.output / "checkpoints" / "checkpoint-2" / "model.safetensors")
    assert int(saved["loss_fn._step"]) == 2


def test_the_matched_constant_is_the_mean_of_the_schedule():
    counts = torch.tensor([1, 1, 9, 30])
    config = Config()
    config.control = specs.control("mmts", oscillations=1.3)
    schedule = build_control(config, 4, counts, 50)
    config.control = specs.control("matched", oscillations=1.3)
    matched = build_control(config, 4, counts, 50)
    every = torch.stack([schedule.at(torch.arange(4), step) for step in range(50)])
    assert float(matched.at(torch.tensor([0]))) == pytest.approx(float(every.mean()), abs=1e-6)


# ---- errors


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_nan_stops_with_step_indices_and_tau(tmp_path, make_config, monkeypatch, where):
    calls = [0]
    original = ContrastiveModule.forward

    def poisoned(self, *args, **kwargs):
        calls[0] += 1
        if calls[0] == 6:
            weight = self.encoder.image_projection.weight
            if where == "loss":
                weight.data.fill_(float("nan"))
            else:
                weight.register_hook(lambda grad: grad * float("inf"))
        return original(self, *args, **kwargs)

    monkeypatch.setattr(ContrastiveModule, "forward", poisoned)
    output = tmp_path / "run"
    config = make_config(output, control__kind="mmts")
    reason = "image tower returned NaN" if where == "loss" else "gradient is NaN or infinite in 1"
    with pytest.raises(NonFiniteLossError, match=f"stopped at step 5: .*{reason}") as caught:
        train(config)
    assert "temperature in [0.0" in str(caught.value)
    assert "last good checkpoint: checkpoint-3" in str(caught.value)
    report = json.loads((output / "failure.json").read_text())
    assert (report["step"], len(report["index"])) == (5, 32)
    assert report["last_good_checkpoint"] == "checkpoint-3"
    saved = load_file(output / "checkpoints" / "checkpoint-3" / "model.safetensors")
    assert all(value.isfinite().all() for value in saved.values())
    # and the run goes on from there once the cause is gone
    monkeypatch.setattr(ContrastiveModule, "forward", original)
    assert train(config).total_steps == 6
    assert not (output / "failure.json").exists()


def test_nan_before_any_temperature_is_known(tmp_path, make_config, monkeypatch):
    original = ContrastiveModule.forward

    def poisoned(self, *args, **kwargs):
        self.encoder.image_projection.weight.data.fill_(float("nan"))
        return original(self, *args, **kwargs)

    monkeypatch.setattr(ContrastiveModule, "forward", poisoned)
    config = make_config(tmp_path / "run", family="sogclr", control__kind="tempnet")
    with pytest.raises(NonFiniteLossError, match="stopped at step 0: .*temperature not known yet"):
        train(config)
    report = json.loads((tmp_path / "run" / "failure.json").read_text())
    assert report["temperature_range"] is None


def test_a_group_that_a_batch_lacks_has_no_temperature_at_that_step(tmp_path):
    folder = RunFolder(tmp_path)
    rows = [{"head": 0.1}, {"head": 0.2, "tail": 0.3}]
    for step, row in enumerate(rows):
        groups = {f"tau/{name}{end}": v for name, v in row.items() for end in ("", "/low", "/high")}
        folder.history.append({"step": step, "tau/mean": 0.2} | groups)
    probe = SimpleNamespace(values=lambda: torch.zeros(0))
    found = samples(folder, SimpleNamespace(labels=None), None, probe)
    assert found["tau_group_names"].tolist() == ["head", "tail"]
    expected = np.array([[0.1, np.nan], [0.2, 0.3]], np.float32)
    np.testing.assert_array_equal(found["tau_groups"], expected)
    np.testing.assert_array_equal(found["tau_low"], expected)


def test_mmts_needs_classes():
    config = Config()
    config.control = specs.control("mmts")
    with pytest.raises(ValueError, match="control.kind=mmts needs to know how dense"):
        build_loss(config, 4, None, 10)


def test_a_batch_larger_than_the_data(tmp_path, make_config):
    with pytest.raises(
        ValueError, match="96 samples, fewer than a batch of 97: set optim.batch_size=96 or less"
    ):
        train(make_config(tmp_path / "run", optim__batch_size=97))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("metric", ["accuracy", "x2y/mean_rank", "y2x/median_rank/tail", "x2y/n"])
def test_a_metric_that_cannot_choose_is_refused_before_training(tmp_path, make_config, metric):
    with pytest.raises(ValueError, match=f"evaluation.metric='{metric}' is none .* y2x/mAP/tail"):
        train(make_config(tmp_path / "run", evaluation__metric=metric))
    assert not (tmp_path / "run").exists()


def test_metrics_that_may_choose_are_those_of_the_validation(finished_run, make_config):
    config = make_config(finished_run.output)
    splits, classes = with_classes(load_splits(config.data, progress=False), config.data)
    known = selectable(splits["val"], classes)
    assert {name for name in finished_run.val if "/low" not in name and "/high" not in name} >= {
        *known
    }
    assert {"mean_recall", "x2y/hit@10/tail", "y2x/mAP", "class_map", "class_map/tail"} <= set(
        known
    )
    assert not any("n_without" in name or "rank" in name for name in known)
    few = dataclasses.replace(splits["val"], labels=["a", *"b" * (len(splits["val"]) - 1)])
    assert "class/x2x/mAP/b" not in selectable(few, classes)


def test_class_level_of_a_split(finished_run):
    with np.load(finished_run.output / "embeddings.npz") as kept:
        x, y, own = (kept[name] for name in ("x", "y", "y_of_x"))
        labels, groups = kept["label_of_x"].tolist(), kept["group_of_x"].tolist()
    own = [[int(j) for j in np.atleast_1d(row) if j >= 0] for row in own]
    of_y = [next(labels[i] for i in range(len(x)) if j in own[i]) for j in range(len(y))]
    means = []
    for way in ("x2y", "y2x", "x2x", "y2y"):
        queries, candidates = ({"x": (x, labels), "y": (y, of_y)}[side] for side in way.split("2"))
        every = []
        for i, row in enumerate(queries[0].astype(np.float64) @ candidates[0].T):
            columns = [j for j in range(len(row)) if way[0] != way[-1] or i != j]
            alike = [candidates[1][j] == queries[1][i] for j in range(len(row))]
            bars = row - 8 * np.finfo(np.float32).eps * np.array(alike)
            order = sorted(columns, key=lambda j: (-bars[j], alike[j]))
            places = [r for r, j in enumerate(order, 1) if alike[j]]
            if places:
                every.append(np.mean([n / r for n, r in enumerate(places, 1)]))
        means.append(np.mean(every))
        assert finished_run.test[f"class/{way}/mAP"] == pytest.approx(means[-1], abs=1e-4)
        assert finished_run.test[f"class/{way}/n"] == len(every)
    assert finished_run.test["class_map"] == pytest.approx(np.mean(means), abs=1e-4)
    assert {f"class/x2y/mAP/{group}/low" for group in groups} <= set(finished_run.test)


def test_the_best_checkpoint_by_class(tmp_path, make_config):
    result = train(make_config(tmp_path / "run", evaluation__metric="class_map"))
    lines = [json.loads(line) for line in (tmp_path / "run/history.jsonl").open()]
    scores = {line["step"]: line["val/class_map"] for line in lines if "val/class_map" in line}
    assert result.val["class_map"] == pytest.approx(max(scores.values()))
    told = json.loads((tmp_path / "run/results.json").read_text())["protocol"]
    assert "highest class_map" in told["selection"]
    assert "the query itself is no candidate" in told["class"]


def test_a_tau_that_can_reach_zero(tmp_path, make_config):
    config = make_config(tmp_path / "run", control__kind="mmts", control__alpha=0.2)
    with pytest.raises(ValueError, match="shift low > alpha / 2"):
        train(config)
    assert not (tmp_path / "run").exists()


def test_resume_refuses_another_configuration(finished_run):
    config = RunFolder(finished_run.output).config()
    config.optim.lr, config.seed = 0.5, 9
    with pytest.raises(ValueError, match=r"optim.lr: 0.5, was 0.002; seed: 9, was 0"):
        train(config)


def test_resume_refuses_another_data_set(tmp_path, make_config):
    config = make_config(tmp_path / "run")
    RunFolder(config.output).prepare(config, {"train": "aaaa", "val": "b", "test": "c"}, {})
    with pytest.raises(ValueError, match="another data set: the train split has fingerprint"):
        train(config)


def test_a_foreign_folder_is_refused_and_never_cleared(tmp_path, make_config):
    output = tmp_path / "precious"
    output.mkdir()
    (output / "thesis.tex").write_text("all my work")
    with pytest.raises(ValueError, match=r"not empty and holds no run of tauten \(thesis.tex\)"):
        train(make_config(output))
    (output / "results.json").write_text("their results")
    with pytest.raises(ValueError, match=r"holds no run of tauten \(results.json\)"):
        train(make_config(output, overwrite=True))
    (output / "results.json").unlink()
    train(make_config(output, overwrite=True, optim__epochs=1))
    assert (output / "thesis.tex").read_text() == "all my work"


def test_overwrite_starts_anew_and_keeps_foreign_files(tmp_path, make_config):
    output = tmp_path / "run"
    first = train(make_config(output, optim__epochs=1))
    (output / "notes.txt").write_text("mine")
    second = train(make_config(output, optim__epochs=2, overwrite=True))
    assert (first.total_steps, second.total_steps) == (3, 6)
    assert (output / "notes.txt").read_text() == "mine"
    steps = [json.loads(line)["step"] for line in (output / "history.jsonl").open()]
    assert steps == sorted(steps)


def test_output_is_a_file(tmp_path, make_config):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file, not a folder"):
        train(make_config(tmp_path / "file"))


def test_a_config_that_is_not_ours(tmp_path, make_config):
    output = tmp_path / "run"
    output.mkdir()
    (output / "config.yaml").write_text("lr: 3")
    with pytest.raises(ValueError, match="was not written by tauten"):
        train(make_config(output))
    (output / "config.yaml").write_text("{:")
    with pytest.raises(ValueError, match="is not valid YAML"):
        train(make_config(output, overwrite=True))


def test_no_result_yet(tmp_path):
    with pytest.raises(ValueError, match="has not finished"):
        load_result(tmp_path)


def test_the_saved_configuration_is_the_resolved_one(finished_run):
    import yaml

    record = yaml.safe_load((finished_run.output / "config.yaml").read_text())
    assert set(record["data"]) == {"train", "val", "test"}
    assert {"torch", "python", "threads"} <= set(record["versions"])
    assert from_dict(record["config"]).control.kind == "mmts"


def test_output_and_towers_are_checked_before_any_work(tmp_path, make_config):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="not empty and holds no run of tauten"):
        train(make_config(tmp_path, data__source="/missing"))
    small = make_config(tmp_path / "run", data__image_size=16, model__channels=(8, 8, 8, 8))
    with pytest.raises(ValueError, match="needs images of even size"):
        train(small)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("family", "kind"), [("sogclr", "mmts"), ("isogclr", "individual")])
def test_losses_with_tables_train_and_are_saved(tmp_path, make_config, family, kind):
    config = make_config(tmp_path / "run", family=family, control__kind=kind)
    if kind == "individual":
        config.control.value, config.control.rho = 0.1, 1.0
    result = train(config)
    assert 0 <= result.test["mean_recall"] <= 1
    saved = load_file(tmp_path / "run" / "checkpoints" / "best" / "model.safetensors")
    visits = saved["loss_fn.tables.x2y.visits"]
    assert visits.shape == (96,)
    assert int(visits.sum()) == 32 * result.best_step
    tau = np.load(tmp_path / "run" / "samples.npz")["tau_final"]
    assert len(np.unique(tau)) > 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"family": "isogclr", "control__kind": "constant"}, "needs control.kind=individual, got"),
        ({"family": "dcl", "control__kind": "learnable"}, "cannot be DCL's temperature"),
    ],
)
def test_a_loss_that_means_nothing_is_refused_before_data_are_read(
    tmp_path, make_config, monkeypatch, fields, message
):
    monkeypatch.setattr(importlib.import_module("tauten.training.session"), "load_splits", None)
    with pytest.raises(ValueError, match=message):
        train(make_config(tmp_path / "run", **fields))
    assert not (tmp_path / "run").exists()
