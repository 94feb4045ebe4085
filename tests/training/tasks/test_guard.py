"""Protected groups of a training: held at the loss that they have at the start."""

import copy
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import tauten as tt
from tauten.models import BagTower, ConvTower, DualEncoder
from tauten.training import Config, DataConfig, load_encoder, train
from tauten.training.options.protect import ProtectConfig
from tauten.training.stores.protected import rows_of
from tauten.training.stores.splits import load_splits
from tauten.training.tasks.guard import Guard
from tauten.training.tasks.module import ContrastiveModule


def info_nce(x, y, tau):
    logits = F.normalize(x) @ F.normalize(y).T / tau
    rows = torch.arange(len(x))
    return (F.cross_entropy(logits, rows) + F.cross_entropy(logits.T, rows)) / 2


def batch_of(count, start):
    ids = torch.randint(2, 9, (count, 3))
    return {
        "images": torch.rand(count, 3, 8, 8, dtype=torch.float64),
        "texts": {"input_ids": ids, "attention_mask": torch.ones_like(ids)},
        "same": (torch.arange(start, start + count),) * 2,
    }


def test_the_penalty_is_its_formula():
    """C = β Σ_k [u_k]₊ L_k,  u_k ← (1 − γ) u_k + γ (L_k − L⁰_k), embedded as in evaluation."""
    torch.manual_seed(0)
    encoder = DualEncoder(ConvTower((4,), 2), BagTower(9, 8), 6).double()
    options = ProtectConfig(groups=("head", "rare"), beta=3.0, gamma=0.25, tau=0.2)
    before, excess = [0.5, 50.0], [0.0, 0.0]
    guard = Guard(options, before).double()
    module = ContrastiveModule(encoder, tt.InfoNCE(0.1), guard=guard).double().train()
    for turn in range(3):
        batch, groups = batch_of(6, 0), (batch_of(5, 10), batch_of(4, 20))
        given = batch["images"], batch["texts"], torch.arange(6), batch["same"]
        plain = copy.deepcopy(module)(*given)["loss"]
        whole = copy.deepcopy(module)(*given, protected=groups)["loss"]
        module(*given)
        found = guard(encoder, groups)
        assert encoder.training
        penalty = torch.zeros((), dtype=torch.float64)
        encoder.eval()
        for k, group in enumerate(groups):
            loss = info_nce(*encoder(group["images"], group["texts"]), 0.2)
            now = loss.item() - before[k]
            excess[k] = now if turn == 0 else 0.75 * excess[k] + 0.25 * now
            penalty = penalty + 3.0 * max(excess[k], 0.0) * loss
        encoder.train()
        assert excess[0] > 0 > excess[1]
        torch.testing.assert_close(whole - plain, penalty, rtol=1e-8, atol=1e-9)
        torch.testing.assert_close(found, penalty, rtol=1e-8, atol=1e-9)
        weights = list(encoder.parameters())
        got = torch.autograd.grad(found, weights)
        wanted = torch.autograd.grad(penalty, weights)
        for gradient, right in zip(got, wanted, strict=True):
            torch.testing.assert_close(gradient, right, rtol=1e-6, atol=1e-9)
    shown = guard.summary()
    assert shown["protect/excess/head"] == pytest.approx(excess[0])
    assert shown["protect/excess/rare"] == pytest.approx(excess[1])


STREAMED = DataConfig(source="a.parquet", val="b", test="c", stream=True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "protect.groups=head, tail are held .* start from a run"),
        (
            {"init": "a", "data": STREAMED},
            "protect.groups need data.stream=False, got data.stream=True",
        ),
        (
            {"init": "a", "data": DataConfig(others=("another",))},
            "need no data.others, got another",
        ),
        ({"init": "a", "protect": ProtectConfig(("head", "head"))}, "has head 2 times"),
        ({"init": "a", "protect": ProtectConfig(("head",), beta=0.0)}, "protect.beta must be"),
        ({"init": "a", "protect": ProtectConfig(("head",), samples=1)}, "protect.samples must be"),
    ],
)
def test_what_means_nothing_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        Config(**{"protect": ProtectConfig(("head", "tail"))} | changes)


