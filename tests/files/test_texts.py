import numpy as np
import pytest

from tauten.files import packed, read_arrays, unpacked, write_npz

TEXTS = ["", "a", "ä😀", "x" * 3000, "", "with \0 and trailing \0"]


def test_texts_come_back(tmp_path):
    write_npz(tmp_path / "a.npz", {"y": np.zeros(2), **packed("captions", TEXTS)})
    found = read_arrays(tmp_path / "a.npz", ["captions", "y"])
    assert list(found["captions"]) == TEXTS
    assert found.keys() == {"captions", "y"}
    assert read_arrays(tmp_path / "a.npz", only=["captions"]).keys() == {"captions"}
    assert list(unpacked(packed("none", []))["none"]) == []


def test_one_long_text_does_not_lengthen_the_others():
    arrays = packed("captions", ["x" * 10**6, *["y"] * 1000])
    assert sum(array.nbytes for array in arrays.values()) < 1.1e6


def test_as_numpy_stores_them(tmp_path):
    np.savez(tmp_path / "a.npz", captions=np.array(["a", "bc"]))
    assert list(read_arrays(tmp_path / "a.npz")["captions"]) == ["a", "bc"]


@pytest.mark.parametrize("places", [[0, 9], [1, 3], [0, 3, 2, 3], [], [0.0, 3.0], None])
def test_what_does_not_fit_is_refused(places):
    arrays = {"a_utf8": np.zeros(3, np.uint8)}
    if places is not None:
        arrays["a_offsets"] = np.array(places)
    with pytest.raises(ValueError, match="do not fit together"):
        unpacked(arrays)
