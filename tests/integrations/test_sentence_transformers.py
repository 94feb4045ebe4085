"""Losses for sentence-transformers, on encoders whose features are their embeddings."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

import tauten as tt
from tauten.integrations.sentence_transformers import (
    CachedControlledLoss,
    ControlledLoss,
    attach,
)


class Lookup(torch.nn.Module):
    """An encoder of numbers, by a matrix."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.eye(8, dtype=torch.float64))

    def forward(self, features):
        return {"sentence_embedding": features["sentence_embedding"] @ self.weight}


def columns(negatives, rows=5):
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(negatives + 2, rows, 8, generator=generator, dtype=torch.float64)
    return [{"sentence_embedding": column} for column in drawn]


@pytest.mark.parametrize("negatives", [0, 1, 3])
def test_hard_negatives_are_further_candidates(negatives):
    index = torch.tensor([4, 0, 2, 1, 3])
    tau = tt.ClusterShift([1, 2, 3, 4, 5], 0.05, 0.2).double()
    adapter = ControlledLoss(Lookup(), tt.InfoNCE(tau, directions="x2y"))
    x, *others = (part["sentence_embedding"] for part in columns(negatives))
    s = F.normalize(x, dim=1) @ F.normalize(torch.cat(others), dim=1).T
    expected = F.cross_entropy(s / tau.at(index)[:, None], torch.arange(5))
    torch.testing.assert_close(adapter(columns(negatives), index), expected)


@pytest.mark.parametrize("negatives", [0, 1])
def test_the_cached_loss_has_the_gradients_of_the_whole(negatives):
    index, results = torch.tensor([4, 0, 2, 1, 3]), []
    for cached in (False, True):
        tau = tt.Learnable(0.1, 0.05, 0.5) + tt.ClusterShift([1, 2, 3, 4, 5], 0.0, 0.2)
        loss_fn = tt.InfoNCE(tau).double()
        adapter = ControlledLoss(Lookup(), loss_fn)
        if cached:
            adapter = CachedControlledLoss(adapter.model, loss_fn, mini_batch_size=2)
        for _ in range(2):  # two batches of one step
            loss = adapter(columns(negatives), index)
            (loss / 2).backward()
        learned = [p.grad for p in loss_fn.parameters()]
        assert len(learned) == 1
        assert float(learned[0].abs()) > 0
        results.append((loss.detach(), adapter.model.weight.grad, *learned))
    torch.testing.assert_close(results[1], results[0])


def test_evaluation_has_a_loss_of_its_own():
    tau = tt.ClusterShift([1, 2, 3, 4, 5], 0.05, 0.2)
    adapter = ControlledLoss(Lookup(), tt.InfoNCE(tau), tt.InfoNCE(0.07))
    adapter.model.eval()
    x, y = (part["sentence_embedding"] for part in columns(0))
    torch.testing.assert_close(adapter(columns(0), torch.arange(5)), tt.InfoNCE(0.07)(x, y))
    without = ControlledLoss(adapter.model, tt.InfoNCE(tau))
    with pytest.raises(ValueError, match="pass eval_loss_fn="):
        without(columns(0), torch.arange(5))


def test_other_data_are_refused():
    adapter = ControlledLoss(Lookup(), tt.InfoNCE(0.07))
    with pytest.raises(ValueError, match="the data have 1 column"):
        adapter(columns(-1), None)
    with pytest.raises(ValueError, match="must hold positions, whole numbers, got torch.float64"):
        adapter(columns(0), torch.rand(5, dtype=torch.float64))


def test_the_callback_stands_before_the_loggers_and_positions_are_no_text():
    first, logger, names = object(), object(), ["label"]
    trainer = SimpleNamespace(
        callback_handler=SimpleNamespace(callbacks=[first, logger]),
        data_collator=SimpleNamespace(valid_label_columns=names),
    )
    callback = attach(trainer, tt.InfoNCE(0.07))
    assert trainer.callback_handler.callbacks == [first, callback, logger]
    assert names == ["index", "label"]


def test_the_model_card_has_the_loss():
    loss_fn = tt.InfoNCE(0.07)
    adapter = CachedControlledLoss(Lookup(), loss_fn, mini_batch_size=4)
    assert adapter.get_config_dict() == {"loss_fn": repr(loss_fn), "mini_batch_size": 4}
