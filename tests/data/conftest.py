"""Shards written for a test."""

import io
import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from tauten.data import emoji_lt

Members = dict[str, bytes]
TEXTS = ("label", "alt_caption", "keywords")


@pytest.fixture(scope="session")
def emoji() -> Dataset:
    """40 pairs of the embedded set."""
    return emoji_lt("val").select(range(40))


def png(picture: Any) -> bytes:
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()


@pytest.fixture(scope="session")
def members(emoji: Dataset) -> list[Members]:
    """For each pair its members by name: NAME.png, NAME.txt, NAME.json."""
    return [
        {
            f"{row['id']}.png": png(row["image"]),
            f"{row['id']}.txt": row["caption"].encode(),
            f"{row['id']}.json": json.dumps({name: row[name] for name in TEXTS}).encode(),
        }
        for row in emoji
    ]


@pytest.fixture(scope="session")
def write_tar() -> Callable[..., Path]:
    """Write a tar of samples, each a dict of members."""

    def write(path: Path, samples: Sequence[Members], format: int = tarfile.PAX_FORMAT) -> Path:
        with tarfile.open(path, "w", format=format) as tar:
            for sample in samples:
                for name, content in sample.items():
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
        return path

    return write


@pytest.fixture
def shards(tmp_path: Path, members: list[Members], write_tar: Callable[..., Path]) -> list[Path]:
    """The 40 pairs in three tars of 17, 3 and 20."""
    parts = {"a.tar": members[:17], "b.tar": members[17:20], "c.tar": members[20:]}
    return [write_tar(tmp_path / name, part) for name, part in parts.items()]


@pytest.fixture
def table(tmp_path: Path, emoji: Dataset) -> Path:
    """The 40 pairs in a parquet file with row groups of 7."""
    path = tmp_path / "pairs.parquet"
    columns = emoji.select_columns(["image", "caption", "label", "keywords"])
    pq.write_table(columns.with_format("arrow")[:], path, row_group_size=7)
    return path
