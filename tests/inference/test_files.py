"""Two files of embeddings with a table are evaluated as the trainer evaluates."""

import json

import numpy as np
import pytest
import torch

import tauten as tt
from tauten.cli import main
from tauten.inference import embed, evaluate_files

#: rows of one picture, equal captions of two pictures
ROWS = [
    ("a", "red", "p", 200),
    ("a", "round", "p", 200),
    ("b", "red", "q", 5),
    ("c", "blue", "r", 40),
]


def saved(tmp_path, name, rows):
    np.save(tmp_path / name, rows.numpy())
    return tmp_path / name


def table(tmp_path, rows=ROWS, head="image,caption,kind,size"):
    path = tmp_path / "table.csv"
    path.write_text("\n".join([head, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def test_numbers_are_those_of_evaluation(tmp_path):
    x, y = torch.randn(3, 6), torch.randn(3, 6)
    y_of_x = [[0, 1], [0], [2]]
    groups = ["head", "tail", "mid"]
    wanted = tt.evaluation.retrieval(
        x, y, y_of_x, groups=groups, group_of_y=["head", "head", "mid"], bootstrap=50
    )
    shape = tt.evaluation.geometry(x, y, None, y_of_x=y_of_x)
    names = {"label": "kind", "count": "size", "bootstrap": 50}
    distinct = evaluate_files(
        saved(tmp_path, "x.npy", x), saved(tmp_path, "y.npy", y), table(tmp_path), **names
    )
    by_row = evaluate_files(x[[0, 0, 1, 2]], y[[0, 1, 0, 2]], table(tmp_path), **names)
    for found in (distinct, by_row):
        assert {name: found[name] for name in wanted} == pytest.approx(wanted, nan_ok=True)
        assert found["geometry/alignment"] == pytest.approx(shape["alignment"], abs=1e-6)
        hits = [wanted[f"{way}/hit@{k}"] for way in ("x2y", "y2x") for k in (1, 5, 10)]
        assert found["mean_recall"] == pytest.approx(sum(hits) / 6)


def test_without_a_table_row_i_of_both_is_a_pair():
    x = torch.randn(5, 4)
    y = x + 0.5 * torch.randn(5, 4)
    found = evaluate_files(x, y, bootstrap=0)
    wanted = tt.evaluation.retrieval(x, y, torch.arange(5), bootstrap=0)
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, nan_ok=True)


def test_what_embed_writes_is_evaluated_as_the_run_is(run, tmp_path, capsys):
    folder, output = tmp_path / "e", tmp_path / "metrics.json"
    embed(run, output=folder, progress=False)
    wanted = tt.training.evaluate(run, bootstrap=0)
    words = ["--x", folder / "images.npy", "--y", folder / "texts.npy"]
    words += ["--table", folder / "images.parquet", "--bootstrap", 0, "--output", output]
    assert main(["evaluate", *map(str, words)]) == 0
    found = json.loads(output.read_text())
    plain = [name for name in wanted if name.split("/")[-1] not in ("head", "mid", "tail")]
    assert {name: found[name] for name in plain} == pytest.approx(
        {name: wanted[name] for name in plain}, nan_ok=True, abs=1e-6
    )
    assert "x2y/hit@1" in capsys.readouterr().out


def test_classes_are_counted_where_no_count_is_given(tmp_path):
    rows = [(i, f"text {i}", "pqr"[min(i // 3, 2)], 0) for i in range(9)]
    x = torch.randn(9, 4)
    found = evaluate_files(x, x, table(tmp_path, rows), label="kind", head=4, tail=3, bootstrap=0)
    assert found["x2y/n/mid"] == 9
    found = evaluate_files(x, x, table(tmp_path, rows), label="kind", groups="thirds", bootstrap=0)
    assert [found[f"x2y/n/{name}"] for name in ("head", "mid", "tail")] == [3, 3, 3]


def test_what_does_not_fit(tmp_path, capsys):
    x, y, path = torch.randn(3, 4), torch.randn(3, 4), tmp_path / "table.csv"
    whole, columns = {"label": "kind", "count": "size"}, "image, caption, kind, size"
    usual = ("c", "blue", "r", 40)
    cases = [
        (x[:2], y, usual, {}, "x has 2 rows, and .* names 4 pictures, 3 of them different"),
        (x, y[:2], usual, {}, "y has 2 rows, and .* names 4 captions, 3 of them different"),
        (x, y, usual, {"label": "no"}, f"no label column 'no' .* columns: {columns}"),
        (x, y, usual, {"image": "no"}, "no image column 'no'"),
        (x, y, usual, {"count": "size"}, "count='size' needs classes: give label"),
        (x, y, ("c", "blue", "p", 7), whole, "row 3: the class 'p' has size=7, before it was 200"),
        (x, y, ("c", "blue", "r", "x"), whole, "row 3: size='x' is no whole number"),
        (x, y, ("c", "", "r", 3), whole, "1 of 4 rows .* nothing in the column 'caption'.* row 3"),
        (x.long(), y, None, {}, "x must hold floats, got torch.int64"),
        (x[0], y, None, {}, r"x must be a matrix \(rows, width\)"),
        (x, y[:2], None, {}, "y has 2 rows, and the pairs names 3 captions"),
        (tmp_path / "no.npy", y, None, {}, "x=.*no.npy is no file: give a .npy file"),
        (path, y, None, {}, "x=.*table.csv is no readable .npy file"),
    ]
    for given_x, given_y, last, options, message in cases:
        given = None if last is None else table(tmp_path, [*ROWS[:3], last])
        with pytest.raises(ValueError, match=message):
            evaluate_files(given_x, given_y, given, bootstrap=0, **options)
    refused = {
        "give a run or checkpoint, or two files": ["evaluate"],
        "--y is missing": ["evaluate", "--x", "a.npy"],
        "a run and --x, --y exclude each other": [
            "evaluate",
            "run",
            "--x",
            "a.npy",
            "--y",
            "b.npy",
        ],
        "are of --x and --y: a run keeps those": ["evaluate", "run", "--head", "3"],
    }
    for message, line in refused.items():
        assert main(line) == 1
        assert message in capsys.readouterr().err
