"""Numbers of the report: recorded values, paired differences, baselines, verdicts in words."""

import numpy as np
import pytest
import torch

from tauten.evaluation import class_retrieval, paired_bootstrap
from tauten.report.collect import collect
from tauten.report.folders import load_runs
from tauten.report.numbers import key as key_of
from tauten.report.words import SAME, false_alarms, number, signed, verdicts


def test_single_seed_shows_what_the_run_recorded(runs):
    loaded = load_runs(runs)
    numbers = collect(loaded, bootstrap=50, seed=0)
    hits = ["hit@1", "hit@5", "hit@10"]
    of_classes = ["class_map_across", "class_map_within"]
    ends = ["median_rank", "mean_rank"]
    assert numbers.metrics == [*hits, "mean_recall", "mAP", *of_classes, *ends]
    assert numbers.groups == ["all", "head", "mid", "tail"]
    assert numbers.queries["x2y", "all"] == sum(
        numbers.queries["x2y", group] for group in ("head", "mid", "tail")
    )
    for (name, direction, group, metric), cell in numbers.cells.items():
        recorded = numbers.run(name).first.metrics
        if metric == "mean_recall":  # not recorded by direction
            parts = [numbers.cells[name, direction, group, hit].estimate.value for hit in hits]
            assert cell.estimate.value == pytest.approx(sum(parts) / 3)
            continue
        if metric in of_classes:  # of runs that did not record it
            continue
        key = f"{direction}/{metric}" + ("" if group == "all" else f"/{group}")
        assert cell.estimate.value == recorded[key]
        assert cell.estimate.low == recorded[f"{key}/low"]
        assert cell.estimate.high == recorded[f"{key}/high"]
        assert cell.estimate.queries == recorded[f"{direction}/n" + key.partition(metric)[2]]
    assert [note.split()[1:3] for note in numbers.notes] == [["leaves", "out"]] * 2


def test_retrieval_of_the_same_class(runs):
    loaded = load_runs(runs)
    numbers = collect(loaded, bootstrap=20, seed=0)
    run = loaded[0].first
    x, y = torch.from_numpy(run.test["x"]), torch.from_numpy(run.test["y"])
    found = class_retrieval(
        x, run.labels, y, y_of_x=run.y_of_x, groups=run.groups["x2y"], bootstrap=0
    )
    for metric, direction, way in (
        ("class_map_across", "x2y", "x2y"),
        ("class_map_across", "y2x", "y2x"),
        ("class_map_within", "x2y", "x2x"),
        ("class_map_within", "y2x", "y2y"),
    ):
        for group in numbers.groups:
            cell = numbers.cells[loaded[0].name, direction, group, metric]
            key = key_of(direction, group, metric)
            assert key == f"class/{way}/mAP" + ("" if group == "all" else f"/{group}")
            assert cell.estimate.value == pytest.approx(found[key.removeprefix("class/")])
            assert cell.estimate.queries == found[key.removeprefix("class/").replace("mAP", "n")]


def test_differences_are_paired_and_within_the_family(runs):
    numbers = collect(load_runs(runs), bootstrap=100, seed=3)
    assert numbers.baselines == {
        "infonce-mmts": "infonce-constant",
        "maxmargin-mmts": "maxmargin-constant",
    }
    run, base = (numbers.run(f"infonce-{c}").first for c in ("mmts", "constant"))
    mid = torch.tensor([g == "mid" for g in run.groups["y2x"]])
    expected = paired_bootstrap(
        run.outcome.sides["y2x"].ranks.hit(5)[mid],
        base.outcome.sides["y2x"].ranks.hit(5)[mid],
        bootstrap=100,
        seed=3,
    )
    assert numbers.cells["infonce-mmts", "y2x", "mid", "hit@5"].difference == expected
    assert numbers.cells["infonce-constant", "y2x", "mid", "hit@5"].difference is None


def test_several_seeds_are_averaged_and_paired(seeded_runs):
    loaded = load_runs(seeded_runs)
    numbers = collect(loaded, bootstrap=100, seed=0)
    base, run = loaded
    cell = numbers.cells["infonce-mmts", "x2y", "all", "hit@10"]
    values = [seed.metrics["x2y/hit@10"] for seed in run.seeds]
    assert cell.estimate.value == pytest.approx(np.mean(values))
    assert cell.estimate.seeds == 2
    assert cell.estimate.low < cell.estimate.value < cell.estimate.high
    scores = [
        torch.stack([s.outcome.sides["x2y"].ranks.hit(10) for s in r.seeds]) for r in (run, base)
    ]
    assert cell.difference == paired_bootstrap(*scores, bootstrap=100)


def test_only_shared_seeds_are_paired(tmp_path, tiny):
    paths = [tiny(tmp_path / f"a{s}", "a", seed=s) for s in (0, 1)]
    paths += [tiny(tmp_path / f"b{s}", "b", control="mmts", seed=s) for s in (1, 2)]
    paths += [tiny(tmp_path / "c", "c", control="cosine", seed=7)]
    numbers = collect(load_runs(paths), bootstrap=20, seed=0)
    assert numbers.baselines == {"b": "a"}
    assert numbers.cells["b", "x2y", "all", "hit@1"].difference.seeds == 1
    assert numbers.cells["b", "x2y", "all", "hit@1"].estimate.seeds == 2
    assert numbers.notes == ["c has no seed in common with a."]


