"""Random changes of texts that make two views of one text."""

import dataclasses
import json
from collections import Counter

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import tauten as tt
from tauten.candidates import KeyQueue, MomentumEncoder
from tauten.evaluation.correlation import spearman
from tauten.models import BagTokenizer
from tauten.training.stores.pairs import PairStore
from tauten.training.stores.splits import load_splits
from tauten.training.stores.text_changes import TextChanges
from tauten.training.tasks.module import ContrastiveModule

WORDS = [f"w{i}" for i in range(20)]
TEXT = " ".join(WORDS)


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def test_nothing_changes_and_nothing_is_drawn_where_nothing_is_asked():
    before = torch.get_rng_state()
    assert TextChanges()(TEXT) is TEXT
    assert not TextChanges()
    assert torch.equal(torch.get_rng_state(), before)
    assert TextChanges(repeated=0.5)(" ") == " "


def test_spans_are_of_all_lengths_and_places():
    spans = [TextChanges(span=(0.1, 0.5))(TEXT).split() for _ in range(400)]
    assert {len(span) for span in spans} == set(range(2, 11))
    assert all(WORDS[int(s[0][1:]) :][: len(s)] == s for s in spans)
    assert {span[0] for span in spans} >= {"w0", "w10"}
    assert any(span[-1] == "w19" for span in spans)


def test_words_are_left_out_one_by_one():
    kept = [TextChanges(left_out=0.3)(TEXT).split() for _ in range(400)]
    assert sum(map(len, kept)) / 400 == pytest.approx(14, abs=0.5)
    assert all(words == [w for w in WORDS if w in words] for words in kept)
    assert {TextChanges(left_out=1.0)("a b") for _ in range(40)} == {"a", "b"}


def test_words_are_said_twice_in_their_place():
    again = [Counter(TextChanges(repeated=0.32)(TEXT).split()) for _ in range(300)]
    assert {sum(c.values()) for c in again} == set(range(20, 27))
    assert all(set(c) == set(WORDS) and max(c.values()) <= 2 for c in again)
    assert TextChanges(repeated=0.32)("a b").split()[0] == "a"
    assert {len(TextChanges(repeated=0.32)("a b").split()) for _ in range(40)} == {2, 3, 4}


class Summed(nn.Module):
    """A tower that sees a text's words and its length."""

    def __init__(self, tokenizer):
        super().__init__()
        self.tokenizer = tokenizer
        self.words = nn.Embedding(tokenizer.vocabulary_size, 16, padding_idx=0)
        self.net = nn.Sequential(nn.Dropout(0.1), nn.Linear(17, 32), nn.Tanh(), nn.Linear(32, 16))

    def forward(self, texts):
        ids = self.tokenizer(texts)["input_ids"]
        length = (ids > 0).sum(1, keepdim=True).float()
        return self.net(torch.cat([self.words(ids).sum(1) / length.sqrt(), length / 4 - 3], 1))


def sentences(count):
    """Make texts of one of 12 topics, half of whose words are of the topic."""
    topics, texts = torch.randint(12, (count,)).tolist(), []
    for topic in topics:
        length = int(torch.randint(4, 20, ()))
        of_topic, draws = torch.rand(length) < 0.5, torch.randint(40, (length,)).tolist()
        pairs = zip(of_topic.tolist(), draws, strict=True)
        words = [f"t{topic}w{d % 6}" if chosen else f"f{d}" for chosen, d in pairs]
        texts.append(" ".join(words))
    return topics, texts


def test_repetition_takes_the_length_out_of_the_similarity():
    """ESimCSE: against dropout alone, with a queue of a momentum encoder's keys in both."""
    of_length, of_meaning = {0.0: [], 0.32: []}, {0.0: [], 0.32: []}
    for seed in (1, 2):
        for repeated in of_length:
            torch.manual_seed(seed)
            topics, texts = sentences(500)
            encoder, changes = Summed(BagTokenizer.fit(texts)), TextChanges(repeated=repeated)
            slow, queue = MomentumEncoder(encoder, 0.995).eval(), KeyQueue(160, 16)
            optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-2)
            loss_fn, own = tt.InfoNCE(0.05, directions="x2y"), torch.arange(64)
            for _ in range(150):
                index = torch.randint(400, (64,))
                batch = [texts[i] for i in index.tolist()]
                again = [changes(text) for text in batch]
                keys, ids = queue.candidates(encoder(again), index)
                same = [(index, ids)]
                loss = loss_fn(encoder(batch), keys, (index, ids), positives=own, same=same)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                queue.push(slow(again), index)
                slow.update(encoder)
            z = F.normalize(encoder.eval()(texts[400:])).detach()
            a, b = torch.triu_indices(100, 100, 1)
            similarity, topic = (z[a] * z[b]).sum(1), torch.tensor(topics[400:])
            length = torch.tensor([len(text.split()) for text in texts[400:]]).float()
            for found, other in (
                (of_length, -(length[a] - length[b]).abs()),
                (of_meaning, (topic[a] == topic[b]).float()),
            ):
                found[repeated].append(spearman(similarity, other, bootstrap=0).value)
    assert sum(of_length[0.32]) < sum(of_length[0.0])
    assert min(*of_meaning[0.0], *of_meaning[0.32]) > 0.1


def test_a_training_changes_both_sides_of_pairs_of_texts(tmp_path, make_config, check_resumed):
    rows = [{"text": f"{TEXT} n{i}", "kind": "a"} for i in range(120)]
    (tmp_path / "texts.json").write_text(json.dumps(rows))
    fields = {"source": str(tmp_path / "texts.json"), "texts": True, "limit": None}
    fields |= {"image": "text", "caption": "text", "span_low": 0.2, "span_high": 0.6}
    fields |= {"left_out": 0.1, "repeated": 0.32}
    config = make_config(tmp_path / "run", **{f"data__{n}": v for n, v in fields.items()})
    data = load_splits(config.data, ("train",))["train"]
    store = PairStore(data, BagTokenizer.fit(data.media.texts), config.data)
    batch = store.batch(torch.arange(8))
    first, second = (batch["images"][:, 1].sum(1), batch["texts"]["attention_mask"].sum(1))
    assert first.max() <= 13
    assert 2 <= second.min() < second.max() <= 17
    configs = [dataclasses.replace(config, output=tmp_path / n) for n in ("whole", "broken")]
    check_resumed(*configs, ContrastiveModule, 4, 6)
    with pytest.raises(ValueError, match="data.span_low must be at most data.span_high=0.6"):
        dataclasses.replace(config, data=dataclasses.replace(config.data, span_low=0.7))
