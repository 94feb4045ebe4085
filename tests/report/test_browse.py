"""Queries to browse, results of each class, graded relevancies: what the page is given."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from tauten.evaluation import multi_instance_retrieval
from tauten.outcome import of_pairs, save
from tauten.report import browse, write
from tauten.report.browse import browsed
from tauten.report.classes import by_class
from tauten.report.collect import collect
from tauten.report.folders import load_runs
from tauten.report.theme import figure, svg

LABELS = ["a", "a", "b", ""]


@pytest.fixture
def both(tiny, tmp_path):
    """A constant and a schedule, with classes; of the schedule bee and cat are exchanged."""
    turned = np.eye(4, dtype=np.float32)[[0, 2, 1, 3]]
    paths = [tiny(tmp_path / "a", "a", test={"label_of_x": LABELS})]
    paths += [tiny(tmp_path / "b", "b", control="mmts", test={"label_of_x": LABELS, "y": turned})]
    for path in paths:
        np.savez(
            path / "samples.npz",
            counts=[3, 3, 3, 1],
            tau_final=np.float32([0.1, 0.2, 0.3, 0.05]),
            label_names=["a", "b"],
            label_counts=[3, 1],
        )
    return collect(load_runs(paths), 20, 0)


def test_each_query_has_the_first_candidates_of_every_run(both):
    data, notes = browsed(both, None, 0)
    told = json.loads(data)
    assert (told["runs"], told["sheet"], notes) == (["constant", "MM-TS"], "", [])
    texts, images = told["ways"]
    assert [way["name"] for way in (texts, images)] == ["Text to image", "Image to text"]
    assert texts["queries"][1] == ["bee", -1, "head", "a"]
    captions = ["ant", "bee", "cat", "dog"]
    for way, stored in ((texts, ("y", "x")), (images, ("x", "y"))):
        for run, answer in zip(both.runs, way["runs"], strict=True):
            queries, candidates = (run.first.test[side] for side in stored)
            order = (-(queries @ candidates.T)).argsort(axis=1, kind="stable")
            found = np.array(answer["found"]).reshape(4, 4)
            for i in range(4):
                names = [way["names"][code >> 1][0] for code in found[i]]
                assert names[0] == captions[order[i, 0]]
                assert [name for name, code in zip(names, found[i], strict=True) if code & 1] == [
                    captions[i]
                ]
                right = run.name == "a" or i in (0, 3)
                assert (answer["ranks"][i] == 1) == right == bool(found[i][0] & 1)


def test_pictures_are_tiles_of_one_sheet(both):
    images = np.zeros((4, 8, 8, 3), np.uint8)
    images[2:] = 200
    told = json.loads(browsed(both, images, 0)[0])
    assert told["sheet"].startswith("data:image/jpeg;base64,")
    assert [query[1] for query in told["ways"][0]["queries"]] == [0, 0, 1, 1]
    assert {place for _, place in told["ways"][0]["names"]} == {0, 1}
    assert {place for _, place in told["ways"][1]["names"]} == {-1}


def test_of_many_queries_some_are_drawn_and_that_is_said(both, monkeypatch):
    monkeypatch.setattr(browse, "QUERIES", 2)
    data, notes = browsed(both, None, 0)
    assert [len(way["queries"]) for way in json.loads(data)["ways"]] == [2, 2]
    assert {query[2] for query in json.loads(data)["ways"][0]["queries"]} == {"head", "tail"}
    assert notes[0] == "2 of 4 queries (text to image), drawn by seed 0."


def test_text_of_users_cannot_end_the_data(tiny, tmp_path):
    run = tiny(tmp_path / "a", test={"captions": ["</script><b>", "<!--", "c", "d"]})
    data, _ = browsed(collect(load_runs([run]), 20, 0), None, 0)
    assert "<" not in data
    assert json.loads(data)["ways"][0]["queries"][0][0] == "</script><b>"


def test_classes_have_their_samples_strength_and_share(both):
    found = by_class(both)
    assert (found.names, found.groups) == (["a", "b"], ["head", "tail"])
    assert (found.counts.tolist(), found.queries.tolist()) == ([3, 1], [2, 1])
    assert found.strength["b"].tolist() == pytest.approx([0.2, 0.05])
    assert found.share["a", "hit@1"].tolist() == [1, 1]
    assert found.share["b", "hit@1"].tolist() == [0.5, 0]
    head, first, _ = found.rows(both)
    assert head[:6] == ["class", "group", "training", "test", "τ, constant", "τ, MM-TS"]
    assert first[:6] == ["a", "head", "3", "2", "0.2", "0.2"]


def test_an_outcome_of_an_earlier_version_has_its_classes_from_the_embeddings(tiny, tmp_path):
    y = torch.randn(4, 4, generator=torch.Generator().manual_seed(2))
    pairs = [[i] for i in range(4)]
    groups = ["head", "head", "tail", "tail"]
    labels = ["a", "a", "b", "b"]
    found = []
    for name, kept in (("old", labels), ("bare", None)):
        path = tiny(tmp_path / name, test={"y": y.numpy(), "label_of_x": kept})
        outcome = of_pairs(torch.eye(4), y, pairs, groups)
        side = replace(outcome.sides["x2y"], labels=labels)
        save(replace(outcome, sides={**outcome.sides, "x2y": side}), path / "outcome.npz")
        found.append(collect(load_runs([path]), 20, 0))
    wanted = of_pairs(torch.eye(4), y, pairs, groups, labels=labels).sides["x2y"]
    value = found[0].cells["a", "x2y", "all", "class_map_within"].estimate.value
    assert value == pytest.approx(float(wanted.score("class_map_within").mean()))
    assert "class_map_within" not in found[1].metrics
    assert by_class(found[1]).names == ["a", "b"]


def test_graded_pairs_are_shown_with_their_intervals(tiny, tmp_path):
    generator = torch.Generator().manual_seed(1)
    paths = []
    relevancy = torch.rand(4, 4, generator=generator) * 0.9
    relevancy.fill_diagonal_(1.0)
    for name, control in (("a", "constant"), ("b", "mmts")):
        y = torch.randn(4, 4, generator=generator)
        path = tiny(tmp_path / name, name, control=control, test={"y": y.numpy()})
        groups = ["head", "head", "tail", "tail"]
        outcome = of_pairs(torch.eye(4), y, [[i] for i in range(4)], groups, relevancy=relevancy)
        save(outcome, path / "outcome.npz")
        paths.append(path)
    told = json.loads((paths[0] / "results.json").read_text("utf-8"))
    told["test"] |= {
        f"multi_instance/nDCG/x2y{end}": value
        for end, value in (("", 0.5), ("/low", 0.4), ("/high", 0.6))
    }
    (paths[0] / "results.json").write_text(json.dumps(told), "utf-8")
    numbers = collect(load_runs(paths), 50, 0)
    assert numbers.main == "mAP_official"
    wanted = multi_instance_retrieval(torch.eye(4) @ y.T, relevancy)
    for metric in ("nDCG", "mAP_official", "mAP_textbook"):
        for way in ("x2y", "y2x"):
            cell = numbers.cells["b", way, "all", metric]
            assert cell.estimate.value == pytest.approx(wanted[f"{metric}/{way}"])
            assert cell.estimate.low <= cell.estimate.value <= cell.estimate.high
            assert cell.difference.queries == 4
    recorded = numbers.cells["a", "x2y", "all", "nDCG"].estimate
    assert (recorded.value, recorded.low, recorded.high) == (0.5, 0.4, 0.6)
    assert numbers.notes[0].startswith("a (seed 0): results.json says multi_instance/nDCG/x2y")
    page = write(paths, tmp_path / "page", bootstrap=20).read_text("utf-8")
    assert "graded mAP: " in page
    assert "Graded relevancy" in page


def test_curves_tell_their_values_where_they_are_drawn():
    with figure() as drawing:
        axes = drawing.add_subplot()
        axes.plot([0, 5, 10], [1.0, 3.0, 2.0], color="#0a0b14", label="run")
        axes.axhline(2, color="#0a0b10")
        axes.set_xlabel("training step")
        text = str(svg(drawing, "name", "alt"))
    (part,) = json.loads(text.split('data-lines="')[1].split('"')[0].replace("&quot;", '"'))
    (line,) = part["lines"]
    assert (part["x"], line["name"]) == ("training step", "run")
    assert [point[2:] for point in line["points"]] == [["0", "1"], ["5", "3"], ["10", "2"]]
    left, top, right, bottom = part["box"]
    places = np.array([point[:2] for point in line["points"]])
    assert (np.diff(places[:, 0]) > 0).all()
    assert places[1, 0] == pytest.approx((left + right) / 2, abs=0.2)
    assert places[:, 1].argmin() == 1
    assert ((places[:, 1] >= top) & (places[:, 1] <= bottom)).all()
