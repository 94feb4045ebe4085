"""Bitmaps beside those of Pillow."""

import io

import numpy as np
import pytest
from PIL import Image

from tauten.data.bitmaps import from_bitmap, to_bitmaps
from tauten.data.pixels import pixels_of
from tauten.data.sizes import Prepared, resized


def by_pillow(pixels):
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "BMP")
    return content.getvalue()


def noise(*shape):
    return np.random.default_rng(sum(shape)).integers(0, 256, (*shape, 3), dtype=np.uint8)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (1, 1), (2, 3), (5, 2), (3, 5), (7, 300)])
def test_the_bytes_and_pixels_of_pillow(height, width):
    pixels = noise(2, height, width)
    contents = to_bitmaps(pixels)
    assert contents == [by_pillow(picture) for picture in pixels]
    for content, picture in zip(contents, pixels, strict=True):
        assert np.array_equal(from_bitmap(content), picture)


def test_other_files_are_left_to_pillow():
    whole = by_pillow(noise(4, 4))
    for other in (whole[:-1], whole + b"\0", whole[:30], b"", b"BM" + bytes(80), b"\xff" * 90):
        assert from_bitmap(other) is None
    for mode in ("L", "P", "1", "RGBA"):
        content = io.BytesIO()
        Image.fromarray(noise(4, 4)).convert(mode).save(content, "BMP")
        assert from_bitmap(content.getvalue()) is None
    top_down = bytearray(whole)
    top_down[22:26] = (-4).to_bytes(4, "little", signed=True)
    assert from_bitmap(bytes(top_down)) is None


@pytest.mark.parametrize(
    "size", [None, 6, 4, (6, 8), (3, 5), Prepared(6), Prepared(4, 6), Prepared(6, 6)]
)
def test_a_size_is_made_as_by_pillow(size):
    content = by_pillow(noise(6, 8))
    expected = np.asarray(resized(Image.open(io.BytesIO(content)), size))
    assert np.array_equal(pixels_of({"bytes": content, "path": None}, size), expected)
