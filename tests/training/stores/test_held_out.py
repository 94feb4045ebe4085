"""The automatic split: shares near held_out whatever the captions."""

import io
import json
import logging
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from tauten.training import DataConfig
from tauten.training.stores.splits import load_splits

N = 200


def source(folder, caption, same=()):
    """200 pictures; those whose numbers are in `same` are equal."""
    for i in range(N):
        value = np.random.default_rng(0 if i in same else i + 1)
        content = io.BytesIO()
        Image.fromarray(value.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(content, "PNG")
        (folder / f"{i}.png").write_bytes(content.getvalue())
    rows = [{"image": f"{i}.png", "caption": caption(i), "label": i % 5} for i in range(N)]
    (folder / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return str(folder / "t.jsonl")


@pytest.mark.parametrize(
    ("caption", "first", "count"),
    [
        (lambda i: "untitled" if i % 4 else f"photo {i}", "untitled", 150),
        (lambda i: [f"photo {i}", "a photo"], "a photo", 200),
        (lambda i: f"a photo of class {i % 5}", "a photo of class 0", 40),
        (lambda i: f"a photo of class {i % 20}", "a photo of class 0", 10),
        (lambda i: [f"link {i}", f"link {i + 1}"], "link 1", 2),
    ],
)
def test_captions_do_not_rule_the_shares(tmp_path, caplog, caption, first, count):
    config = DataConfig(source=source(tmp_path, caption), held_out=0.2, image_size=8, label="label")
    with caplog.at_level(logging.INFO, logger="tauten.training"):
        found = load_splits(config)
    sizes = {name: len(data) for name, data in found.items()}
    # 40 samples are asked for; a hash of samples deviates by sqrt(200 · 0.2 · 0.8) = 5.7
    assert all(12 <= sizes[name] <= 68 for name in ("val", "test"))
    assert sum(sizes.values()) == N
    text = f"train {sizes['train']}, val {sizes['val']}, test {sizes['test']} (data.held_out=0.2)"
    assert text in caplog.text
    assert f"{first!r} of {count}: samples with such a caption may lie in" in caplog.text
    assert set(found["test"].labels) <= set(found["train"].labels)


def test_captions_of_a_few_samples_keep_them_together(tmp_path):
    config = DataConfig(source=source(tmp_path, lambda i: f"thing {i // 3}"), image_size=8)
    parts = [
        {text for own in data.captions for text in own} for data in load_splits(config).values()
    ]
    assert sum(map(len, parts)) == len(set().union(*parts)) == 67


def test_equal_pictures_stay_together_and_are_named(tmp_path, caplog):
    config = DataConfig(
        source=source(tmp_path, lambda i: f"photo {i}", same=range(100, 150)), image_size=8
    )
    with caplog.at_level(logging.INFO, logger="tauten.training"):
        found = load_splits(config)
    assert "49 of 200 samples show a picture that an earlier one shows, too" in caplog.text
    held = Counter()
    for name, data in found.items():
        held[name] += sum(100 <= int(own[0].split()[1]) < 150 for own in data.captions)
    assert max(held.values()) == 50
    assert "50 of 200 samples hang together by equal images, the first is sample 100" in caplog.text
