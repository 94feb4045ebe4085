"""Arrays are read from pickles of any age, and nothing else is run."""

import collections
import io
import os
import pickle
import pickletools

import numpy as np
import pytest

from tauten.data.array_pickle import read_array


def written(tmp_path, content):
    path = tmp_path / "relevancy.pkl"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "dtype", ["float64", "float32", "float16", ">f8", "uint8", "int64", "bool"]
)
def test_every_protocol_and_number(tmp_path, protocol, dtype):
    array = (np.arange(12).reshape(3, 4) % 5).astype(dtype)
    found = read_array(written(tmp_path, pickle.dumps(array, protocol)))
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype
    assert not found.flags.writeable


@pytest.mark.parametrize("protocol", range(6))
def test_columns_first(tmp_path, protocol):
    array = np.asfortranarray(np.arange(12.0).reshape(3, 4))
    np.testing.assert_array_equal(
        read_array(written(tmp_path, pickle.dumps(array, protocol))), array
    )


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_the_module_paths_of_old_numpy(tmp_path, protocol):
    """numpy 1 wrote numpy.core, numpy 2 writes numpy._core; lengths are part of the text in 4."""
    content = pickle.dumps(np.arange(6.0).reshape(2, 3), protocol)
    new, old = b"numpy._core.multiarray", b"numpy.core.multiarray"
    assert new in content
    content = content.replace(bytes([len(new)]) + new, bytes([len(old)]) + old).replace(new, old)
    if protocol == 4:  # the frame is one byte shorter
        content = content[:3] + (len(content) - 11).to_bytes(8, "little") + content[11:]
    pickletools.dis(content, out=io.StringIO())
    np.testing.assert_array_equal(
        read_array(written(tmp_path, content)), np.arange(6.0).reshape(2, 3)
    )


class Command:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize(
    ("thing", "name"),
    [
        (lambda path: Command(os.system, f"touch {path}"), "posix.system"),
        (lambda path: Command(eval, f"open({str(path)!r}, 'w')"), "eval"),
        (lambda path: [np.zeros(2), Command(os.mkdir, str(path))], "posix.mkdir"),
        (lambda path: collections.OrderedDict(a=1), "collections.OrderedDict"),
        (lambda path: np.random.default_rng(0), "numpy.random"),
    ],
)
def test_what_is_no_array_is_refused_by_name_and_not_run(tmp_path, protocol, thing, name):
    trace = tmp_path / "trace"
    path = written(tmp_path, pickle.dumps(thing(trace), protocol))
    with pytest.raises(ValueError, match=f"refused, nothing was run: it names .*{name}"):
        read_array(path)
    assert not trace.exists()


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_arrays_of_other_things_are_refused(tmp_path, protocol):
    for array in (
        np.array([None, 1], dtype=object),
        np.array(["a", "b"]),
        np.zeros(2, dtype=[("a", "f8"), ("b", "O")]),
        np.zeros(2, dtype="datetime64[s]"),
    ):
        with pytest.raises(ValueError, match="not of numbers"):
            read_array(written(tmp_path, pickle.dumps(array, protocol)))


def test_a_type_made_up_to_hide_objects_is_refused(tmp_path):
    """A dtype whose state declares fields over raw bytes, which numpy itself would trust."""
    state = (3, "<", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0)

    class Forged:
        def __reduce__(self):
            return np.dtype, ("f8", False, True), state

    class Array:
        def __reduce__(self):
            empty = np.array([]).__reduce__()
            return empty[0], empty[1], (1, (1,), Forged(), False, b"\x01" * 8)

    with pytest.raises(ValueError, match="not of numbers"):
        read_array(written(tmp_path, pickle.dumps(Array())))


def test_other_content_and_cut_files(tmp_path):
    for content in ({"a": 1}, [np.zeros(2)], "text"):
        with pytest.raises(ValueError, match="holds a .*, not one array of numbers"):
            read_array(written(tmp_path, pickle.dumps(content)))
    whole = pickle.dumps(np.arange(100.0))
    for cut in (b"", whole[:50], whole[:-20], b"PK\x03\x04 no pickle"):
        with pytest.raises(ValueError, match="no readable pickle.*download cut"):
            read_array(written(tmp_path, cut))
    with pytest.raises(FileNotFoundError):
        read_array(tmp_path / "none.pkl")
