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
            own = run.first.outcome.sides[direction].ranks.hit(5).mean()
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
        ({"history.jsonl": '{"step": 1}\n{"st\n{}'}, "history.jsonl, line 2, is not valid JSON"),
        ({"test": {"captions": None}}, "embeddings.npz lacks captions"),
        ({"test": {"captions": ["a"]}}, "embeddings.npz has 1 captions for 4 y"),
        (
            {"test": {"captions": np.array(["a", 1, 2, 3], object)}},
            "embeddings.npz is damaged or no file of arrays",
        ),
    ],
)
def test_errors_of_a_folder(tmp_path, tiny, changes, message):
    path = tiny(tmp_path / "r", **changes)
    with pytest.raises(ValueError, match=message):
        load_runs([path])


def arrays(path, file, **changes):
    with np.load(path / file) as stored:
        found = {name: stored[name] for name in stored.files}
    np.savez(path / file, **(found | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": np.ones(4, np.float32)}, r"embeddings.npz has float32 \(4,\) as x"),
        ({"x": np.ones((4, 3), np.float32)}, "x of 3 numbers each and y of 4"),
        ({"y": np.full((4, 4), np.nan, np.float32)}, "NaN or infinite numbers in 4 of 4 y"),
        ({"y_of_x": np.array([0, 1, 2, 9])}, "y_of_x up to 9 for 4 y"),
        ({"y_of_x": np.array([0, 1])}, "2 y_of_x for 4 x"),
        ({"y_of_x": np.array(["a"] * 4)}, "as y_of_x, not positions"),
        ({"group_of_x": np.array(["head"])}, "1 group_of_x for 4 x"),
        ({"captions": np.array("a")}, "a single value as captions"),
    ],
)
def test_embeddings_that_do_not_fit(tmp_path, tiny, changes, message):
    path = tiny(tmp_path / "r")
    arrays(path, "embeddings.npz", **changes)
    with pytest.raises(ValueError, match=message):
        load_runs([path])


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("config.yaml", "seed: [1]", "config.yaml: seed is not a whole number"),
        ("config.yaml", "config: 3", "config.yaml: config is not a mapping"),
        ("config.yaml", "a: &a {b: 1}\nc: {<<: *a}", "config.yaml refers to a part of itself"),
        ("config.yaml", "[" * 5000 + "]" * 5000, "config.yaml is nested too deeply"),
        ("results.json", "[" * 100_000, "results.json is nested too deeply"),
        ("results.json", '{"test": {"x2y/hit@1": "high"}}', "x2y/hit@1 is not a number"),
        ("history.jsonl", "[1, 2]", "history.jsonl, line 1, is damaged: it holds no object"),
        ("results.json", '{"test": {"mean_recall": null}}', "json: mean_recall is not a number bu"),
        (
            "results.json",
            '{"test": {}, "best_step": "9"}',
            "json: best_step is not a number but '9'",
        ),
        (
            "results.json",
            '{"test": {}, "total_steps": []}',
            "json: total_steps is not a number but",
        ),
        ("history.jsonl", '{"loss": 1}', "history.jsonl, line 1, has no step"),
        ("history.jsonl", '{"step": 1, "loss": "x"}', "history.jsonl: loss is not a number"),
    ],
)
def test_files_of_another_kind(tmp_path, tiny, file, text, message):
    with pytest.raises(ValueError, match=message):
        load_runs([tiny(tmp_path / "r", **{file: text})])


def test_a_configuration_that_grows_beyond_measure(tmp_path, tiny):
    bomb = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for k in range(1, 9):
        bomb.append(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]")
    path = tiny(tmp_path / "r", **{"config.yaml": "\n".join(bomb)})
    with pytest.raises(ValueError, match="config.yaml refers to a part of itself"):
        load_runs([path])


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "text"])
@pytest.mark.parametrize("file", ["embeddings.npz", "samples.npz", "test_images.npz"])
def test_damaged_arrays_are_named(tmp_path, tiny, file, damage):
    path = tiny(tmp_path / "r")
    if file != "embeddings.npz":
        np.savez(path / file, images=np.zeros((4, 8, 8, 3), np.uint8), counts=np.arange(4))
    whole = bytearray((path / file).read_bytes())
    middle = whole.index(b"NUMPY") + 140
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    made = {"empty": b"", "cut": whole[: len(whole) // 2], "flipped": flipped, "text": b"hello"}
    (path / file).write_bytes(made[damage])
    with pytest.raises(ValueError, match=f"{file} is damaged or no file of arrays") as raised:
        load_runs([path])
    assert "\n" not in str(raised.value)


def test_samples_that_do_not_fit(tmp_path, tiny):
    path = tiny(tmp_path / "r")
    np.savez(path / "samples.npz", label_counts=[1, 2], label_names=["a"])
    with pytest.raises(ValueError, match="label_counts, label_names are not of one length"):
        load_runs([path])


def test_recipes_of_one_name_are_called_by_their_folders(tmp_path, tiny):
    """A name can't be changed after the training, and ``tauten train pairs`` gives all the same."""
    paths = [
        tiny(tmp_path / "const", name="pairs"),
        tiny(tmp_path / "mmts", name="pairs", control="mmts"),
        tiny(tmp_path / "other", name="own"),
    ]
    runs = load_runs(paths)
    assert [(run.name, run.control) for run in runs] == [
        ("const", "constant"),
        ("mmts", "MM-TS"),
        ("own", "constant"),
    ]


def test_one_recipe_trained_twice_is_called_by_its_folders(tmp_path, tiny):
    paths = [tiny(tmp_path / kind / "run", name="pairs") for kind in ("lr1", "lr2")]
    assert [run.name for run in load_runs(paths)] == ["lr1/run", "lr2/run"]


def test_seeds_stay_together_where_names_clash(tmp_path, tiny):
    for control in ("constant", "mmts"):
        for seed in (0, 1):
            tiny(tmp_path / control / f"seed{seed}", name="pairs", control=control, seed=seed)
    nested = load_runs([tmp_path / "constant", tmp_path / "mmts"])
    flat = load_runs([tmp_path / c / f"seed{s}" for s in (0, 1) for c in ("constant", "mmts")])
    for runs in (nested, flat):
        assert [run.name for run in runs] == ["constant", "mmts"]
        assert [[seed.seed for seed in run.seeds] for run in runs] == [[0, 1]] * 2


def test_folders_are_not_called_as_another_run_is(tmp_path, tiny):
    paths = [
        tiny(tmp_path / "x" / "own", name="pairs"),
        tiny(tmp_path / "b", name="pairs", control="mmts"),
        tiny(tmp_path / "c", name="own"),
    ]
    names = [run.name for run in load_runs(paths)]
    assert names[0] == "x/own"
    assert names[2] == "own"


def test_runs_that_are_no_seeds_in_one_folder(tmp_path, tiny):
    for seed, control in enumerate(("constant", "mmts")):
        tiny(tmp_path / "r" / f"seed{seed}", name="pairs", control=control, seed=seed)
    with pytest.raises(ValueError, match="cannot be seeds of one recipe"):
        load_runs([tmp_path / "r"])


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
    with pytest.raises(ValueError, match="a is given twice: give each run once"):
        load_runs([first, first])
    other = tiny(tmp_path / "c", name="c", test={"captions": list("wxyz")})
    with pytest.raises(ValueError, match="tested on different pairs"):
        load_runs([first, other])
