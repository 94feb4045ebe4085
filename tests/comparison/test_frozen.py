"""Heads on features: what is trained, that it repeats, and that the test split stays unseen."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tauten.comparison.allocations import Allocations
from tauten.comparison.catalogue import METHODS
from tauten.comparison.features import Features
from tauten.comparison.frozen import Heads, train_heads
from tauten.comparison.methods import configure
from tauten.evaluation import retrieval
from tauten.losses import NonFiniteLossError
from tauten.outcome import PAIRS, load, of_pairs, save
from tauten.training import Config


def config(**fields):
    made = Config()
    made.model.dim, made.optim.batch_size, made.optim.epochs = 8, 60, 2
    made.data.head, made.data.tail = 20, 10
    for path, value in fields.items():
        part, name = path.split("__")
        setattr(getattr(made, part), name, value)
    return made


def test_the_same_configuration_gives_the_same_bits(pairs):
    torch.manual_seed(5)
    first = train_heads(config(), pairs)
    torch.rand(3)
    again = train_heads(config(), pairs)
    assert (first.val, first.curve) == (again.val, again.curve)
    assert torch.equal(*(one.queries.scores("x2y/hit@1") for one in (first, again)))
    other = dataclasses.replace(config(), seed=1)
    others = train_heads(other, pairs).queries
    assert not torch.equal(others.scores("x2y/hit@1"), first.queries.scores("x2y/hit@1"))


def test_training_learns_what_the_sides_share(pairs):
    poor = train_heads(config(optim__lr=1e-9), pairs).queries.metrics()["all"]["mean_recall"]
    good = train_heads(config(optim__lr=1e-2, optim__epochs=10), pairs)
    assert good.steps == 40
    assert good.queries.metrics()["all"]["mean_recall"] > poor + 0.2


@pytest.mark.parametrize("name", METHODS)
def test_every_control_trains(pairs, name):
    method = METHODS[name]
    default = METHODS[method.parts_of or name].default
    made = configure(config(), method, default)
    if name == "reversed":
        made.control.alpha = 0.01
    found = train_heads(made, pairs, hidden=4)
    assert np.isfinite(found.val)
    assert len(found.queries.groups) == 36


def test_validation_never_touches_the_test_split(pairs):
    blind = Features("blind", {name: pairs[name] for name in ("train", "val")})
    found = train_heads(config(), blind, test=False)
    assert found.queries is None
    assert found.val == train_heads(config(), pairs).val
    with pytest.raises(KeyError):
        train_heads(config(), blind)


def test_a_training_can_be_stopped(pairs):
    seen = []

    def stop(share, score):
        seen.append((share, score))
        return len(seen) == 2

    found = train_heads(config(optim__epochs=3), pairs, stop=stop)
    assert (found.stopped, found.steps, found.queries) == (True, 8, None)
    assert found.curve == tuple(seen)
    assert [share for share, _ in seen] == pytest.approx([1 / 3, 2 / 3])


def test_what_cannot_be_trained(pairs):
    with pytest.raises(ValueError, match="240 samples, fewer than a batch of 300"):
        train_heads(config(optim__batch_size=300), pairs)
    with pytest.raises(NonFiniteLossError):
        train_heads(config(optim__lr=1e38, optim__warmup=0.0), pairs)


def test_metrics_are_those_of_retrieval():
    generator = torch.Generator().manual_seed(0)
    x, y = (F.normalize(torch.randn(30, 4, generator=generator), dim=1) for _ in range(2))
    groups = ["head"] * 11 + ["tail"] * 19
    found = of_pairs(x, y, [[i] for i in range(30)], groups).metrics()
    expected = retrieval(x, y, torch.arange(30), groups=groups, bootstrap=0)
    assert set(found) == {"all", "head", "tail"}
    for group, suffix in (("all", ""), ("tail", "/tail")):
        for metric in PAIRS.names:
            if "/" in metric:
                assert found[group][metric] == pytest.approx(expected[f"{metric}{suffix}"])
        ways = [expected[f"{way}/hit@5{suffix}"] for way in ("x2y", "y2x")]
        assert found[group]["hit@5"] == pytest.approx(sum(ways) / 2)
    assert found["tail"]["n"] == 19


def test_several_captions_of_one_image_are_one_query(tmp_path):
    x = torch.eye(2)
    y = torch.tensor([[1.0, 0.1], [0.1, 1.0], [0.2, 1.0]])
    queries = of_pairs(x, y, [[0, 1], [2]], ["head", "tail"])
    assert queries.scores("x2y/hit@1").tolist() == [1.0, 0.0]
    assert queries.scores("y2x/hit@1").tolist() == [0.5, 1.0]
    assert queries.scores("hit@1").tolist() == [0.75, 0.5]
    save(queries, tmp_path / "q.npz")
    again = load(tmp_path / "q.npz")
    assert again.groups == queries.groups
    assert torch.equal(again.scores("mean_recall"), queries.scores("mean_recall"))
    with pytest.raises(ValueError, match="unknown metric 'hits'"):
        queries.scores("hits")


def test_allocations_are_counted_while_they_live():
    kept = torch.ones(1000)
    counted = Allocations()
    with counted:
        a = kept + 1
        view = a.view(10, 100)
        del a
        b = view * 2
        del view
        b += 1
    assert counted.most == 2 * 4000


def test_hidden_layers_and_linear_heads():
    x, y = Heads((5, 3), dim=4, hidden=7)(torch.ones(2, 5), torch.ones(6, 3))
    assert (x.shape, y.shape) == ((2, 4), (6, 4))
    assert len(list(Heads((5, 3), dim=4).parameters())) == 4
