"""JPEGs decoded to about the size that is needed."""

import io
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from tauten.data import ShardPairs, images, index_shards, load_pairs
from tauten.data.pixels import decoded
from tauten.data.sizes import Prepared
from tauten.training.options.config import DataConfig
from tauten.training.stores.other_media import other_media
from tauten.training.stores.tables import to_pairs


def photo(width, height):
    """A smooth picture with a bright corner."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    waves = [np.sin(6 * x + 3 * y), np.cos(5 * y), x * y]
    return Image.fromarray((127 + 100 * np.stack(waves, axis=-1)).clip(0, 255).astype(np.uint8))


def stored(picture, format="JPEG", **settings):
    content = io.BytesIO()
    picture.save(content, format, **settings)
    return {"bytes": content.getvalue(), "path": None}


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        (32, (60, 40)),
        ((32, 32), (60, 40)),
        (Prepared(24, 32), (60, 40)),
        (Prepared(32), (60, 40)),
        ((20, 40), (60, 40)),
        (16, (30, 20)),
        ((9, 10), (30, 20)),
        (81, (240, 160)),
        (80, (120, 80)),
        (161, (240, 160)),
    ],
)
def test_no_smaller_than_needed(size, shape):
    assert decoded(stored(photo(240, 160)), size).size == shape
    turned = stored(photo(160, 240), exif=rotated())
    assert decoded(turned, size).size == shape


def rotated():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def test_pixels_are_almost_the_same():
    one = stored(photo(240, 160), quality=95)
    full, draft = (
        np.asarray(decoded(one, size).resize((40, 40))).astype(float) for size in (None, 40)
    )
    assert 0 < np.abs(full - draft).mean() < 2


def test_other_kinds_are_decoded_whole():
    for format, mode in (("PNG", "RGB"), ("BMP", "RGB"), ("GIF", "P"), ("PNG", "LA")):
        one = stored(photo(96, 64).convert(mode), format)
        assert decoded(one, 16).size == (96, 64)
        assert decoded(one, 16).tobytes() == decoded(one).tobytes()
    for mode in ("L", "CMYK"):
        one = stored(photo(96, 64).convert(mode))
        assert (decoded(one, 16).mode, decoded(one, 16).size) == (mode, (24, 16))


@pytest.fixture
def tar(tmp_path):
    """Four large pictures with captions and another picture each."""
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        for number in range(4):
            content = stored(photo(150 + 10 * number, 128))["bytes"]
            for kind, part in (("jpg", content), ("txt", b"a photo"), ("view", content)):
                info = tarfile.TarInfo(f"{number}.{kind}")
                info.size = len(part)
                file.addfile(info, io.BytesIO(part))
    return tmp_path / "a.tar"


def test_shards_tables_and_further_pictures(tar, tmp_path):
    dataset = load_pairs(tar)
    full, draft = (images(dataset, 32, draft=draft) for draft in (False, True))
    assert not torch.equal(full, draft)
    catalogue = index_shards(tar, tmp_path / "a.jsonl")
    pairs = ShardPairs(catalogue, image_size=32, draft=True)
    assert torch.equal(pairs.sized(32).batch(range(4))[0]["image"], draft)
    found, whole = (
        to_pairs(dataset, DataConfig(source=str(tar), image_size=32, draft=draft)).images
        for draft in (True, False)
    )
    assert torch.equal(whole, images(dataset, (32, 32)))
    assert not torch.equal(found, whole)
    others = (other_media(dataset, "view", (32, 32), str(tar), draft=d) for d in (True, False))
    assert torch.equal(next(others).pixels, found)
    assert torch.equal(next(others).pixels, whole)
