import io
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Value
from datasets import Image as ImageFeature
from PIL import Image

from tauten.data import images
from tauten.data.pixels import to_rgb


def dataset_of(*pictures: Image.Image) -> Dataset:
    features = Features({"image": ImageFeature()})
    stored = []
    for picture in pictures:
        buffer = io.BytesIO()
        picture.save(buffer, "TIFF" if picture.mode == "F" else "PNG")
        stored.append({"bytes": buffer.getvalue(), "path": None})
    return Dataset.from_dict({"image": stored}, features=features)


def gradient(width: int, height: int) -> Image.Image:
    row = np.linspace(0, 255, width).round().astype(np.uint8)
    return Image.fromarray(np.repeat(np.tile(row, (height, 1))[..., None], 3, axis=2))


def test_pixels_are_kept_as_they_are() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    result = images(dataset_of(*map(Image.fromarray, pixels)))
    assert result.dtype == torch.uint8
    assert result.shape == (2, 3, 5, 7)
    assert np.array_equal(result.permute(0, 2, 3, 1).numpy(), pixels)


def test_int_size_cuts_the_centre_square() -> None:
    result = images(dataset_of(gradient(90, 30), gradient(30, 30)), size=10)
    assert result.shape == (2, 3, 10, 10)
    assert 80 <= int(result[0].min()) < int(result[0].max()) <= 175
    assert int(result[1].max()) - int(result[1].min()) > 200


def test_pair_size_keeps_the_whole_picture() -> None:
    result = images(dataset_of(gradient(90, 30)), size=(10, 20))
    assert result.shape == (1, 3, 10, 20)
    assert int(result.max()) - int(result.min()) > 235


def test_same_size_does_not_resample() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    data = dataset_of(Image.fromarray(pixels))
    for size in (8, (8, 8)):
        assert torch.equal(images(data, size), images(data))


def test_transparency_is_put_on_white() -> None:
    clear = Image.new("RGBA", (2, 2), (10, 20, 30, 0))
    assert int(images(dataset_of(clear)).min()) == 255
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([0, 0, 0] * 256)
    palette.info["transparency"] = 0
    assert to_rgb(palette).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(("mode", "value"), [("L", 100), ("CMYK", (155, 155, 155, 0)), ("1", 1)])
def test_other_modes_become_rgb(mode: str, value: Any) -> None:
    picture = to_rgb(Image.new(mode, (2, 2), value))
    assert picture.mode == "RGB"
    assert picture.getpixel((0, 0)) == ((255,) * 3 if mode == "1" else (100,) * 3)


def test_16_bit_grey_is_scaled_not_clipped() -> None:
    deep = Image.fromarray(np.array([[0, 257 * 100, 65535]], dtype=np.uint16))
    assert images(dataset_of(deep))[0, 0].tolist() == [[0, 100, 255]]


def test_pixels_of_unknown_range_are_refused() -> None:
    with pytest.raises(ValueError, match="mode 'F' has no known range"):
        images(dataset_of(Image.new("F", (2, 2), 0.5)))


def test_several_sizes_need_a_size() -> None:
    with pytest.raises(ValueError, match="row 1 is 5x4 pixels, row 0 is 3x3: give a size"):
        images(dataset_of(gradient(3, 3), gradient(5, 4)))


def test_unreadable_row_is_named() -> None:
    data = Dataset.from_dict(
        {"image": [{"bytes": b"not a picture", "path": None}]},
        features=Features({"image": ImageFeature()}),
    )
    with pytest.raises(ValueError, match="row 0: unreadable image"):
        images(data)


@pytest.mark.parametrize("size", [0, (4, 0)])
def test_size_below_a_pixel_is_refused(size: Any) -> None:
    with pytest.raises(ValueError, match="at least 1 pixel, got"):
        images(dataset_of(gradient(3, 3)), size)


def test_missing_column_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="no column 'image'; columns: picture, caption"):
        images(Dataset.from_dict({"picture": ["x"], "caption": ["y"]}))


def test_no_rows_are_refused() -> None:
    empty = Dataset.from_dict({"image": []}, features=Features({"image": Value("string")}))
    with pytest.raises(ValueError, match="no rows"):
        images(empty)