def test_matched_constant_is_preferred_as_baseline(tmp_path, tiny):
    paths = [tiny(tmp_path / "a", "a"), tiny(tmp_path / "b", "b", control="mmts")]
    paths += [tiny(tmp_path / "c", "c", config={"control": {"kind": "matched"}})]
    assert collect(load_runs(paths), 20, 0).baselines == {"a": "c", "b": "c"}


def test_runs_of_one_control_have_verdicts_of_their_own_names(tmp_path, tiny):
    paths = [tiny(tmp_path / "a", "a")]
    paths += [tiny(tmp_path / name, name, control="mmts") for name in ("narrow", "wide")]
    found = verdicts(collect(load_runs(paths), 20, 0), "hit@1")
    assert [verdict.title for verdict in found] == [
        f"InfoNCE: {name} against a constant temperature" for name in ("narrow", "wide")
    ]


def test_family_without_constant_is_noted(tmp_path, tiny):
    numbers = collect(load_runs([tiny(tmp_path / "b", "b", control="mmts")]), 20, 0)
    assert numbers.notes == ["InfoNCE has no run with a constant temperature to compare with."]
    assert verdicts(numbers, "hit@1") == []
    assert false_alarms(numbers) == ""


def test_results_that_disagree_with_the_embeddings_are_noted(tmp_path, tiny):
    path = tiny(tmp_path / "a", metrics={"x2y/mAP": 0.123})
    (note,) = collect(load_runs([path]), 20, 0).notes
    assert note.startswith("a (seed 0): results.json says x2y/mAP = 0.123, its queries give")


def test_recall_has_columns_where_images_have_several_captions(tmp_path, tiny):
    test = {"y": np.eye(5, 4, dtype=np.float32), "captions": list("abcde")}
    test |= {"y_of_x": np.array([[0, 4], [1, -1], [2, -1], [3, -1]])}
    numbers = collect(load_runs([tiny(tmp_path / "a", test=test)]), 20, 0)
    assert [m for m in numbers.metrics if "@" in m] == [
        f"{kind}@{k}" for kind in ("hit", "recall") for k in (1, 5, 10)
    ]


def runs_with_ranks(tmp_path, tiny, gains, seeds=2):
    """Constant run finds the first ``base`` of 40 captions, the other ``base + gain``."""
    paths = []
    for name, control, found in (("base", "constant", 10), ("new", "mmts", 10 + gains)):
        y = np.eye(40, dtype=np.float32)
        y[found:] = np.roll(y, 1, axis=0)[found:]
        test = {"x": np.eye(40, dtype=np.float32), "y": y, "y_of_x": np.arange(40)}
        test |= {"captions": [str(i) for i in range(40)], "group_of_x": ["head", "tail"] * 20}
        for seed in range(seeds):
            tiny(tmp_path / name / f"seed{seed}", name, control=control, seed=seed, test=test)
        paths.append(tmp_path / name)
    return collect(load_runs(paths), bootstrap=500, seed=0)


@pytest.mark.parametrize(
    ("gain", "kind", "badge"),
    [
        (0, "same", SAME),
        (1, "same", SAME),
        (16, "better", "measurably better"),
        (-8, "worse", "measurably worse"),
    ],
)
def test_verdict_follows_the_interval(tmp_path, tiny, gain, kind, badge):
    numbers = runs_with_ranks(tmp_path, tiny, gain)
    (verdict,) = verdicts(numbers, "hit@1")
    assert (verdict.kind, verdict.badge) == (kind, badge)
    assert (verdict.run, verdict.baseline) == ("new", "base")
    assert verdict.title == "InfoNCE: MM-TS against a constant temperature"
    ending = {"same": SAME, "better": "a measurable gain", "worse": "a measurable loss"}[kind]
    assert all(sentence.endswith(f"{ending}.") for sentence in verdict.sentences[1:3])
    assert "2 seeds, paired: the interval covers test queries and" in verdict.sentences[0]
    in_groups = verdict.sentences[3]
    assert ("in any group" in in_groups) == (kind == "same")


@pytest.mark.parametrize("gain", [0, 16, -8])
def test_one_seed_gives_no_verdict(tmp_path, tiny, gain):
    numbers = runs_with_ranks(tmp_path, tiny, gain, seeds=1)
    (verdict,) = verdicts(numbers, "hit@1")
    assert (verdict.kind, verdict.badge) == ("unknown", "one seed: no verdict")
    said = " ".join(verdict.sentences)
    assert "One seed: the interval covers the choice of test queries" in said
    assert "measurabl" not in said
    compared = [cell for cell in numbers.cells.values() if cell.difference is not None]
    assert compared
    assert not any(cell.measurable for cell in compared)
    assert false_alarms(numbers) == ""


def test_lower_rank_is_better(tmp_path, tiny):
    numbers = runs_with_ranks(tmp_path, tiny, 16)
    cell = numbers.cells["new", "x2y", "all", "mean_rank"]
    assert cell.difference.value < 0
    assert cell.verdict == "better"


def test_false_alarms_are_counted(seeded_runs):
    numbers = collect(load_runs(seeded_runs), bootstrap=20, seed=0)
    assert "makes 72 comparisons at 95 %" in false_alarms(numbers)
    assert "about 4 would still be marked" in false_alarms(numbers)


def test_formats():
    assert [number("hit@1", v) for v in (0, 0.1234, 1)] == ["0.0", "12.3", "100.0"]
    assert [number("median_rank", v) for v in (2.0, 2.5, 123.5)] == ["2", "2.5", "124"]
    assert [signed("hit@1", v) for v in (0.012, -0.3, 0.0001)] == ["+1.2", "−30.0", "0.0"]
