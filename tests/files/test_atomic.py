"""Files are whole or not there, and never written through a link."""

import errno
import os

import numpy as np
import pytest

from tauten.files import (
    make_folder,
    naming,
    remove_parts,
    remove_unused,
    replace_text,
    replacing,
    write_npz,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "a.json"
    replace_text(path, "old ä")
    replace_text(path, "new ä")
    assert path.read_text("utf-8") == "new ä"
    assert names(tmp_path) == ["a.json"]


def test_an_error_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "a.json"
    replace_text(path, "old")
    with pytest.raises(TypeError), replacing(path) as file:
        file.writelines([b"half", None])
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.json"]


def test_errors_name_the_file_and_not_its_draft(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        replace_text(tmp_path / "no" / "a.json", "x")
    assert caught.value.filename == str(tmp_path / "no" / "a.json")


def test_the_mode_is_that_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    replace_text(tmp_path / "ours", "")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("write", [replace_text, lambda p, _: write_npz(p, {"a": np.zeros(2)})])
def test_no_link_is_followed(tmp_path, write):
    """Neither one in the place of the file nor one with the name that drafts once had."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    path = tmp_path / "folder" / "config.yaml"
    path.parent.mkdir()
    for name in ("config.yaml", ".config.yaml.part", "config.yaml.part"):
        (path.parent / name).symlink_to(victim)
    write(path, "theirs")
    assert victim.read_text() == "mine"
    assert path.is_file()
    assert not path.is_symlink()


def test_drafts_have_names_that_differ(tmp_path):
    with replacing(tmp_path / "a"), replacing(tmp_path / "a"):
        assert len(set(names(tmp_path))) == 2


def test_drafts_of_a_kill_are_removed_and_links_not_followed(tmp_path):
    (tmp_path / ".a.json.0123.part").write_text("half")
    (tmp_path / "kept").write_text("whole")
    (tmp_path / ".b.part").symlink_to(tmp_path / "kept")
    remove_parts(tmp_path)
    assert names(tmp_path) == ["kept"]


def test_file_and_folder_are_flushed_before_and_after_the_rename(tmp_path, monkeypatch):
    order = []
    sync, replace = os.fsync, type(tmp_path).replace
    monkeypatch.setattr(
        os, "fsync", lambda fd: (order.append("folder" if is_folder(fd) else "file"), sync(fd))
    )
    monkeypatch.setattr(
        type(tmp_path), "replace", lambda *a: (order.append("rename"), replace(*a))[1]
    )
    replace_text(tmp_path / "a", "text")
    assert order == ["file", "rename", "folder"]


def is_folder(handle):
    import stat

    return stat.S_ISDIR(os.fstat(handle).st_mode)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_named_with_the_file(tmp_path, error):
    path = tmp_path / "model"
    with pytest.raises(OSError, match="No space left on device.*model"), replacing(path):
        raise error
    assert names(tmp_path) == []


def test_the_stream_error_of_torch_on_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("tauten.files.atomic._is_full", lambda path: True)
    with pytest.raises(OSError, match="No space left on device"), naming(tmp_path):
        raise RuntimeError("basic_ios::clear: iostream error")


def test_other_errors_are_left_as_they_are(tmp_path):
    with pytest.raises(RuntimeError, match="shapes"), naming(tmp_path):
        raise RuntimeError("shapes")


def test_folders_are_made_and_removed_if_unused(tmp_path):
    made = make_folder(tmp_path / "a" / "b")
    assert make_folder(tmp_path / "a" / "b") == []
    (tmp_path / "a" / "other").touch()
    remove_unused(made)
    assert names(tmp_path / "a") == ["other"]


def test_a_dangling_link_and_a_file_are_no_folder(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"link is a link to .*nowhere, which does not exist"):
        make_folder(tmp_path / "link")
    with pytest.raises(ValueError, match="file is a file, not a folder"):
        make_folder(tmp_path / "file" / "run")
