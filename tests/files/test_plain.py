"""Damaged files, and files made to harm, end in one line that names them."""

import gc
import struct
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tauten.files import (
    need,
    parse_yaml,
    read_arrays,
    read_json,
    read_lines,
    read_tensors,
    read_yaml,
)

BOMB = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


def refused(read, path, match=""):
    with pytest.raises(ValueError, match=match) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b"", "not valid JSON"),
        (b'{"a": ', "not valid JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"\xff\xfe\x00", "no UTF-8"),
        (b"1" * 5000, "not valid JSON"),
    ],
)
def test_json(tmp_path, text, match):
    (tmp_path / "a.json").write_bytes(text)
    refused(read_json, tmp_path / "a.json", match)


def test_a_damaged_archive_is_closed(tmp_path):
    np.savez(tmp_path / "whole.npz", a=np.arange(99))
    path = tmp_path / "cut.npz"
    path.write_bytes((tmp_path / "whole.npz").read_bytes()[:-50])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        refused(read_arrays, path, "damaged or no file of arrays")
        gc.collect()
    assert [str(w.message) for w in caught if path.name in str(w.message)] == []


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (BOMB, "refers to a part of itself"),
        ("a: &a [*a]", "refers to a part of itself"),
        ("[" * 3000 + "]" * 3000, "nested too deeply"),
        ("a: [1", "not valid YAML"),
        ("a: !!python/object/apply:os.system [echo]", "not valid YAML"),
        ("a: \0", "not valid YAML"),
        ("a: {b: 1}\nc: 2\na: {d: 1}", r"'a' stands there twice: keep one of them.*line 3"),
    ],
)
def test_yaml(tmp_path, text, match):
    (tmp_path / "a.yaml").write_text(text)
    refused(read_yaml, tmp_path / "a.yaml", match)


def test_plain_yaml_is_read():
    text, plain = "a: [1, x]\nb: &unused {c: null}", {"a": [1, "x"], "b": {"c": None}}
    found = parse_yaml(text, "it")
    assert found == plain
    found["b"].clear()  # what a reader changes is its own
    assert parse_yaml(text, "it") == plain


def test_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n\n{"a": 2}\n{"a"')
    assert read_lines(path) == [{"a": 1}, {"a": 2}]
    path.write_text('{"a": 1}\n[1]\n')
    refused(read_lines, path, "line 2, is damaged")
    path.write_text('{"a": 1}\n{"a\n{"a": 2}\n')
    refused(read_lines, path, "line 2, is not valid JSON")


def arrays(path):
    np.savez(path, x=np.arange(400.0), y=np.array(["a", "b"]))


def test_arrays(tmp_path):
    path = tmp_path / "a.npz"
    arrays(path)
    whole = path.read_bytes()
    assert read_arrays(path, ["x"], only=["x"]).keys() == {"x"}
    refused(lambda p: read_arrays(p, ["z"]), path, "lacks z")
    flipped = bytearray(whole)
    flipped[1000] ^= 1
    kinds = [b"", whole[:100], whole[: len(whole) // 2], bytes(flipped), b"\0" * 500, b"{}"]
    for content in kinds:
        path.write_bytes(content)
        refused(read_arrays, path, "damaged or no file of arrays")
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    refused(read_arrays, path, "one array")
    np.savez(path, x=np.array([{"a": 1}], dtype=object))
    refused(read_arrays, path, "damaged or no file of arrays")
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "none.npz")


def test_tensors(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.arange(100.0)}, path)
    whole = path.read_bytes()
    assert torch.equal(read_tensors(path)["a"], torch.arange(100.0))
    header = bytearray(whole)
    header[12] ^= 4
    deep = b"[" * 100_000
    for content in (
        b"",
        whole[:50],
        bytes(len(whole)),
        bytes(header),
        struct.pack("<Q", len(deep)) + deep,
    ):
        path.write_bytes(content)
        refused(read_tensors, path, "damaged or no file of tensors")


def test_needed_fields():
    need({"a": 1, "b": "x"}, {"a": int, "b": (str, type(None))}, "it")
    for record, match in (([], "no record"), ({}, "lacks a"), ({"a": "1"}, "a is str '1'")):
        with pytest.raises(ValueError, match=match):
            need(record, {"a": int}, "it")
