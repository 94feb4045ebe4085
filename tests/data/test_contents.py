"""Every value of a data set is in the hash of its contents, wherever the pictures lie."""

import pytest
from datasets import Dataset, Features, Image, Value
from PIL import Image as Pictures

from tauten.data import contents

FEATURES = Features({"image": Image(), "caption": Value("string"), "kind": Value("string")})


def made(rows=300, at=None, **changed):
    pictures = [Pictures.new("RGB", (2, 2), (i % 256, i // 256, 0)) for i in range(rows)]
    table = [
        {"image": picture, "caption": f"caption {i}", "kind": "a"}
        for i, picture in enumerate(pictures)
    ]
    if at is not None:
        table[at] |= changed
    return Dataset.from_list(table, features=FEATURES)


@pytest.mark.parametrize("at", [1, 150, 299])
@pytest.mark.parametrize(
    "changed",
    [{"image": Pictures.new("RGB", (2, 2), (9, 9, 9))}, {"caption": "other"}, {"kind": "b"}],
)
def test_one_changed_value_changes_it(at, changed):
    assert contents(made()) == contents(made())
    assert contents(made(at=at, **changed)) != contents(made())


def test_order_and_number_of_rows_count():
    whole = made()
    assert contents(whole.select(range(299))) != contents(whole)
    assert contents(whole.select(range(299, -1, -1))) != contents(whole)


def test_the_place_of_pictures_does_not_count(tmp_path):
    found = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        Pictures.new("RGB", (2, 2)).save(folder / "x.png")
        table = [{"image": str(folder / "x.png"), "caption": "c", "kind": "a"}]
        found.append(contents(Dataset.from_list(table, features=FEATURES)))
    assert found[0] == found[1]
