from pathlib import Path

import pytest

from tauten.data.readers import read


def test_stray_quotes_in_the_table(tmp_path: Path) -> None:
    rows = [f"{i}.png\t{quote}cup {i}\n" for i, quote in enumerate(("", '"', "", '"'))]
    (tmp_path / "cc.tsv").write_text("filepath\ttitle\n" + "".join(rows))
    entries = read("cc3m", tmp_path).splits["train"]
    assert [entry.captions for entry in entries] == [
        ("cup 0",), ('"cup 1',), ("cup 2",), ('"cup 3',),
    ]  # fmt: skip
    (tmp_path / "cc.tsv").unlink()
    (tmp_path / "cc.csv").write_text('filepath,title\n0.png,"cup\n1.png,b\n')
    with pytest.raises(ValueError, match=r"cc\.csv, line 2: a quote opens a cell that never ends"):
        read("cc3m", tmp_path)
