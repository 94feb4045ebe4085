"""The examples run, at small settings, and do what they show."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

import tauten as tt

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(6, 8, generator=generator) for _ in range(2))
    return F.normalize(x, dim=1), F.normalize(y, dim=1)


def test_plain_torch_learns():
    main = example("plain_torch").main
    short, long = main(epochs=1, samples=512), main(epochs=4, samples=512)
    assert (short["steps"], long["steps"]) == (4, 16)
    assert long["loss"] < short["loss"]
    assert 0 <= long["x2y/hit@10/tail"] <= 1


def test_open_clip_adapter_equals_clip_where_tau_is_constant(pair):
    loss = example("open_clip_loss").ControlledClipLoss(tt.InfoNCE(0.07))
    logits, target = pair[0] @ pair[1].T / 0.07, torch.arange(6)
    expected = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    scale = torch.tensor(1 / 0.07)
    found = loss(image_features=pair[0], text_features=pair[1], logit_scale=scale, output_dict=True)
    torch.testing.assert_close(sum(found.values()), expected)
    torch.testing.assert_close(loss(*pair, scale), expected)


def test_open_clip_step_gives_each_pair_its_own_temperature(pair):
    module = example("open_clip_loss")
    loss = module.ControlledClipLoss(tt.InfoNCE(tt.ClusterShift([1, 2, 3, 4, 5, 6], 0.05, 0.2)))
    index = torch.tensor([5, 4, 3, 2, 1, 0])
    assert float(loss(*pair, index=index)) != float(loss(*pair, index=index.flip(0)))
    with pytest.raises(ValueError, match="pass index="):
        loss(*pair)


@pytest.fixture
def process_group(tmp_path):
    """A group of this process alone."""
    store = f"file://{tmp_path / 'store'}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_open_clip_adapter_goes_on_under_data_parallelism(process_group):
    """Every parameter takes part, the scale that does nothing too."""
    module = example("open_clip_loss")
    torch.manual_seed(0)
    model = torch.nn.parallel.DistributedDataParallel(module.StandIn())
    scale = float(model.module.logit_scale.detach())
    loss = module.ControlledClipLoss(tt.InfoNCE(tt.Learnable(0.07, 0.01, 1.0)))
    trained = [*model.parameters(), *loss.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=1e-2, weight_decay=0.0)
    batch = torch.randn(8, 3, 32, 32), torch.randint(1, 258, (8, 24)), torch.arange(8)
    module.train_one_epoch(model, [batch] * 3, loss, optimizer)
    assert loss.loss_fn.steps == 3
    assert float(model.module.logit_scale.detach()) == scale
    assert float(loss.loss_fn.tau(torch.tensor([0]))) != pytest.approx(0.07, rel=1e-4)


def test_open_clip_trains():
    module = example("open_clip_loss")
    first, last = module.main(epochs=1, samples=256), module.main(epochs=8, samples=256)
    assert last < first


def test_lightning_steps_the_loss_once_per_optimiser_step_and_saves_it():
    trained = example("lightning_module").main(epochs=2, samples=256)
    assert trained.loss_fn.steps == 4
    assert trained.loss_fn.strength.steps == 4
    assert int(trained.state_dict()["loss_fn._step"]) == 4


class Lookup(torch.nn.Module):
    """An encoder whose features are its embeddings."""

    def forward(self, features):
        return {"sentence_embedding": features}


@pytest.mark.parametrize("negatives", [0, 1, 3])
def test_sentence_transformers_adapter_takes_hard_negatives(negatives):
    module = example("sentence_transformers_loss")
    generator = torch.Generator().manual_seed(0)
    x, *columns = torch.randn(negatives + 2, 5, 8, generator=generator, dtype=torch.float64)
    index = torch.tensor([4, 0, 2, 1, 3])
    tau = tt.ClusterShift([1, 2, 3, 4, 5], 0.05, 0.2).double()
    adapter = module.ControlledLoss(Lookup(), tt.InfoNCE(tau, directions="x2y"))
    found = adapter([x, *columns], index)
    s = F.normalize(x, dim=1) @ F.normalize(torch.cat(columns), dim=1).T
    expected = F.cross_entropy(s / tau.at(index)[:, None], torch.arange(5))
    torch.testing.assert_close(found, expected)


def test_the_state_of_the_loss_is_saved_by_one_process(tmp_path):
    module = example("sentence_transformers_loss")
    callback = module.Controls(tt.InfoNCE(0.07))
    folder = tmp_path / "checkpoint-3"
    folder.mkdir()
    arguments = SimpleNamespace(output_dir=str(tmp_path))
    for first in (False, True):
        state = SimpleNamespace(global_step=3, is_world_process_zero=first)
        callback.on_save(arguments, state, None)
        assert (folder / "loss.pt").exists() == first


def test_sentence_transformers_train_and_resume_in_the_schedule(tmp_path):
    main = example("sentence_transformers_loss").main
    whole = main(tmp_path, samples=32, steps=2)
    assert whole.steps == 2
    saved = torch.load(tmp_path / "checkpoint-1" / "loss.pt")
    assert int(saved["_step"]) == int(saved["strength._step"]) == 1

    (tmp_path / "checkpoint-2").rename(tmp_path / "later")
    resumed = main(tmp_path, samples=32, steps=2, resume=True)
    assert resumed.steps == 2
    index = torch.arange(3812)
    assert torch.equal(resumed.tau(index), whole.tau(index))
    assert math.isclose(float(resumed.tau(index).min()), 0.07, abs_tol=1e-6)


def test_streaming_goes_on_in_the_middle_of_an_epoch(tmp_path):
    main = example("streaming").main
    small = {"samples": 150, "batch_size": 32, "save_every": 3}
    whole = main(tmp_path / "whole", **small)
    assert whole["steps"] == 10
    first = main(tmp_path / "killed", stop_after=4, **small)
    rest = main(tmp_path / "killed", **small)
    assert first["seen"][: 3 * 32] + rest["seen"] == whole["seen"]
    assert sorted(whole["seen"]) == sorted([*range(150)] * 2)
    for name, weights in whole["weights"].items():
        assert torch.equal(weights, rest["weights"][name]), name
