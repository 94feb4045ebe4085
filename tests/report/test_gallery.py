"""The choice of examples and their pictures."""

import base64
import io

import numpy as np
from PIL import Image

from tauten.report.collect import collect
from tauten.report.folders import load_runs
from tauten.report.gallery import data_uri, draw, gallery


def test_captions_are_chosen_by_seed_from_every_group(runs):
    first = load_runs(runs)[0].first
    groups = ["head", "mid", "tail"]
    names = first.groups["y2x"]
    chosen = draw(names, groups, 3, seed=0)
    assert [names[j] for j in chosen] == ["head"] * 3 + ["mid"] * 3 + ["tail"] * 3
    assert chosen == draw(names, groups, 3, seed=0)
    assert chosen != draw(names, groups, 3, seed=1)


def test_answers_are_the_top_of_the_ranking(runs):
    numbers = collect(load_runs(runs), bootstrap=20, seed=0)
    images = numbers.runs[0].first.images
    for query in gallery(numbers, images, 4, seed=0):
        for answer in query.answers:
            place = [k for k, shown in enumerate(answer.images, start=1) if shown.right]
            assert place == ([answer.rank] if answer.rank <= 5 else [])
            assert all(query.caption in s.alt for s in answer.images if s.right)


def test_a_wrong_image_goes_first_among_equals(tmp_path, tiny):
    test = {"x": np.ones((4, 4), np.float32), "y": np.ones((4, 4), np.float32)}
    numbers = collect(load_runs([tiny(tmp_path / "a", test=test)]), 20, 0)
    for query in gallery(numbers, np.zeros((4, 8, 8, 3), np.uint8), 2, seed=0):
        (answer,) = query.answers
        assert [shown.right for shown in answer.images] == [False, False, False, True]
        assert answer.rank == 4


def decode(uri):
    head, _, body = uri.partition(",")
    return head, Image.open(io.BytesIO(base64.b64decode(body)))


def test_small_images_are_kept_exactly_and_large_ones_made_small():
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (32, 48, 3), dtype=np.uint8)
    head, picture = decode(data_uri(small))
    assert head == "data:image/png;base64"
    assert np.array_equal(np.asarray(picture), small)
    head, picture = decode(data_uri(rng.integers(0, 256, (200, 400, 3), dtype=np.uint8)))
    assert head == "data:image/jpeg;base64"
    assert picture.size == (96, 48)
