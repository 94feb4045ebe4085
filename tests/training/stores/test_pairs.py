import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tauten.models import BagTokenizer
from tauten.training import Config, DataConfig, specs, train
from tauten.training.build import build_loss
from tauten.training.stores.pair_data import PairData
from tauten.training.stores.pairs import PairStore, caption_counts, training_texts


def data():
    images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    images[2] = images[0]
    return PairData(
        images=images,
        captions=[["cat"], ["dog", "hound"], ["bird"], ["cat"]],
        alternatives=["feline", "", "avian", "feline"],
        keywords=[["pet", "fur"], [], ["wing"], ["pet"]],
        labels=None,
        fingerprint="",
    )


def store(**fields):
    config = DataConfig(**fields)
    tokenizer = BagTokenizer.fit(training_texts(data(), config))
    return PairStore(data(), tokenizer, config)


def texts(store, index):
    ids = store.batch(torch.tensor(index))["texts"]["input_ids"]
    names = dict(enumerate(store.tokenizer.vocabulary, 2))
    return [" ".join(names[int(i)] for i in row if i > 1) for row in ids]


def test_equal_images_and_captions_have_equal_ids():
    batch = store().batch(torch.tensor([0, 1, 2, 3]))
    image_ids, caption_ids = batch["same"]
    assert image_ids[0] == image_ids[2] != image_ids[3]
    assert caption_ids[0] == caption_ids[3] != caption_ids[2]
    assert batch["index"].tolist() == [0, 1, 2, 3]
    assert batch["images"].dtype == torch.uint8


def test_one_of_several_captions_is_drawn():
    torch.manual_seed(0)
    assert {texts(store(), [1])[0] for _ in range(30)} == {"dog", "hound"}


def test_alternatives_and_keywords():
    torch.manual_seed(0)
    assert texts(store(alternative=1.0), [0, 1, 2])[0::2] == ["feline", "avian"]
    seen = {texts(store(keywords=1.0), [0])[0] for _ in range(20)}
    assert seen == {"cat pet", "cat fur"}
    assert texts(store(), [0]) == ["cat"]


def test_the_generator_determines_the_batch():
    made = store(alternative=0.5, keywords=0.5)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = [texts(made, [0, 1, 2, 3]) for _ in range(5)]
    torch.set_rng_state(state)
    assert [texts(made, [0, 1, 2, 3]) for _ in range(5)] == first
    assert any(a != first[0] for a in first)


def test_vocabulary_is_of_what_training_shows():
    assert set(training_texts(data(), DataConfig())) == {"cat", "dog", "hound", "bird"}
    assert "avian" in training_texts(data(), DataConfig(alternative=0.1))
    assert "wing" in training_texts(data(), DataConfig(keywords=0.1))


def test_captions_with_ids_of_their_own_are_numbered_image_by_image():
    counts = caption_counts(data())
    assert counts.tolist() == [1, 2, 1, 1]
    made = PairStore(data(), BagTokenizer.fit(["cat"]), DataConfig(), counts)
    torch.manual_seed(0)
    seen = {}
    for _ in range(30):
        batch = made.batch(torch.tensor([3, 1, 0]))
        for image, caption in zip(batch["index"].tolist(), batch["caption"].tolist(), strict=True):
            seen.setdefault(image, set()).add(caption)
    assert seen == {0: {0}, 1: {1, 2}, 3: {4}}
    assert "caption" not in store().batch(torch.tensor([0]))


def test_one_caption_each_has_the_id_of_its_image():
    single = dataclasses.replace(data(), captions=[own[:1] for own in data().captions])
    assert caption_counts(single) is None


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """A table of images with one, two or three captions."""
    folder = tmp_path_factory.mktemp("several")
    lines = []
    for i in range(60):
        pixels = np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        captions = [f"word{i} view{k}" for k in range(1 + i % 3)]
        split = ("val" if i % 6 == 4 else "test") if i >= 48 else "train"
        lines.append(
            {"image": f"{i}.png", "caption": captions, "split": split, "label": f"{i % 4}"}
        )
    table = folder / "table.jsonl"
    table.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return table


@pytest.mark.parametrize(
    ("family", "kind", "kept"),
    [
        ("sogclr", "constant", ["loss_fn.tables"]),
        ("isogclr", "individual", ["loss_fn.tables", "loss_fn.strength.tables"]),
        ("fastclip", "learnable", ["loss_fn.tables"]),
        ("nuclr", "constant", ["loss_fn.tables", "loss_fn.offsets"]),
        ("sogclr", "mmts", ["loss_fn.tables"]),
        ("infonce", "constant", []),
    ],
)
def test_what_a_loss_keeps_of_texts_is_kept_for_each_caption(
    several, tmp_path, make_config, family, kind, kept
):
    config = make_config(tmp_path / "run", family=family, control__kind=kind)
    config.data.source, config.data.image_size, config.data.limit = str(several), 16, None
    config.data.label = "label"
    config.model.grid = 2
    config.optim.batch_size, config.optim.epochs = 16, 3
    train(config)
    state = load_file(tmp_path / "run" / "checkpoints" / "checkpoint-9" / "model.safetensors")
    assert {name.rpartition(".")[0] for name in state if "visits" in name} == {
        f"{table}.{side}" for table in kept for side in ("x2y", "y2x")
    }
    first = np.cumsum([0, *(1 + i % 3 for i in range(48))])
    for table in kept:
        visits = state[f"{table}.x2y.visits"], state[f"{table}.y2x.visits"]
        assert [len(side) for side in visits] == [48, 96]
        of_image = [int(visits[1][a:b].sum()) for a, b in itertools.pairwise(first)]
        assert of_image == visits[0].tolist() == [3] * 48


@pytest.mark.parametrize("sizes", ["true", "shuffled", "reversed"])
def test_both_anchors_of_a_pair_have_the_temperature_of_the_image(sizes):
    """MM-TS has one temperature for a pair, whatever number its caption has."""
    captions = torch.tensor([1, 3, 2, 1, 2, 1])
    labels = ["a", "b", "b", "a", "a", "c"]
    counts = torch.tensor([3, 2, 2, 3, 3, 1])
    config = Config(
        loss=specs.loss("sogclr", weight="inverse_count"),
        control=specs.control("mmts", sizes=sizes),
    )
    single = build_loss(config, 6, counts, 20, labels)
    loss_fn = build_loss(config, 6, counts, 20, labels, captions=captions)
    image = torch.arange(6).repeat_interleave(captions)
    for _ in range(3):
        tau = single.tau(torch.arange(6))
        of_image, of_caption = loss_fn.tau((torch.arange(6), torch.arange(10)))
        torch.testing.assert_close(of_image, tau)
        torch.testing.assert_close(of_caption, tau[image])
        if sizes == "true":
            shift = 0.05 + (counts.double() - 1) / 2 * 0.04
            wave = 0.02 * math.cos(2 * math.pi * loss_fn.steps / 4)
            torch.testing.assert_close(tau.double(), shift + wave, rtol=0, atol=1e-6)
        for loss in (single, loss_fn):
            loss.step()
    weight = (1 / counts.double()) / (1 / counts.double()).mean()
    for side, of in (("x2y", torch.arange(6)), ("y2x", image)):
        found = loss_fn.weight.side(torch.arange(len(of)), side)
        torch.testing.assert_close(found.double(), weight[of], rtol=1e-6, atol=0)
