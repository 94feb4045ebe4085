"""Batches that workers make ahead are those that the step makes."""

import gc
import itertools

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

from tauten.data import ShardPairs, index_shards, load_pairs
from tauten.models import BagTokenizer, HFTokenizer
from tauten.training.loop.trainer import moved
from tauten.training.options.config import DataConfig
from tauten.training.stores.ahead import TokensAhead, in_pinned_memory
from tauten.training.stores.clip_source import places_inside
from tauten.training.stores.pair_data import PairData
from tauten.training.stores.pairs import PairStore
from tauten.training.stores.pictures import ViewStore
from tauten.training.stores.shards import ShardStore
from tauten.training.stores.tables import to_pairs
from tauten.training.stores.text_source import TextSource

TEXTS = ["a cat", "a small cat on a mat", "", "dogs", "a cat and a dog and a bird on a mat", "qq"]


def subword(**settings):
    words = ["[PAD]", "[UNK]", "a", "cat", "mat", "on", "small", "dog", "and", "bird", "##s"]
    made = Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]")
    return HFTokenizer(fast, **settings)


TOKENIZERS = {
    "words": lambda: BagTokenizer.fit(TEXTS[:-1], "words", max_length=8),
    "n-grams": lambda: BagTokenizer.fit(TEXTS[:-1], "ngrams", max_length=12),
    "subwords": lambda: subword(max_length=6),
    "one length": lambda: subword(max_length=64, pad_to=7),
}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_tokens_of_some_texts_are_what_the_tokenizer_gives_of_them(kind):
    tokenizer = TOKENIZERS[kind]()
    rows = {text: row for row, text in enumerate(TEXTS)}
    ahead = TokensAhead(rows, tokenizer(TEXTS), tokenizer([""])["input_ids"].shape[1])
    singles, pairs = ([text] for text in TEXTS), itertools.permutations(TEXTS, 2)
    for texts in (TEXTS, ["dogs", "dogs"], *singles, *map(list, pairs)):
        expected = tokenizer(texts)
        found = ahead.of(texts)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert torch.equal(found[name], value)
            assert found[name].dtype == value.dtype
    assert ahead.of(["a cat", "a text that was not read"]) is None
    assert ahead.of([]) is None


def equal(found, expected):
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        found, expected = found.values(), expected.values()
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected)
        return
    for one, other in zip(found, expected, strict=True):
        equal(one, other)


class Once:
    """A tokenizer for as long as it is not closed, in the process that closes it."""

    def __init__(self, tokenizer):
        self.tokenizer, self.closed = tokenizer, False

    def __call__(self, texts):
        assert not self.closed, "texts are tokenised in the step"
        return self.tokenizer(texts)


def batches(store, size):
    """Return batches of a store, made by the step alone and with what a worker has read."""
    reads = store.reads(5)
    assert reads.workers > 0
    reads.set_epoch(3)
    order = torch.randperm(len(store), generator=torch.Generator().manual_seed(1)).split(size)
    loader = DataLoader(
        reads,
        batch_sampler=[part.tolist() for part in order],
        collate_fn=reads.collate,
        num_workers=1,
        generator=torch.Generator(),
    )
    gc.collect()
    gc.freeze()  # workers wait for the threads of videos that they free
    read = list(loader)
    gc.unfreeze()
    made = []
    for given in (None, read):
        torch.manual_seed(7)
        steps = []
        for number, index in enumerate(order):
            reading = None if given is None else given[number]["reading"]
            if given is not None:
                assert torch.equal(given[number]["index"].positions, index)
            steps.append(store.batch(index, reading))
        made.append([*steps, torch.rand(3)])
        if hasattr(store.tokenizer, "closed") and given is None:
            store.tokenizer.closed = store.closes
    return made


def pair_data(images, count, **fields):
    return PairData(
        images=images,
        captions=[[f"a {i} cat", f"{i} dogs on a mat"][: 1 + i % 2] for i in range(count)],
        alternatives=[f"another {i}" if i % 3 else "" for i in range(count)],
        keywords=[[f"k{i}", "cat"] for i in range(count)],
        labels=None,
        fingerprint="f",
        **fields,
    )


