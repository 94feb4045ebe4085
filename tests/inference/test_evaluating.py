"""Models that were never trained here are evaluated on any pairs."""

import csv
import json

import pytest
import torch

import tauten as tt
from tauten.cli import main
from tauten.inference import evaluate_model

from ..models.conftest import clip

KINDS = ("cat", "cat", "cat", "cat", "cat", "cat", "dog", "dog", "dog", "dog", "newt", "newt")


@pytest.fixture
def saved_clip(saved_as):
    return saved_as(clip())


@pytest.fixture
def table(folder_of_pairs):
    """One row a caption, two captions of each picture, and its class; their names in order."""
    folder, pictures = folder_of_pairs
    path = folder / "rows.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["picture", "words", "kind"])
        for (name, text), kind in zip(pictures, KINDS, strict=True):
            rows.writerows([[name, text, kind], [name, f"{text}, again", kind]])
    return path, [folder / name for name, _ in pictures], [text for _, text in pictures]


def test_a_clip_has_the_numbers_of_its_own_embeddings(saved_clip, table, tmp_path, capsys):
    path, files, texts = table
    model = tt.load(saved_clip)
    both = [text for one in texts for text in (one, f"{one}, again")]
    pairs = [[2 * i, 2 * i + 1] for i in range(len(files))]
    of_count = {"cat": "head", "dog": "mid", "newt": "tail"}
    wanted = tt.evaluation.retrieval(
        model.encode_image(files),
        model.encode_text(both),
        pairs,
        groups=[of_count[kind] for kind in KINDS],
        bootstrap=0,
    )
    output = tmp_path / "numbers.json"
    words = ["evaluate", saved_clip, "--data", path, "--output", output, "--bootstrap", 0]
    words += ["--image", "picture", "--caption", "words", "--label", "kind"]
    words += ["--report", tmp_path / "page"]
    assert main([*map(str, words), "--head", "5", "--tail", "3"]) == 0
    found = json.loads(output.read_text("utf-8"))
    assert wanted["x2y/n/head"] == 6
    names = [name for name in wanted if name.startswith("x2y/")]
    assert {name: found[name] for name in names} == pytest.approx(
        {name: wanted[name] for name in names}
    )
    assert found["y2x/n"] == 24
    assert "rows.csv" in (tmp_path / "page" / "report.html").read_text("utf-8")
    shown = capsys.readouterr().out
    assert shown.splitlines()[0].split() == ["percent", "all", "head", "mid", "tail"]


class TextTower(torch.nn.Module):
    """Counts of letters."""

    def forward(self, texts):
        letters = "abcdefghijklmnopqrstuvwxyz"
        return torch.tensor([[1.0 + text.count(sign) for sign in letters] for text in texts])


def test_a_model_of_texts_alone_is_evaluated_on_two_columns_of_texts(tmp_path):
    from tauten.inference.model import Model, Towers

    tower = TextTower()
    model = Model("letters", Towers(tower, 26, texts=tower))
    questions = ["aab", "bbc", "ccd", "aab"]
    answers = ["baa", "cbb", "dcc", "aba"]
    path = tmp_path / "texts.csv"
    rows = [["question", "answer"], *map(list, zip(questions, answers, strict=True))]
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    found = evaluate_model(model, path, bootstrap=0)
    x, y = (torch.nn.functional.normalize(tower(side), dim=1) for side in (questions[:3], answers))
    wanted = tt.evaluation.retrieval(x, y, [[0, 3], [1], [2]], bootstrap=0)
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, nan_ok=True)
    with pytest.raises(ValueError, match="embeds texts alone, and .* has no column nothing"):
        evaluate_model(model, path, image="nothing")
    with pytest.raises(ValueError, match="embeds texts alone: give a .csv"):
        evaluate_model(model, tmp_path)


def test_what_cannot_be_evaluated_is_refused(saved_clip, table, capsys):
    path = str(table[0])
    refused = {
        "is no run with data of its own: give --data": [],
        "--count is of --table, and --protocol of a run": ["--data", path, "--count", "n"],
        "--negatives is of a run": ["--data", path, "--negatives", "n"],
        "12 of 12 pictures of": ["--data", str(table[0].parent / "bare")],
    }
    bare = table[0].parent / "bare"
    bare.mkdir()
    for file in table[1]:
        (bare / file.name).write_bytes(file.read_bytes())
    for message, words in refused.items():
        assert main(["evaluate", str(saved_clip), *words]) == 1
        assert message in capsys.readouterr().err
