"""The page on runs of two views."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
import yaml
from torch.nn import functional as F

from tauten.evaluation import knn
from tauten.outcome import load
from tauten.recipes import get, runlocal
from tauten.report import write
from tauten.report.classes import by_class
from tauten.report.collect import collect
from tauten.report.folders import load_runs
from tauten.report.gallery import data_uri, draw, gallery
from tauten.training import train

RUNS = (("simclr", 0), ("simclr", 1), ("mmts", 0), ("mmts", 1))


@pytest.fixture(scope="session")
def views(tmp_path_factory):
    """SimCLR with a constant and with MM-TS, two seeds each, on a few drawings."""
    root = tmp_path_factory.mktemp("views")
    for kind, seed in RUNS:
        config = runlocal(get(f"caltech98_lt_{kind}")(seed=seed, epochs=2.0))
        config.name, config.runlocal = f"caltech98_lt_{kind}", False
        config.output = root / f"{kind}{seed}"
        config.data.limit, config.model.channels = 400, (8,)
        config.evaluation.bootstrap = 20
        config.progress = config.tensorboard = False
        train(config)
    return [root / f"{kind}{seed}" for kind, seed in RUNS]


@pytest.fixture(scope="module")
def text(views, tmp_path_factory):
    """The page on one seed."""
    one = [views[0], views[2]]
    return write(one, tmp_path_factory.mktemp("page"), bootstrap=50).read_text("utf-8")


def results(run):
    return json.loads((run / "results.json").read_text("utf-8"))["test"]


def write_views(path, right, name="a", control="constant", seed=0, labels="aabbcc"):
    """The least folder: two training images of each class along an axis, test images that are
    found right or wrong as told."""
    classes = sorted(set(labels))
    axes = np.eye(len(classes), dtype=np.float32)
    where = [classes.index(label) for label in labels]
    found = [w if ok else (w + 1) % len(classes) for w, ok in zip(where, right, strict=True)]
    groups = dict(zip(classes, ("head", "mid", "tail"), strict=False))
    known = [label for label in classes for _ in range(2)]
    path.mkdir(parents=True)
    np.savez(
        path / "features.npz",
        train=np.repeat(axes, 2, axis=0),
        train_labels=known,
        train_groups=[groups[label] for label in known],
        test=axes[found],
        test_labels=list(labels),
        test_groups=[groups[label] for label in labels],
    )
    each = [np.mean([r for r, x in zip(right, labels, strict=True) if x == c]) for c in classes]
    test = {"knn@1": np.mean(right), "knn@1/class_mean": np.mean(each)}
    test |= {f"knn@1/class_mean/{groups[c]}": v for c, v in zip(classes, each, strict=True)}
    test = {key: float(value) for key, value in test.items()}
    (path / "results.json").write_text(json.dumps({"task": "views", "test": test}))
    config = {"name": name, "family": "infonce", "control": control, "seed": seed}
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    return path


def test_votes_are_those_of_the_evaluation(views):
    for run in load_runs(views):
        known, x = (torch.from_numpy(run.first.test[split]) for split in ("train", "test"))
        of_x, of_known = run.first.searches[""].classes
        told = knn(known, of_known, x, of_x, (1, 10), bootstrap=0)
        for k in (1, 10):
            share = float(run.first.outcome.first.score(f"knn@{k}").mean())
            assert share == pytest.approx(told[f"knn@{k}"])
            assert told[f"knn@{k}"] == pytest.approx(run.first.metrics[f"knn@{k}"])


def test_the_table_has_the_recorded_numbers(text, views):
    cells = re.findall(
        r'data-run="([^"]*)" data-key="([^"]*)" data-value="([^"]*)" data-low="([^"]*)" '
        r'data-high="([^"]*)"><b>([^<]*)',
        text,
    )
    assert len(cells) == 2 * 5 * 4
    told = {f"caltech98_lt_{run.name[:-1]}": results(run) for run in (views[0], views[2])}
    for run, key, value, low, high, shown in cells:
        assert float(value) == told[run][key]
        assert float(low) == told[run][f"{key}/low"]
        assert float(high) == told[run][f"{key}/high"]
        assert float(shown) == round(100 * told[run][key], 1)
    assert {key for _, key, *_ in cells} >= {"linear_fs", "knn@10/class_mean/tail"}


def test_differences_are_those_of_a_literal_bootstrap(tmp_path):
    rng = np.random.default_rng(0)
    labels = "a" * 30 + "b" * 9 + "c" * 5
    a, b = rng.random(44) < 0.8, rng.random(44) < 0.4
    paths = [write_views(tmp_path / "b", b, "b", labels=labels)]
    paths += [write_views(tmp_path / "a", a, "a", control="mmts", labels=labels)]
    numbers = collect(load_runs(paths), bootstrap=4000, seed=0)
    gain = a.astype(float) - b
    classes = [np.flatnonzero(np.array(list(labels)) == c) for c in "abc"]
    drawn = np.array(
        [[gain[rng.choice(rows, len(rows))].mean() for rows in classes] for _ in range(4000)]
    )
    sizes = np.array([len(rows) for rows in classes]) / len(labels)
    for group, weight in {
        "all": sizes,
        "classes": np.full(3, 1 / 3),
        "mid": np.array([0, 1, 0]),
    }.items():
        found = numbers.cells["a", "", group, "knn@1"].difference
        assert found.value == pytest.approx(
            weight @ [gain[rows].mean() for rows in classes], abs=1e-12
        )
        ends = np.percentile(drawn @ weight, [2.5, 97.5])
        assert [found.low, found.high] == pytest.approx(ends.tolist(), abs=0.03)
    assert [numbers.queries["", g] for g in numbers.groups] == [44, 44, 30, 9, 5]
    assert numbers.cells["b", "", "all", "knn@1"].difference is None


def test_equal_runs_do_not_differ(tmp_path):
    right = [True, False] * 3
    paths = [write_views(tmp_path / n, right, n, c) for n, c in (("a", "constant"), ("b", "mmts"))]
    found = collect(load_runs(paths), 50, 0).cells["b", "", "classes", "knn@1"].difference
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_several_seeds_are_averaged_and_paired(views):
    numbers = collect(load_runs(views), bootstrap=200, seed=0)
    for metric in ("knn@10", "linear_lt"):
        cell = numbers.cells["caltech98_lt_mmts", "", "classes", metric]
        told = [results(run)[f"{metric}/class_mean"] for run in views[2:]]
        assert cell.estimate.value == pytest.approx(np.mean(told))
        assert cell.estimate.seeds == 2
        assert cell.estimate.low < cell.estimate.value < cell.estimate.high
        base = [results(run)[f"{metric}/class_mean"] for run in views[:2]]
        gain = cell.difference
        assert gain.value == pytest.approx(np.mean(told) - np.mean(base))
        assert gain.low <= gain.value <= gain.high
        assert gain.seeds == 2


def without_outcomes(run, path):
    """A run as earlier versions left it: of its probes the accuracies alone."""
    shutil.copytree(run, path, ignore=shutil.ignore_patterns("checkpoints", "*_images.npz"))
    (path / "outcome.npz").unlink()
    with np.load(path / "features.npz") as stored:
        arrays = {name: rows for name, rows in stored.items() if not name.startswith("right_")}
    np.savez(path / "features.npz", **arrays)
    return path


def test_probes_are_compared_image_by_image(views):
    numbers = collect(load_runs([views[0], views[2]]), bootstrap=200, seed=0)
    found = [load(run / "outcome.npz").first for run in (views[0], views[2])]
    rows = [side.score("linear_lt").numpy() for side in found]
    labels = np.array(found[0].labels)
    gain = rows[1] - rows[0]
    by_class = [gain[labels == label].mean() for label in np.unique(labels)]
    for group, wanted in (("all", gain.mean()), ("classes", np.mean(by_class))):
        found = numbers.cells["caltech98_lt_mmts", "", group, "linear_lt"].difference
        assert found.value == pytest.approx(wanted, abs=1e-12)
        assert found.low <= found.value <= found.high
    assert np.abs(gain).sum() > 0
    assert numbers.notes == []


def test_probes_without_outcomes_are_not_compared(views, tmp_path):
    old = [without_outcomes(run, tmp_path / run.name) for run in views]
    for runs in (old, [*old[:2], *views[2:]], [old[0], *views[1:]]):
        numbers = collect(load_runs(runs), bootstrap=50, seed=0)
        for metric in ("knn@10", "linear_lt"):
            cell = numbers.cells["caltech98_lt_mmts", "", "classes", metric]
            told = [results(run)[f"{metric}/class_mean"] for run in views[2:]]
            assert cell.estimate.value == pytest.approx(np.mean(told))
            assert cell.estimate.low < cell.estimate.value < cell.estimate.high
            assert (cell.difference is None) == (metric == "linear_lt")
    page = write(old[::2], tmp_path / "page", bootstrap=20).read_text("utf-8")
    assert "Linear probes are not compared where" in page
    assert "baseline, linear LT" not in page


def test_outcomes_that_do_not_fit_are_refused(tmp_path):
    path = write_views(tmp_path / "a", [True] * 6)
    with np.load(path / "features.npz") as stored:
        arrays = dict(stored)
    for wrong in (np.ones(5, bool), np.ones(6)):
        np.savez(path / "features.npz", **arrays, right_linear_lt=wrong)
        with pytest.raises(ValueError, match=r"as right_linear_lt, not bool \(6,\)"):
            load_runs([path])


def test_sections_panels_and_words(text):
    for words in (
        "Mean over classes, kNN@10:",
        "Differences to the constant baseline, linear LT",
        "kNN@10 by class size",
        "caltech98_lt_mmts: temperature over time",
        "validation kNN@10, mean over classes",
        "nearest of its class",
        "first of its class: rank",
        "attraction to its other view",
        "tolerance",
        "LinearSVC",
    ):
        assert words in text, words
    assert "Not shown" not in text
    shown = text[text.index("</style>") : text.index('id="protocol"')]
    assert "caption" not in shown.replace("figcaption", "")
    ids = re.findall(r'\bid="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    assert len(set(re.findall(r'aria-label="([^"]*)"', text))) == text.count("aria-label=")


def test_the_gallery_shows_the_nearest_training_images(views):
    numbers = collect(load_runs([views[0], views[2]]), 20, 0)
    run = numbers.run("caltech98_lt_mmts").first
    with np.load(views[2] / "train_images.npz") as stored:
        pictures = stored["images"]
    groups, labels = run.test["test_groups"].tolist(), run.test["test_labels"]
    chosen = draw(groups, ["head", "mid", "tail"], 3, seed=1)
    queries = gallery(numbers, run.images, 3, seed=1)
    assert len(queries) == len(chosen) == 9
    known, x = (F.normalize(torch.from_numpy(run.test[s]), dim=1) for s in ("train", "test"))
    for i, query in zip(chosen, queries, strict=True):
        assert (query.caption, query.group) == (labels[i], groups[i])
        assert query.target.source == data_uri(run.images[i])
        order = (known @ x[i]).argsort(descending=True).tolist()
        own = [j for j in order if run.test["train_labels"][j] == labels[i]]
        assert [answer.run for answer in query.answers] == ["constant", "MM-TS"]
        answer = query.answers[1]
        assert answer.rank == (order.index(own[0]) + 1 if own else 0)
        assert [shown.source for shown in answer.images] == [
            data_uri(pictures[j]) for j in order[:5]
        ]
        assert [shown.right for shown in answer.images] == [j in own for j in order[:5]]


def test_without_pictures_the_gallery_has_words(views, tmp_path):
    shutil.copytree(views[0], tmp_path / "run", ignore=shutil.ignore_patterns("*_images.npz"))
    page = write([tmp_path / "run"], tmp_path / "page", bootstrap=20).read_text("utf-8")
    assert "<img" not in page
    assert '<ol class="words">' in page


def test_pictures_that_do_not_fit_are_refused(views, tmp_path):
    shutil.copytree(views[0], tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    told = json.loads((tmp_path / "run" / "results.json").read_text("utf-8"))
    told.pop("seal")  # which would name another content first
    (tmp_path / "run" / "results.json").write_text(json.dumps(told))
    np.savez(tmp_path / "run" / "train_images.npz", images=np.zeros((3, 4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match=r"train_images.npz must hold images, uint8 \(400, H, W"):
        write([tmp_path / "run"], tmp_path / "page", bootstrap=20)


def test_pairs_and_views_are_not_mixed(tmp_path, tiny):
    paths = [tiny(tmp_path / "pairs"), write_views(tmp_path / "views", [True] * 6)]
    with pytest.raises(ValueError, match=r"views is a run of two views and .*pairs of pairs: they"):
        write(paths, tmp_path / "page")
    assert not (tmp_path / "page").exists()


def test_other_test_images_are_refused(tmp_path):
    paths = [write_views(tmp_path / "a", [True] * 6, "a")]
    paths += [write_views(tmp_path / "b", [True] * 7, "b", labels="aabbccc")]
    with pytest.raises(ValueError, match="tested on different classes or groups"):
        load_runs(paths)


def test_another_probe_is_refused(tmp_path, views):
    shutil.copytree(views[2], tmp_path / "run")
    path = tmp_path / "run" / "config.yaml"
    path.write_text(path.read_text("utf-8").replace("probe: svm", "probe: sgd"), "utf-8")
    with pytest.raises(ValueError, match="evaluation.probe is sgd"):
        load_runs([views[0], tmp_path / "run"])


def test_features_that_are_missing_or_cut(tmp_path):
    path = write_views(tmp_path / "a", [True] * 6)
    with np.load(path / "features.npz") as stored:
        arrays = dict(stored)
    np.savez(path / "features.npz", **arrays | {"test_labels": arrays["test_labels"][:5]})
    with pytest.raises(ValueError, match="has 6 features, 5 classes and 6 groups of the test"):
        load_runs([path])
    np.savez(path / "features.npz", **{k: v for k, v in arrays.items() if k != "train"})
    with pytest.raises(ValueError, match="features.npz lacks train"):
        load_runs([path])
    (path / "features.npz").unlink()
    with pytest.raises(ValueError, match="has no features.npz"):
        load_runs([path])


def test_results_that_disagree_with_the_features_are_noted(tmp_path):
    path = write_views(tmp_path / "a", [True] * 6)
    told = json.loads((path / "results.json").read_text())
    told["test"]["knn@1/class_mean"] = 0.25
    (path / "results.json").write_text(json.dumps(told))
    (note,) = collect(load_runs([path]), 20, 0).notes
    assert note == "a (seed 0): results.json says knn@1/class_mean = 0.25, its queries give 1."


def test_primary_is_a_number_of_neighbours(views, tmp_path):
    with pytest.raises(ValueError, match="primary must be one of knn@1, knn@10, not 'linear_lt'"):
        write(views[:1], tmp_path, primary="linear_lt")
    text = write(views[:1], tmp_path, primary="knn@1", bootstrap=20).read_text("utf-8")
    assert "validation kNN@1, mean over classes" in text


def test_a_class_without_training_images_is_never_right(tmp_path):
    path = write_views(tmp_path / "a", [True] * 6)
    with np.load(path / "features.npz") as stored:
        arrays = dict(stored)
    arrays["test_labels"][0] = "z"
    np.savez(path / "features.npz", **arrays)
    numbers = collect(load_runs([path]), 20, 0)
    (run,) = numbers.runs
    assert run.first.outcome.first.score("knn@1").tolist() == [0] + [1] * 5
    assert run.first.searches[""].classes[0].tolist() == [3, 0, 1, 1, 2, 2]
    found = by_class(numbers)
    assert (found.names, found.counts.tolist()) == (["a", "b", "c", "z"], [2, 2, 2, 0])
    assert found.queries.tolist() == [1, 2, 2, 1]
    assert found.share["a", "knn@1"].tolist() == [1, 1, 1, 0]
