"""Graded relevancy in training on EPIC-KITCHENS-100: real annotations, synthetic features."""

import pytest
import torch

from tauten import MaxMargin
from tauten.data import load_epic_kitchens
from tauten.data.relevancy import Relevancy
from tauten.losses import SMS
from tauten.recipes import RECIPES, runlocal
from tauten.training import DataConfig, specs, train
from tauten.training.options.config import Config
from tauten.training.stores.named import place
from tauten.training.stores.pairs import PairStore
from tauten.training.stores.splits import load_split
from tauten.training.tasks.module import ContrastiveModule


@pytest.fixture(scope="module")
def annotations(shared_data):
    return shared_data / "ek100"


@pytest.fixture(scope="module")
def features(annotations):
    """The training split with synthetic features of some clips."""
    source = f"epic_kitchens:{annotations}"
    config = DataConfig(source=source, features="synthetic", label="noun", limit=200)
    return config, load_split(config, "train")


class Texts:
    def __call__(self, texts):
        return {"texts": texts}


def test_batches_have_the_relevancy_of_the_sentences_that_were_drawn(features):
    config, data = features
    whole = load_epic_kitchens(config.source.partition(":")[2], "train")
    texts = list(whole.sentences.text)
    assert len(set(texts)) < len(texts), "equal sentences of other classes"
    kept = [n for n, name in enumerate(whole.narration_id) if place(name) >= config.held_out]
    clips = [kept[n] for n in torch.linspace(0, len(kept) - 1, 200).round().long().tolist()]
    store = PairStore(data, Texts(), config)
    index = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(5)
    batch = store.batch(index)
    rows, columns, own = batch["graded"]
    torch.manual_seed(5)
    draws = torch.rand(200, 4)[:, 0].tolist()
    for k, (i, draw) in enumerate(zip(index.tolist(), draws, strict=True)):
        options = data.drawn[i]
        j = int(options[int(draw * len(options))])
        assert batch["texts"]["texts"][k] == texts[j]
        assert own[k] == data.relevancy.table[data.relevancy.rows[i], data.relevancy.cols[j]]
        assert data.relevancy.table[rows[k], columns[k]] == own[k]
        # ½ [same verb] + ½ |common nouns| / |all nouns|, from the annotations
        nouns = set(whole.sentences.nouns[j])
        clip = clips[i]
        both = len(nouns & set(whole.nouns[clip])) / len(nouns | set(whole.nouns[clip]))
        same = float(whole.verb[clip] == whole.sentences.verb[j])
        assert own[k] == pytest.approx((same + both) / 2)
    assert 0.1 < float(own.min()) < 0.6 < float(own.max()) == 1


def test_the_relevancy_of_training_is_never_a_matrix(features, monkeypatch):
    _, data = features
    relevancy = data.relevancy
    assert relevancy.shape == (200, 15_989)
    assert relevancy.rows.numel() == 200
    assert relevancy.table.shape[0] <= 200

    def dense(self, **_):
        raise AssertionError(f"{self.shape} was made")

    monkeypatch.setattr(Relevancy, "dense", dense)
    PairStore(data, Texts(), DataConfig()).batch(torch.arange(20))


@pytest.mark.parametrize(
    ("name", "loss"),
    [("epic_kitchens_sms", SMS), ("epic_kitchens_adaptive", MaxMargin)],
)
def test_graded_losses_train_on_it(annotations, tmp_path, monkeypatch, name, loss):
    seen = []
    forward = ContrastiveModule.forward

    def watched(self, images, texts, index, same, graded=()):
        out = forward(self, images, texts, index, same, graded)
        batch, (rows, columns, own) = self.last_batch, graded
        x, y = (torch.nn.functional.normalize(s.double(), dim=1) for s in (batch.x, batch.y))
        scores, margin = x @ y.T, 0.6 if loss is SMS else 0.4
        assert isinstance(self.loss_fn, loss)
        if loss is SMS:
            graded_ij = self.loss_fn.table[rows][:, columns].double()
            assert torch.equal(graded_ij.diagonal().float(), own)
            wanted = literal_sms(scores, graded_ij, margin)
        else:
            wanted = literal_adaptive(scores, own.double(), margin)
        seen.append((out["loss"].item(), wanted))
        return out

    monkeypatch.setattr(ContrastiveModule, "forward", watched)
    config = runlocal(RECIPES[name](), f"epic_kitchens:{annotations}")
    config.output, config.progress, config.tensorboard = tmp_path / "run", False, False
    config.data.limit, config.optim.batch_size, config.optim.epochs = 64, 32, 2
    config.model.dim = config.model.text_width = 16
    config.evaluation.bootstrap = 2
    result = train(config)
    assert config.data.features == "synthetic"
    assert len(seen) == 4
    for ours, wanted in seen:
        assert ours == pytest.approx(wanted, rel=1e-4)
    assert 0 < result.test["multi_instance/mAP_official/mean"] < 1


def literal_sms(s, rel, m, slack=0.1, tie=1.1 / 240):
    """Wang et al. 2024, both directions, mean over 2B(B-1) terms."""
    n, total = len(s), 0.0
    for i in range(n):
        for j in range(n):
            if i == j:
                continue
            for other, candidate in ((rel[i, j], s[i, j]), (rel[j, i], s[j, i])):
                delta, gap = float(rel[i, i] - other), float(s[i, i] - candidate)
                if delta > tie:
                    total += max(delta * m - gap, 0)
                elif delta < -tie:
                    total += max(gap - delta * m, 0)
                else:
                    total += max(abs(delta * m - gap) - slack, 0)
    return total / (2 * n * (n - 1))


def literal_adaptive(s, own, m):
    """LaViLa's adaptive max-margin: the anchor's margin times the relevancy of its caption."""
    n, total = len(s), 0.0
    for i in range(n):
        for j in range(n):
            if i != j:
                for candidate in (s[i, j], s[j, i]):
                    total += max(float(own[i] * m - s[i, i] + candidate), 0)
    return total / (2 * n * (n - 1))


def test_it_needs_no_setting_for_its_relevancies():
    data = DataConfig(source="epic_kitchens:data")
    assert data.graded
    assert not DataConfig(source="msrvtt:data").graded
    Config(loss=specs.loss("sms"), data=data)
    Config(loss=specs.loss("maxmargin", adaptive=True), data=data)
    with pytest.raises(ValueError, match="set data.relevancy, or train on epic_kitchens"):
        Config(loss=specs.loss("sms"), data=DataConfig(source="msrvtt:data"))


def test_a_training_split_is_not_searched_by_relevancy(features, monkeypatch):
    from tauten.models import BagTokenizer
    from tauten.training.encoders import build_encoder
    from tauten.training.options.config import ModelConfig
    from tauten.training.tasks.encode import encode

    _, data = features
    tokenizer = BagTokenizer.fit(["take plate"], "words")
    model = ModelConfig(image="features", dim=4, text_width=4)
    encoder = build_encoder(model, tokenizer.vocabulary_size, features=64)
    assert encode(encoder, tokenizer, data, None, progress=False).relevancy is None