@pytest.mark.parametrize(
    ("options", "closes"),
    [
        ({}, True),
        ({"alternative": 0.5}, True),
        ({"alternative": 0.5, "keywords": 0.5}, False),
        ({"left_out": 0.3}, False),
    ],
)
def test_pairs_in_memory(options, closes):
    images = torch.randint(256, (12, 3, 4, 4), dtype=torch.uint8)
    negatives = [["a dog"], [], ["no cat", "a bird"]] * 4
    config = DataConfig(source="a", workers=1, **options)
    tokenizer = Once(BagTokenizer.fit(["a cat and dogs on another mat no bird 1 2 3 4 5 6 7 8"]))
    store = PairStore(pair_data(images, 12, negatives=negatives), tokenizer, config)
    store.closes = closes
    equal(*reversed(batches(store, 4)))


def test_pairs_of_texts():
    images = TextSource([f"{i} first" for i in range(8)])
    tokenizer = Once(BagTokenizer.fit(["a cat and dogs on another mat first 1 2 3 4 5"]))
    store = PairStore(pair_data(images, 8), tokenizer, DataConfig(source="a", workers=1))
    store.closes = True
    equal(*reversed(batches(store, 4)))


@pytest.mark.parametrize("alternative", [0.0, 0.5])
def test_shards(shards, tmp_path, members, write_tar, alternative):
    broken = [dict(sample) for sample in members]
    broken[5] = dict.fromkeys(broken[5], b"")
    path = write_tar(tmp_path / "broken.tar", broken)
    pairs = ShardPairs(index_shards(path, tmp_path / "found.jsonl"), image_size=8)
    tokenizer = Once(BagTokenizer.fit(["face with a flag"]))
    store = ShardStore(pairs, tokenizer, alternative=alternative, workers=1)
    store.closes = True
    equal(*reversed(batches(store, 10)))
    assert store.skipped.count == 2  # once in the step, once by the worker


def test_views_of_pictures(shards, tmp_path):
    config = DataConfig(source=str(tmp_path))
    data = to_pairs(load_pairs(str(tmp_path / "*.tar")), config)
    store = ViewStore(data, workers=1)
    store.tokenizer = None
    equal(*reversed(batches(store, 16)))


def test_nothing_is_read_ahead_without_workers():
    images = torch.zeros(4, 3, 2, 2, dtype=torch.uint8)
    reads = PairStore(pair_data(images, 4), list, DataConfig()).reads(0)
    assert reads.workers == 0
    assert reads.collate(reads.__getitems__([2, 1])).keys() == {"index"}
    assert ViewStore(pair_data(images, 4)).reads(0).workers == 0


def test_places_of_frames_follow_from_seed_epoch_and_clip():
    rows = torch.tensor([4, 0, 7])
    places = places_inside(3, 1, rows, 5)
    assert places.shape == (3, 5)
    assert places.dtype == torch.float64
    assert ((places >= 0) & (places < 1)).all()
    assert torch.equal(places_inside(3, 1, rows[1:], 5), places[1:])
    others = (places_inside(4, 1, rows, 5), places_inside(3, 2, rows, 5), places.flip(0))
    assert all(not torch.equal(other, places) for other in others)


def test_clips_in_memory_are_not_read_ahead():
    clips = torch.zeros(4, 2, 3, 2, 2, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"data.ahead=True .* held in memory: leave it out"):
        PairStore(pair_data(clips, 4), list, DataConfig(frames=2, ahead=True))


def test_each_tensor_of_a_batch_is_pinned(monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda part: pinned.append(part) or part + 1)
    tokens = TokensAhead({"a": 0}, {"input_ids": torch.zeros(1)}, 1)
    part = {"a": (torch.zeros(1), [torch.zeros(1), "text"]), "b": tokens, "c": None}
    found = in_pinned_memory(part)
    assert len(pinned) == 3
    assert found["a"][0] == found["a"][1][0] == found["b"].tokens["input_ids"] == 1
    assert (found["a"][1][1], found["b"].rows, found["c"]) == ("text", {"a": 0}, None)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_batch_is_moved_without_waiting():
    moved_parts = moved({"a": (torch.arange(3), torch.ones(2))}, torch.device("cuda"))
    assert moved_parts["a"][0].tolist() == [0, 1, 2]
    assert moved_parts["a"][1].device.type == "cuda"
