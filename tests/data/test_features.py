import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tauten.data import emoji_lt, images
from tauten.data.features import load_features


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    """Mean colours of an 4 x 4 grid on 20 real drawings: (20, 48) float32."""
    pixels = images(emoji_lt("val").select(range(20)), 4)
    return (pixels.flatten(1).float() / 255).numpy()


def write_tar(path: Path, rows: np.ndarray, extension: str = "npy", start: int = 0) -> Path:
    with tarfile.open(path, "w") as tar:
        for k, row in enumerate(rows, start):
            buffer = io.BytesIO()
            np.save(buffer, row)
            info = tarfile.TarInfo(f"sample{k}.{extension}")
            info.size = buffer.tell()
            buffer.seek(0)
            tar.addfile(info, buffer)
    return path


def write(folder: Path, kind: str, rows: np.ndarray) -> Path:
    if kind == "npy":
        np.save(folder / "a.npy", rows)
        return folder / "a.npy"
    if kind == "safetensors":
        save_file({"video": torch.from_numpy(rows)}, folder / "a.safetensors")
        return folder / "a.safetensors"
    return write_tar(folder / "a.tar", rows)


every_kind = pytest.mark.parametrize("kind", ["npy", "safetensors", "tar"])


@every_kind
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_kind_gives_the_same_rows(tmp_path, rows, kind, dtype):
    table = load_features(write(tmp_path, kind, rows.astype(dtype)), dim=48)
    assert (len(table), table.dim, table.rows.dtype) == (20, 48, dtype)
    assert np.array_equal(table.rows, rows.astype(dtype))
    names = [f"sample{k}" for k in range(20)] if kind == "tar" else [str(k) for k in range(20)]
    assert list(table.ids) == names


@pytest.mark.parametrize("kind", ["npy", "safetensors"])
def test_files_are_mapped_not_loaded(tmp_path, rows, kind):
    table = load_features(write(tmp_path, kind, rows))
    assert isinstance(table.rows, np.memmap)
    assert not table.rows.flags.writeable


@every_kind
def test_clips_keep_their_time_axis(tmp_path, rows, kind):
    table = load_features(write(tmp_path, kind, rows.reshape(20, 4, 12)), dim=12)
    assert table.rows.shape == (20, 4, 12)
    assert table.select(table.ids[3:5]).shape == (2, 4, 12)


def test_rows_are_selected_by_name_in_order(tmp_path, rows):
    table = load_features(write(tmp_path, "npy", rows), ids=[f"clip{k}" for k in range(20)])
    chosen = table.select(["clip7", "clip0", "clip7"])
    assert torch.equal(chosen, torch.from_numpy(rows[[7, 0, 7]]))
    with pytest.raises(ValueError, match=r"1 of 2 samples have no features: \['clip20'\]"):
        table.select(["clip20", "clip1"])


def test_names_lie_beside_the_file_or_in_a_given_one(tmp_path, rows):
    file = write(tmp_path, "npy", rows)
    names = [f"clip{k}" for k in range(20)]
    (tmp_path / "a.ids.txt").write_text("\n".join(names) + "\n")
    assert list(load_features(file).ids) == names
    (tmp_path / "others.txt").write_text("\n".join(names[::-1]))
    assert list(load_features(file, ids=tmp_path / "others.txt").ids) == names[::-1]


def test_a_folder_of_shards_is_one_table(tmp_path, rows):
    write_tar(tmp_path / "1.tar", rows[12:], start=12)
    write_tar(tmp_path / "0.tar", rows[:12])
    table = load_features(tmp_path)
    assert np.array_equal(table.rows, rows)
    assert table.ids[-1] == "sample19"