def test_groups_are_of_classes_that_are_there():
    names, labels = ["head", "head", "tail", "tail"], ["a", "a", "b", "c"]
    rows = rows_of(("tail", "a"), labels, names)
    assert {name: places.tolist() for name, places in rows.items()} == {"tail": [2, 3], "a": [0, 1]}
    with pytest.raises(ValueError, match="'b' has 1 training samples and needs 2: there are head"):
        rows_of(("b",), labels, names)
    with pytest.raises(ValueError, match="'mid' has 0 training samples"):
        rows_of(("mid",), labels, names)
    with pytest.raises(ValueError, match="need classes: name their column as data.label"):
        rows_of(("head",), None, None)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Write old pictures with their words, and new ones that look alike with other words."""
    folder, rng = tmp_path_factory.mktemp("protected"), np.random.default_rng(0)
    pictures = rng.integers(0, 256, (24, 8, 8, 3))
    rows = []
    for copy_ in range(6):
        for i, picture in enumerate(pictures):
            pixels = (picture + rng.integers(-9, 10, picture.shape)).clip(0, 255)
            name = f"{copy_}-{i}.png"
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name)
            old = copy_ < 3
            split = {1: "val", 2: "test"}.get(copy_, "train")
            row = {"image": name, "caption": f"word{i if old else (i + 1) % 24}", "split": split}
            rows.append(row | {"kind": "old" if old else "new"})
    (folder / "pairs.json").write_text(json.dumps(rows))
    (folder / "old.json").write_text(json.dumps([row for row in rows if row["kind"] == "old"]))
    return folder


def of_table(make_config, output, place, **fields):
    fields = {"data__source": str(place), "data__label": "kind", "data__image_size": 8} | fields
    fields |= {"model__grid": 2, "model__augment": False, "optim__batch_size": 24, "log_every": 1}
    return make_config(output, data__limit=None, **fields)


@pytest.fixture(scope="module")
def start(make_config, table, tmp_path_factory):
    output = tmp_path_factory.mktemp("start") / "run"
    config = of_table(make_config, output, table / "old.json", optim__epochs=40, optim__lr=0.02)
    config.evaluation.every = 40
    train(config)
    return output


def guarded(make_config, output, start, table, beta=40.0, **fields):
    config = of_table(make_config, output, table / "pairs.json", init=str(start), **fields)
    config.protect = ProtectConfig(("old",), beta=beta, samples=12, tau=0.1)
    return config


def test_a_group_is_held_at_its_start(make_config, start, table, tmp_path):
    ends = {}
    for beta in (1e-6, 40.0):
        config = guarded(
            make_config, tmp_path / f"{beta}", start, table, beta, optim__epochs=6, optim__lr=0.01
        )
        train(config)
        lines = [json.loads(line) for line in (config.output / "history.jsonl").open()]
        ends[beta] = [line["protect/excess/old"] for line in lines if "protect/excess/old" in line]
    assert ends[1e-6][-1] > 0.5
    assert ends[40.0][-1] < ends[1e-6][-1] / 2
    record = json.loads((config.output / "results.json").read_text())
    assert record["protocol"]["protected"].startswith("old at ")
    held = float(record["protocol"]["protected"].split()[2].rstrip(":"))
    encoder, tokenizer, _ = load_encoder(start / "checkpoints" / "best")
    data = load_splits(config.data)["train"]
    rows = [i for i, name in enumerate(data.labels) if name == "old"]
    with torch.no_grad():
        x, y = encoder(data.images[rows], tokenizer([data.captions[i][0] for i in rows]))
    torch.manual_seed(0)
    drawn = [  # two batches of 12 of the 24
        info_nce(x[part], y[part], 0.1).item()
        for _ in range(20)
        for part in torch.randperm(24).split(12)
    ]
    assert min(drawn) * 0.9 < held < max(drawn) * 1.1


def test_it_goes_on_bit_for_bit(make_config, start, table, tmp_path, check_resumed):
    configs = [guarded(make_config, tmp_path / name, start, table) for name in ("whole", "broken")]
    weights = check_resumed(*configs, ContrastiveModule, 5, 8)
    assert "guard.constraint.excess" in weights
