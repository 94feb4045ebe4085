"""Paths that begin with ~."""

from pathlib import Path

import pytest

from tauten.data import load_pairs
from tauten.files import expanded


def test_the_home_folder_takes_its_place(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/a") == tmp_path / "a"
    assert expanded("a/~") == Path("a/~")


@pytest.mark.parametrize("read", [expanded, load_pairs])
def test_a_user_that_is_not_there_is_named(read):
    with pytest.raises(ValueError, match=r"~no-such-user/a.csv: no home folder is known"):
        read("~no-such-user/a.csv")