def test_the_fingerprint_is_of_values_names_and_shape(tmp_path, rows):
    def fingerprint(values: np.ndarray, **options) -> str:
        return load_features(write(tmp_path, "npy", values), **options).fingerprint

    first = fingerprint(rows)
    assert first == fingerprint(rows)
    changed = rows.copy()
    changed[13, 2] += 1e-3
    names = [f"clip{k}" for k in range(20)]
    others = [
        fingerprint(changed),
        fingerprint(rows, ids=names),
        fingerprint(rows.astype(np.float64)),
        fingerprint(rows.reshape(20, 4, 12)),
        fingerprint(rows[:-1]),
    ]
    assert len({first, *others}) == 6


@every_kind
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_named(tmp_path, rows, kind, bad):
    changed = rows.copy()
    changed[13, 2] = bad
    with pytest.raises(ValueError, match=r"features of (sample)?13 \(row 13\) are not finite"):
        load_features(write(tmp_path, kind, changed))


def test_wrong_widths_types_and_names_are_refused(tmp_path, rows):
    file = write(tmp_path, "npy", rows)
    with pytest.raises(ValueError, match="rows are 48 wide, expected 512"):
        load_features(file, dim=512)
    with pytest.raises(ValueError, match="20 rows need as many different ids, found 3, 3 differ"):
        load_features(file, ids=["a", "b", "c"])
    with pytest.raises(ValueError, match="found 20, 1 different"):
        load_features(file, ids=["a"] * 20)
    for values in (rows.astype(np.int64), rows[:, 0]):
        with pytest.raises(ValueError, match="expected floats"):
            load_features(write(tmp_path, "npy", values))


def test_one_of_several_tensors_must_be_named(tmp_path, rows):
    file = tmp_path / "two.safetensors"
    save_file({"video": torch.from_numpy(rows), "text": torch.from_numpy(rows + 1)}, file)
    assert np.array_equal(load_features(file, key="text").rows, rows + 1)
    for key, words in ((None, "holds 2 tensors"), ("audio", "no tensor 'audio'")):
        with pytest.raises(ValueError, match=words):
            load_features(file, key=key)
    save_file({"video": torch.from_numpy(rows).bfloat16()}, file)
    with pytest.raises(ValueError, match="video is BF16"):
        load_features(file)


def test_members_of_a_tar_must_agree(tmp_path, rows):
    write_tar(tmp_path / "0.tar", rows)
    with pytest.raises(ValueError, match=r"sample0 has no \.clip\.npy, only npy"):
        load_features(tmp_path, key="clip.npy")
    write_tar(tmp_path / "1.tar", rows[:, :7], start=20)
    with pytest.raises(ValueError, match=r"sample20 is float32 of \(7,\), sample0 is"):
        load_features(tmp_path)
    with pytest.raises(ValueError, match="have the ids of their members"):
        load_features(tmp_path, ids=["a"])


def test_broken_and_missing_files_are_named(tmp_path, rows):
    for kind in ("npy", "safetensors", "tar"):
        file = write(tmp_path, kind, rows)
        file.write_bytes(file.read_bytes()[:200])
        with pytest.raises(ValueError, match=file.name):
            load_features(file)
    (tmp_path / "a.pt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"must be \.npy, \.safetensors or \.tar"):
        load_features(tmp_path / "a.pt")
    with pytest.raises(FileNotFoundError, match=r"b\.npy"):
        load_features(tmp_path / "b.npy")


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ({"x": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 12]}}, "needs 24 bytes"),
        ({"x": {"dtype": "F32", "shape": [-2, -3], "data_offsets": [0, 24]}}, "is damaged"),
        ({"x": {"dtype": "F32", "shape": [2, 3], "data_offsets": [-24, 0]}}, "is damaged"),
        ({"x": {"dtype": "F32", "shape": "ab", "data_offsets": [0, 24]}}, "needs dtype, shape"),
        ({"x": [1]}, "needs dtype, shape"),
        ([1], "its header is no object"),
    ],
)
def test_a_damaged_header_of_safetensors(tmp_path, header, problem):
    content = json.dumps(header).encode()
    file = tmp_path / "x.safetensors"
    file.write_bytes(len(content).to_bytes(8, "little") + content + bytes(24))
    with pytest.raises(ValueError, match=problem):
        load_features(file, progress=False)
