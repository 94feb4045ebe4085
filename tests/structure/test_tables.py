import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tauten.structure.tables import read_rows, table_kind

ROWS = [{"caption": "a dog", "label": 1}, {"caption": "zwei Hünde", "label": 2}]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "tsv"])
def test_all_text_formats(tmp_path: Path, kind: str, packed: bool) -> None:
    tab = "\t" if kind == "tsv" else ","
    content = {
        "json": json.dumps(ROWS, ensure_ascii=False),
        "jsonl": "\n\n".join(json.dumps(row) for row in ROWS) + "\n",
    }.get(kind, f"caption{tab}label\na dog{tab}1\nzwei Hünde{tab}2\n")
    data = content.encode("utf-8-sig")
    path = tmp_path / (f"rows.{kind}.gz" if packed else f"rows.{kind}")
    path.write_bytes(gzip.compress(data) if packed else data)
    assert read_rows(path) == ROWS


def test_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    assert read_rows(tmp_path / "rows.parquet") == ROWS


def test_text_lines(tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_bytes(b"a dog\r\n\r\na \xe2\x80\xa8cat\r\n")
    lines = [row["caption"] for row in read_rows(tmp_path / "rows.txt", bare="caption")]
    assert lines == ["a dog", "", "a \u2028cat"]
    (tmp_path / "empty.txt").write_text("")
    assert read_rows(tmp_path / "empty.txt", bare="caption") == []


def test_bare_texts_in_json(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text('["a dog", {"c": "a cat"}]')
    assert read_rows(tmp_path / "rows.json", bare="c") == [{"c": "a dog"}, {"c": "a cat"}]
    with pytest.raises(ValueError, match=r"rows\.json, row 0: expected an object, found str"):
        read_rows(tmp_path / "rows.json")


def test_columns_of_a_csv_that_are_text(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text('caption,label\n007,1\n"two\nlines",2\nNA,3\n')
    rows = read_rows(tmp_path / "rows.csv", text=["caption", "absent"])
    assert [row["caption"] for row in rows] == ["007", "two\nlines", "NA"]
    assert [row["label"] for row in rows] == [1, 2, 3]


def test_kinds() -> None:
    kinds = {
        "a.CSV": ".csv",
        "a.json.gz": ".json",
        "a.parquet.gz": None,
        "a.tar": None,
        "a.gz": None,
    }
    assert {name: table_kind(Path(name)) for name in kinds} == kinds


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such file: .*rows\.csv"):
        read_rows(tmp_path / "rows.csv")


def test_a_folder_names_its_tables(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is a folder, a table is needed \(.*\): it holds none"):
        read_rows(tmp_path)
    for name in ("metadata.csv", "0.png"):
        (tmp_path / name).write_text("caption\na\n")
    with pytest.raises(ValueError, match=r"give one of its files: metadata\.csv$"):
        read_rows(tmp_path)


@pytest.mark.parametrize("name", ["rows.xlsx", "rows.txt", "rows"])
def test_file_that_is_no_table(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("x")
    with pytest.raises(ValueError, match=rf"{name}: not a table; expected one of \.parquet, \.csv"):
        read_rows(tmp_path / name)


def test_jsonl_that_breaks_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n\n{"a": \n')
    with pytest.raises(ValueError, match=r"rows\.jsonl:3: not valid JSON"):
        read_rows(tmp_path / "rows.jsonl")


def test_jsonl_of_other_values(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("[1]\n")
    with pytest.raises(ValueError, match=r"rows\.jsonl:1: expected an object, found list"):
        read_rows(tmp_path / "rows.jsonl")


def test_json_that_is_no_list_of_rows(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text('{"images": [], "annotations": []}')
    message = r"expected a list .* found an object with the keys \['annotations', 'images'\]"
    with pytest.raises(ValueError, match=message):
        read_rows(tmp_path / "rows.json")
    (tmp_path / "rows.json").write_text("3")
    with pytest.raises(ValueError, match=r"expected a list .* found 3"):
        read_rows(tmp_path / "rows.json")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_damaged_tables(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"rows.{kind}"
    path.write_text("a,b\n1,2\n1,2,3\n")
    with pytest.raises(ValueError, match=rf"rows\.{kind} is not a readable {kind} file"):
        read_rows(path)


def test_other_encodings(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_bytes('["Hünde"]'.encode("latin-1"))
    with pytest.raises(ValueError, match=r"rows\.json cannot be read as UTF-8 text"):
        read_rows(tmp_path / "rows.json")


def test_cut_gzip(tmp_path: Path) -> None:
    packed = gzip.compress(json.dumps(ROWS * 100).encode())
    (tmp_path / "rows.json.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(ValueError, match=r"rows\.json\.gz cannot be read"):
        read_rows(tmp_path / "rows.json.gz")


STRAY = ["", '"', "", "", "", '"']


def test_a_tsv_with_stray_quotes_keeps_its_rows(tmp_path: Path) -> None:
    lines = [f"{i}.png\t{quote}cup {i}\n" for i, quote in enumerate(STRAY)]
    (tmp_path / "rows.tsv").write_text("image\tcaption\n" + "".join(lines))
    rows = read_rows(tmp_path / "rows.tsv")
    assert [row["caption"] for row in rows] == [f"{q}cup {i}" for i, q in enumerate(STRAY)]


def test_a_tsv_whose_quotes_close_over_rows_keeps_its_rows(tmp_path: Path) -> None:
    (tmp_path / "rows.tsv").write_text('image\tcaption\n0.png\t"cup\n1.png\tmug"\n')
    assert [row["caption"] for row in read_rows(tmp_path / "rows.tsv")] == ['"cup', 'mug"']


def test_a_quoted_tsv_is_read_with_its_quotes(tmp_path: Path) -> None:
    (tmp_path / "rows.tsv").write_text('caption\tn\n"a ""red""\nmug"\t1\n')
    assert read_rows(tmp_path / "rows.tsv") == [{"caption": 'a "red"\nmug', "n": 1}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            'image,caption\n0.png,a\n1.png,"cup\n2.png,b\n',
            "line 3: a quote opens a cell that never",
        ),
        ('image,caption\n0.png,"a\n1.png,"b\n', r"line 2: .* text follows .* in line 3"),
        ('image,caption\n0.png,"a" b\n', "line 2: .* text follows"),
        ('image,caption\n0.png,x\n1.png,"a\n2.png,b"\n', r"line 3: .* holds line 4, '2\.png,b'"),
    ],
)
def test_a_csv_whose_quotes_contradict_themselves_names_the_line(
    tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "rows.csv").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_rows(tmp_path / "rows.csv")


def test_quotes_that_make_sense(tmp_path: Path) -> None:
    text = 'image,caption\n0.png,"one, two\nthree, four"\n1.png,5" pipe\n2.png,"a ""b"""\n'
    for content in (text, text.replace("\n", "\r\n"), "\ufeff" + text):
        (tmp_path / "rows.csv").write_text(content, newline="")
        captions = [row["caption"].replace("\r", "") for row in read_rows(tmp_path / "rows.csv")]
        assert captions == ["one, two\nthree, four", '5" pipe', 'a "b"']


def test_a_long_cell_and_late_types(tmp_path: Path) -> None:
    long = "x " * 600_000
    (tmp_path / "rows.csv").write_text(f'n,caption\n1,"{long}"\nx,b\n')
    rows = read_rows(tmp_path / "rows.csv")
    assert [row["n"] for row in rows] == ["1", "x"]
    assert rows[0]["caption"] == long


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_column_name_that_is_there_twice(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"rows.{kind}"
    if kind == "csv":
        path.write_text("a,b,a\n1,2,3\n")
    else:
        pq.write_table(pa.table([[1], [2], [3]], names=["a", "b", "a"]), path)
    with pytest.raises(ValueError, match="the column name 'a' is there twice"):
        read_rows(path)


def test_other_encodings_of_a_csv(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n", encoding="utf-16")
    with pytest.raises(ValueError, match="is UTF-16: save it as UTF-8"):
        read_rows(tmp_path / "rows.csv")


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 100_000])
@pytest.mark.parametrize("kind", ["json", "jsonl"])
def test_json_nested_beyond_reason(tmp_path: Path, kind: str, content: str) -> None:
    (tmp_path / f"rows.{kind}").write_text(content)
    with pytest.raises(ValueError, match="not valid JSON: brackets are nested too deeply"):
        read_rows(tmp_path / f"rows.{kind}")


def test_captions_in_the_layout_of_mscoco(tmp_path: Path) -> None:
    content = {
        "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 3, "file_name": "b.jpg"}],
        "annotations": [
            {"id": 1, "image_id": 3, "caption": "one"},
            {"id": 2, "image_id": 3, "caption": "two"},
        ],
    }
    (tmp_path / "rows.json").write_text(json.dumps(content))
    assert read_rows(tmp_path / "rows.json") == [
        {"file_name": "a.jpg", "caption": [], "id": 7},
        {"file_name": "b.jpg", "caption": ["one", "two"], "id": 3},
    ]
    (tmp_path / "rows.json").write_text(json.dumps(content | {"images": [{"id": 7}]}))
    with pytest.raises(ValueError, match="images need id and file_name"):
        read_rows(tmp_path / "rows.json")


def test_annotations_of_mscoco_that_no_picture_has_are_counted(tmp_path, caplog):
    content = {
        "images": [{"id": 7, "file_name": "a.jpg"}],
        "annotations": [
            {"image_id": name, "caption": "x"} for name in (7, 777, 777, 778, 779, 780, 781)
        ],
    }
    (tmp_path / "rows.json").write_text(json.dumps(content))
    with caplog.at_level("WARNING", logger="tauten.data"):
        assert read_rows(tmp_path / "rows.json") == [
            {"file_name": "a.jpg", "caption": ["x"], "id": 7}
        ]
    assert caplog.messages == [
        f"left out in {tmp_path / 'rows.json'}: 6 annotations without a picture (image_id 777, "
        "778, 779 and 2 more)"
    ]
    caplog.clear()
    content["annotations"] = [{"image_id": 7, "caption": "x"}, {"image_id": 7, "area": 1}]
    (tmp_path / "rows.json").write_text(json.dumps(content))
    with caplog.at_level("WARNING", logger="tauten.data"):
        read_rows(tmp_path / "rows.json")
    assert caplog.messages == [
        f"left out in {tmp_path / 'rows.json'}: 1 annotation without a caption"
    ]


@pytest.mark.parametrize(
    ("cells", "read"),
    [
        (["01", "1", "2", "2"], ["01", "1", "2", "2"]),
        (["123456789012345678901", "123456789012345678902", "7"] * 2, None),
        (["9007199254740993", "9007199254740992", "1.5"] * 2, None),
        (["9007199254740993", "9007199254740992"] * 2, [9007199254740993, 9007199254740992] * 2),
        (["1", "2", "2", "NA"], [1, 2, 2, None]),
        (["007", "008", "007"], [7, 8, 7]),
        (["0.5", "0.50", "1", "1"], ["0.5", "0.50", "1", "1"]),
        (["3.1", "3.10", "3.2"], ["3.1", "3.10", "3.2"]),
        (["0.5", "0.5", "1.0", "1"], [0.5, 0.5, 1.0, 1.0]),
        (["01", "1", "", "NA"], ["01", "1", None, None]),
    ],
)
def test_different_numbers_of_a_csv_stay_different(tmp_path, cells, read):
    path = tmp_path / "rows.csv"
    path.write_text("caption,label\n" + "".join(f"a,{cell}\n" for cell in cells))
    assert [row["label"] for row in read_rows(path)] == (cells if read is None else read)


@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_cells_that_say_nothing_are_missing(tmp_path: Path, kind: str) -> None:
    cells = ["NaN", "nan", "null", "", "None", "NULL", "NA", " nan", "Nan bread", "dog"]
    tab = "," if kind == "csv" else "\t"
    lines = [tab.join(("caption", "label", "n")), *(f"{c}{tab}{c}{tab}7" for c in cells)]
    (tmp_path / f"rows.{kind}").write_text("\n".join(lines) + "\n")
    rows = read_rows(tmp_path / f"rows.{kind}", text=["caption"])
    assert [row["caption"] for row in rows] == [None, None, *cells[2:]]
    assert [row["label"] for row in rows] == [None, None, None, *cells[3:]]
    assert [row["n"] for row in rows] == [7] * len(cells)
    again = read_rows(tmp_path / f"rows.{kind}", text=["caption", "label"], classes=["label"])
    assert again == rows


def test_a_json_keeps_the_texts_it_holds(tmp_path: Path) -> None:
    rows = [{"caption": "nan", "label": "null"}, {"caption": None, "label": None}]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    assert read_rows(tmp_path / "rows.json", text=["caption"]) == rows
