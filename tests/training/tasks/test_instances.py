"""Two views of pictures without classes: trained, validated and used."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import tauten as tt
from tauten import report
from tauten.cli import main
from tauten.data import emoji_lt
from tauten.models import ConvTower, ViewEncoder
from tauten.training import evaluate, train
from tauten.training.stores.pair_data import PairData
from tauten.training.tasks.instances import instances, shares


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Pictures at two depths with nothing beside them."""
    folder = tmp_path_factory.mktemp("bare") / "photos"
    (folder / "deep").mkdir(parents=True)
    for i, row in enumerate(emoji_lt("val").select(range(90))):
        row["image"].save(folder / ("deep" if i % 2 else ".") / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def run(photos, make_config, tmp_path_factory):
    config = make_config(tmp_path_factory.mktemp("instances") / "run", task="views")
    config.data.source, config.data.limit, config.data.held_out = str(photos), None, 0.2
    config.evaluation.metric, config.optim.batch_size = "last", 16
    train(config)
    return config.output


def pixels(count):
    drawn = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, 16, 16), generator=drawn).byte()
    return PairData(images, [[]] * count, [""] * count, [[]] * count, None, "f")


def test_the_other_view_is_found_by_the_cosine_of_features():
    torch.manual_seed(3)
    encoder, data = ViewEncoder(ConvTower((4,), 2), 6).train(), pixels(12)
    state = torch.get_rng_state()
    found = instances(encoder, data, batch_size=12, progress=False, together=False)
    assert torch.equal(torch.get_rng_state(), state)
    assert encoder.training
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        first, second = (
            encoder.eval().features(view).double().numpy() for view in encoder.views(data.images)
        )
    first, second = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (first, second))
    similar = first @ second.T
    place = [(similar[i] >= similar[i, i]).sum() for i in range(12)]
    assert found["instance@1"].tolist() == [p <= 1 for p in place]
    assert found["instance@10"].tolist() == [p <= 10 for p in place]
    assert 0 < sum(p <= 1 for p in place) < 12


def test_equal_features_are_not_found():
    encoder = ViewEncoder(ConvTower((4,), 2), 6)
    for part in encoder.tower.modules():
        if isinstance(part, nn.Conv2d | nn.BatchNorm2d):
            nn.init.zeros_(part.weight)
            if part.bias is not None:
                nn.init.ones_(part.bias)
    found = instances(encoder, pixels(4), batch_size=2, progress=False, together=False)
    metrics = shares(found)
    assert metrics["instance@1"] == 0.0
    assert metrics["n"] == 4
    assert metrics["instance@1/high"] == pytest.approx(3.8415 / (4 + 3.8415), abs=1e-4)


def test_a_run_without_classes_is_evaluated_embedded_and_gone_on_from(run, photos, capsys):
    results = json.loads((run / "results.json").read_text())
    assert set(results["protocol"]) >= {"instances", "selection"}
    assert not {"neighbours", "groups"} & set(results["protocol"])
    assert evaluate(run, bootstrap=0)["instance@1"] == results["test"]["instance@1"]
    assert evaluate(run, split="val", bootstrap=0)["n"] == results["val"]["n"]
    assert tt.load(run).encode_image([photos / "0.png"]).shape[0] == 1
    assert main(["evaluate", str(run)]) == 0
    assert "instance@10" in capsys.readouterr().out
    with pytest.raises(ValueError, match="two views without classes, and a report is about"):
        report.write([run], run.parent / "report")
    assert main(["data", "check", str(photos), "--views"]) == 0
    assert "no classes" in capsys.readouterr().out


def test_what_needs_classes_is_refused(photos, make_config, tmp_path):
    fields = {"data__source": str(photos), "evaluation__metric": "knn@1"}
    config = make_config(tmp_path, task="views", **fields)
    with pytest.raises(ValueError, match=r"or train on pictures without classes with evaluation"):
        config.validate()
    config = make_config(tmp_path / "run", task="views", control__kind="mmts")
    config.data.source, config.evaluation.metric = str(photos), "last"
    with pytest.raises(ValueError, match="control.kind=mmts needs to know how dense"):
        train(config)
    config.data.clusters = 3
    with pytest.raises(ValueError, match=r"data.clusters=3 are of captions, which task=views"):
        config.validate()
