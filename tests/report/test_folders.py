"""Run folders read back, and every way in which they can be wrong."""

import json

import numpy as np
import pytest
import yaml

from tauten.report.folders import load_runs


def test_fields_of_a_real_run(runs):
    found = load_runs(runs)
    assert [run.name for run in found] == [
        "infonce-constant",
        "infonce-mmts",
        "maxmargin-constant",
        "maxmargin-mmts",
    ]
    assert [run.family for run in found] == ["InfoNCE"] * 2 + ["MaxMargin"] * 2
    assert [run.control for run in found] == ["constant", "MM-TS"] * 2
    assert [run.knob for run in found] == ["temperature"] * 2 + ["margin"] * 2
    assert [run.period for run in found] == [None, 20.0, None, 20.0]
    assert found[0].first.steps == 60


def test_recomputed_metrics_are_the_recorded_ones(runs):
    for run in load_runs(runs):
        for direction in ("x2y", "y2x"):
            own = run.first.ranks[direction].hit(5).mean()
            assert float(own) == pytest.approx(run.first.metrics[f"{direction}/hit@5"])


def test_seed_folders_and_flat_seeds_are_the_same(seeded_runs):
    nested = load_runs(seeded_runs)
    flat = load_runs([p / f"seed{s}" for s in (1, 0) for p in seeded_runs])
    assert [(r.name, [s.seed for s in r.seeds]) for r in nested] == [
        ("infonce-constant", [0, 1]),
        ("infonce-mmts", [0, 1]),
    ]
    assert [[s.path for s in r.seeds] for r in flat] == [[s.path for s in r.seeds] for r in nested]


def test_configuration_nested_beside_fingerprints(tmp_path, tiny):
    config = {"name": "n", "family": "maxmargin", "control": {"kind": "matched"}, "seed": 3}
    record = {"config": config, "data": {"test": "ab12"}, "versions": {"torch": "2"}}
    path = tiny(tmp_path / "r", **{"config.yaml": yaml.safe_dump(record)})
    (run,) = load_runs([path])
    assert (run.name, run.family, run.control, run.first.seed) == ("n", "MaxMargin", "constant", 3)
    assert run.first.config["fingerprint"] == {"test": "ab12"}
    assert run.first.config["versions"] == {"torch": "2"}


def test_plain_labels_are_kept(tmp_path, tiny):
    (run,) = load_runs([tiny(tmp_path / "r", family="MyLoss", control="mm-ts")])
    assert (run.family, run.control, run.symbol) == ("MyLoss", "MM-TS", "τ")


@pytest.mark.parametrize(
    "stored",
    [
        {"y_of_x": np.array([[0, 1], [2, -1], [3, -1], [-1, 4]])},
        {"y_of_x": np.arange(5), "y_of_x_offsets": np.array([0, 2, 3, 4, 5])},
    ],
    ids=["padded", "offsets"],
)
def test_several_captions_per_image(tmp_path, tiny, stored):
    test = {"y": np.eye(5, 4, dtype=np.float32), "captions": list("abcde")} | stored
    (run,) = load_runs([tiny(tmp_path / "r", test=test)])
    assert run.first.y_of_x == [[0, 1], [2], [3], [4]]
    assert run.first.groups["y2x"] == ["head", "head", "head", "tail", "tail"]


def test_recorded_groups_of_captions_win(tmp_path, tiny):
    (run,) = load_runs([tiny(tmp_path / "r", test={"group_of_y": list("hhmt")})])
    assert run.first.groups["y2x"] == list("hhmt")


@pytest.mark.parametrize("groups", [None, [""] * 4])
def test_no_groups(tmp_path, tiny, groups):
    (run,) = load_runs([tiny(tmp_path / "r", test={"group_of_x": groups})])
    assert run.first.groups == {"x2y": [], "y2x": []}


def test_caption_shared_by_two_groups_is_in_that_of_its_first_image(tmp_path, tiny):
    test = {"y": np.eye(3, 4, dtype=np.float32), "captions": list("abc")}
    test |= {"y_of_x": np.array([0, 1, 1, 2]), "group_of_x": ["head", "mid", "tail", "tail"]}
    (run,) = load_runs([tiny(tmp_path / "r", test=test)])
    assert run.first.groups["y2x"] == ["head", "mid", "tail"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config.yaml": None}, "neither config.yaml nor seed"),
        ({"config.yaml": "- a"}, "config.yaml does not hold a mapping"),
        ({"config.yaml": "a: [1"}, "config.yaml is not valid YAML"),
        ({"results.json": None}, "has no results.json: is the run finished"),
        ({"results.json": "{"}, "results.json is not valid JSON"),
        ({"results.json": "[]"}, 'has no "test" metrics'),
        ({"results.json": json.dumps({"val": {}})}, 'has no "test" metrics'),
        ({"history.jsonl": '{"step": 1}\n{"st'}, "history.jsonl, line 2, is not valid JSON"),
        ({"test": {"captions": None}}, "embeddings.npz lacks captions"),
        ({"test": {"captions": ["a"]}}, "embeddings.npz has 1 captions for 4 y"),
        ({"test": {"captions": np.array(["a", 1, 2, 3], object)}}, "cannot be read as plain"),
    ],
)
def test_errors_of_a_folder(tmp_path, tiny, changes, message):
    path = tiny(tmp_path / "r", **changes)
    with pytest.raises(ValueError, match=message):
        load_runs([path])


def test_error_of_missing_embeddings(tmp_path, tiny):
    path = tiny(tmp_path / "r")
    (path / "embeddings.npz").unlink()
    with pytest.raises(ValueError, match="has no embeddings.npz"):
        load_runs([path])


def test_errors_between_folders(tmp_path, tiny):
    first = tiny(tmp_path / "a")
    with pytest.raises(ValueError, match="no run folder given"):
        load_runs([])
    with pytest.raises(ValueError, match="is not a folder"):
        load_runs([tmp_path / "nothing"])
    with pytest.raises(ValueError, match=r"a has seeds \[0, 0\], one of them twice"):
        load_runs([first, first])
    with pytest.raises(ValueError, match="different recipes share the name a"):
        load_runs([first, tiny(tmp_path / "b", control="mmts", seed=1)])
    other = tiny(tmp_path / "c", name="c", test={"captions": list("wxyz")})
    with pytest.raises(ValueError, match="tested on different pairs"):
        load_runs([first, other])
