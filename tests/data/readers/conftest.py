"""Small trees in the published formats, with real pictures."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tauten.data import emoji_lt


@pytest.fixture(scope="session")
def pictures() -> list[bytes]:
    """40 real drawings as PNG."""
    found = []
    for row in emoji_lt("val").select(range(40)):
        buffer = io.BytesIO()
        row["image"].save(buffer, "PNG")
        found.append(buffer.getvalue())
    return found


@pytest.fixture
def put(pictures: list[bytes]) -> Callable[..., Path]:
    """Write the k-th drawing to a path, in the format that its name says."""

    def write(path: Path, k: int = 0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.open(io.BytesIO(pictures[k % len(pictures)])).save(path)
        return path

    return write
