"""Two files of embeddings with a table are evaluated as the trainer evaluates."""

import io
import json

import numpy as np
import pytest
import torch

import tauten as tt
from tauten.cli import main
from tauten.data import emoji_lt
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
        (x, y[:2], None, {}, "x has 3 rows and y 2: without a table row i of both is a pair"),
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
        "that is no run: a run keeps those": ["evaluate", "run", "--head", "3"],
    }
    for message, line in refused.items():
        assert main(line) == 1
        assert message in capsys.readouterr().err


def test_floats_of_any_width_and_byte_order(tmp_path):
    x, y = _pair()
    expected = evaluate_files(x, y, bootstrap=0)
    for dtype in (">f4", ">f8", np.longdouble):
        assert evaluate_files(x.astype(dtype), y, bootstrap=0) == pytest.approx(expected)
    assert evaluate_files(x[::-1], y[::-1], bootstrap=0) == pytest.approx(expected, rel=1e-5)
    for dtype in (object, "U3", int):
        with pytest.raises(ValueError, match="x must hold floats, got"):
            evaluate_files(x.astype(dtype), y)
    (tmp_path / "empty.npy").touch()
    with pytest.raises(ValueError, match="empty.npy is no readable .npy file"):
        evaluate_files(tmp_path / "empty.npy", y)


def test_files_that_hold_no_array_are_named(tmp_path):
    path, (_, y) = tmp_path / "a.npy", _pair()
    np.save(path, y)
    content = path.read_bytes()
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 9), }"
    vast = content[:8] + len(header).to_bytes(2, "little") + header
    objects, archive = io.BytesIO(), io.BytesIO()
    np.save(objects, np.array([print], dtype=object), allow_pickle=True)
    np.savez(archive, y)
    for damaged in (vast, content[:-3], objects.getvalue(), archive.getvalue(), b"[" * 300):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="x=.*a.npy is no readable .npy file: ") as caught:
            evaluate_files(path, y)
        assert "\n" not in str(caught.value)
        assert "allow_pickle=True" not in str(caught.value)


def test_embeddings_of_data_without_classes_are_evaluated(run, tmp_path):
    data = emoji_lt("val").select(range(12)).select_columns(["image", "caption"])
    found = embed(run, data, tmp_path / "e", progress=False)
    files = [tmp_path / "e" / name for name in ("images.npy", "texts.npy", "images.parquet")]
    numbers = evaluate_files(*files, bootstrap=0)
    assert numbers["x2y/n"] == len(found.images)
    with pytest.raises(ValueError, match="12 of 12 samples .* have no class"):
        evaluate_files(*files, label="label")


@pytest.mark.parametrize("image", ["image", "file_name", "x"])
@pytest.mark.parametrize("caption", ["caption", "captions", "text"])
def test_names_that_look_like_numbers_are_texts(tmp_path, image, caption):
    path = tmp_path / "table.csv"
    names = ("1", "1.0", "2", "2.50")
    path.write_text("\n".join([f"{image},{caption}", *(f"{n},{n}" for n in names)]))
    rows = np.eye(4, dtype=np.float32)
    numbers = evaluate_files(rows, rows, path, bootstrap=0)
    assert (numbers["x2y/n"], numbers["y2x/n"]) == (4, 4)


def test_cells_that_name_nothing(tmp_path, caplog):
    x, y = _pair()
    table = tmp_path / "table.jsonl"

    def run_on(**cells):
        rows = [{"image": f"i{r}", "caption": f"c{r}"} for r in range(len(x))]
        rows[2] |= cells
        table.write_text("\n".join(map(json.dumps, rows)))
        return evaluate_files(x, y, table, bootstrap=0)

    for cells, said in [
        ({"image": {"path": "a"}}, "row 2: a picture is a text or a number, one is of type dict"),
        ({"image": ["a"]}, "row 2: a picture .* list"),
        ({"caption": [["a"]]}, "row 2: a caption .* list"),
        ({"caption": {"en": "a"}}, "row 2: a caption .* dict"),
        ({"caption": ["a", " "]}, "row 2: a caption .* blank"),
    ]:
        with pytest.raises(ValueError, match=said):
            run_on(**cells)
    assert run_on(image=2, caption=2)["x2y/n"] == len(x)

    rows = [{"image": "i", "label": name} for name in "aab"] + [{"image": "j", "label": "a"}]
    table.write_text("\n".join(map(json.dumps, rows)))
    evaluate_files(x[:2], y[:4], table, bootstrap=0, groups="counts")
    assert "1 of 2 pictures" in caplog.text
    assert "first: row 2" in caplog.text
    with pytest.raises(ValueError, match="groups is counts or thirds, got 'foo'"):
        evaluate_files(x, y, groups="foo")
    with pytest.raises(ValueError, match="x has 4 rows and y 3: without a table row i of both"):
        evaluate_files(x[:4], y[:3])


def _pair():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(8, 5)).astype(np.float32)
    return x, (x + 0.1 * generator.normal(size=x.shape)).astype(np.float32)
