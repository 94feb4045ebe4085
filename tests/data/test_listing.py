from pathlib import Path

import pytest

from tauten.data.listing import matches, split_names, tables_in, walk


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def names(files: list[Path]) -> list[str]:
    return [file.name for file in files]


def test_patterns(tmp_path: Path) -> None:
    folder = touch(tmp_path, "s-00.tar", "s-01.tar", "s-02.tar", "._s-03.tar", "b/x{1}.tar")
    assert names(matches(folder / "s-*.tar")) == ["s-00.tar", "s-01.tar", "s-02.tar"]
    assert names(matches(folder / "*.tar")) == ["s-00.tar", "s-01.tar", "s-02.tar"]
    assert names(matches(folder / "s-{01..02}.tar")) == ["s-01.tar", "s-02.tar"]
    assert names(matches(folder / "s-{02,00}.tar")) == ["s-02.tar", "s-00.tar"]
    assert names(matches(folder / "s-0[02].tar")) == ["s-00.tar", "s-02.tar"]
    assert names(matches(folder / "b" / "x{1}.tar")) == ["x{1}.tar"]
    assert names(matches(touch(tmp_path, "[v1]/s.tar") / "[v1]" / "*.tar")) == ["s.tar"]
    with pytest.raises(FileNotFoundError, match=r"no such file or folder: .*s-03\.tar"):
        matches(folder / "s-{02..04}.tar")


def test_parts_of_one_table(tmp_path: Path) -> None:
    folder = touch(tmp_path / "a", "train-00000-of-00002.parquet", "train-00001-of-00002.parquet")
    touch(folder, "0.parquet", "1.parquet", "c_2014.parquet", "c_2017.parquet", "val.csv", "x.txt")
    assert {name: len(files) for name, files in tables_in(folder).items()} == {
        "train": 2, ".parquet": 2, "c_2014.parquet": 1, "c_2017.parquet": 1, "val": 1,
    }  # fmt: skip
    (folder / "train-00000-of-00002.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"has 1 of the 2 parts of train, numbers 1:"):
        tables_in(folder)


def test_names_of_splits() -> None:
    assert split_names(["test", "train", "validation"]) == ["train", "validation", "test"]
    assert split_names(["val", "test"]) == []
    assert split_names(["train"]) == []
    assert split_names(["train", "val", "other"]) == []


def test_a_walk_says_what_it_does_not_follow(tmp_path: Path) -> None:
    folder = touch(tmp_path / "a", "b/1.png", ".h/2.png", "__MACOSX/3.png", "._4.png", "0.png")
    (folder / "5.png").symlink_to("gone.png")
    (folder / "6").symlink_to(touch(tmp_path / "c", "7.png"))
    found = walk(folder)
    assert names(found.files) == ["0.png", "1.png"]
    assert (names(found.broken), names(found.linked)) == (["5.png"], ["6"])
