import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tauten import MaxMargin
from tauten.cli import main
from tauten.data.emoji_video import name_relevancy
from tauten.evaluation import multi_instance_retrieval
from tauten.files import read_arrays
from tauten.losses import SMS
from tauten.recipes import emoji_video_margin_constant, emoji_video_margin_mmts
from tauten.training import evaluate, specs, train
from tauten.training.loop.trainer import ContrastiveTrainer
from tauten.training.tasks.module import ContrastiveModule


def tiny(shared_data, output, recipe=emoji_video_margin_mmts, **fields):
    config = recipe(output=output, epochs=2)
    config.data.source = f"emoji_video:{shared_data}"
    config.data.limit, config.data.frames, config.data.image_size = 96, 2, 16
    config.model.channels, config.model.grid = (8,), 2
    config.model.dim = config.model.text_width = 8
    config.optim.batch_size, config.evaluation.every = 32, 1
    config.evaluation.bootstrap, config.log_every = 20, 2
    config.progress = config.tensorboard = False
    for name, value in fields.items():
        owner, _, field = name.rpartition("__")
        setattr(getattr(config, owner) if owner else config, field, value)
    return config


@pytest.fixture(scope="module")
def run(shared_data, tmp_path_factory):
    config = tiny(shared_data, tmp_path_factory.mktemp("video") / "run")
    return config, train(config)


def test_the_recipes_differ_in_the_control_alone():
    constant, mmts = emoji_video_margin_constant(), emoji_video_margin_mmts()
    assert (constant.control.kind, mmts.control.kind) == ("matched", "mmts")
    assert specs.control("mmts", **vars(constant.control)) == mmts.control
    for field in ("data", "model", "loss", "optim", "evaluation", "family"):
        assert getattr(constant, field) == getattr(mmts, field)


def test_without_data_it_says_what_is_needed(tmp_path, capsys):
    output = tmp_path / "run"
    assert main(["train", "emoji_video_margin_mmts", "--output", str(output)]) == 1
    shown = capsys.readouterr().err
    assert "give --data emoji_video:FOLDER" in shown
    assert "tauten data check emoji_video" in shown
    assert not output.exists()


def test_metrics_are_those_of_the_written_embeddings(run):
    config, result = run
    found = read_arrays(config.output / "embeddings.npz")
    x, y = (torch.from_numpy(found[name]) for name in ("x", "y"))
    own, names = found["y_of_x"], list(found["captions"])
    relevancy = name_relevancy([names[i] for i in own], names).dense()
    wanted = multi_instance_retrieval(x @ y.T, relevancy, bootstrap=20)
    assert {"nDCG/mean", "mAP_official/mean", "mAP_textbook/x2y", "nDCG/y2x/low"} <= set(wanted)
    for name, value in wanted.items():
        assert result.test[f"multi_instance/{name}"] == pytest.approx(value, abs=1e-12), name
    written = json.loads((config.output / "results.json").read_text())
    assert "½ for the same action" in written["protocol"]["multi_instance"]
    assert written["protocol"]["clips"] == "2 frames of each clip, evenly spaced"
    assert {"x2y/hit@1", "y2x/hit@10/low"} <= set(written["test"])


def test_the_run_can_be_evaluated_again_and_shown(run):
    config, result = run
    again = evaluate(config.output, bootstrap=20)
    assert again["multi_instance/nDCG/mean"] == result.test["multi_instance/nDCG/mean"]
    with np.load(config.output / "test_images.npz") as found:
        assert found["images"].shape == (96, 16, 16, 3)
    lines = [json.loads(row) for row in (config.output / "history.jsonl").read_text().splitlines()]
    logged = [line for line in lines if "force/attraction/mid" in line]
    assert logged
    assert all(line["tau/mid"] > line["tau/tail"] > 0 for line in logged)


def test_interrupted_it_ends_with_the_same_bits(run, shared_data, tmp_path, monkeypatch):
    config, _ = run
    step = ContrastiveTrainer.training_step

    def dies(self, *args, **kwargs):
        if self.state.global_step == 4:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    again = tiny(shared_data, tmp_path / "run")
    with monkeypatch.context() as context:
        context.setattr(ContrastiveTrainer, "training_step", dies)
        with pytest.raises(KeyboardInterrupt):
            train(again)
    train(again)
    last = "checkpoints/checkpoint-6/model.safetensors"
    whole, resumed = (load_file(c.output / last) for c in (config, again))
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())
    first, second = ((c.output / "history.jsonl").read_text() for c in (config, again))
    assert first == second


@pytest.mark.parametrize(
    ("fields", "loss"),
    [
        ({"loss": specs.loss("sms"), "control": specs.control("constant", value=0.6)}, SMS),
        ({"loss__adaptive": True}, MaxMargin),
    ],
)
def test_graded_losses_learn(shared_data, tmp_path, monkeypatch, fields, loss):
    seen = []
    forward = ContrastiveModule.forward

    def watched(self, images, texts, index, same, graded=()):
        out = forward(self, images, texts, index, same, graded)
        batch = self.last_batch
        rows, cols, own = graded
        options = {"relevance": own}
        if isinstance(self.loss_fn, SMS):
            options = {"relevancy": self.loss_fn.table[rows][:, cols]}
        assert isinstance(self.loss_fn, loss)
        wanted = self.loss_fn(batch.x, batch.y, index, same=same, **options)
        seen.append((out["loss"].item(), wanted.item()))
        return out

    monkeypatch.setattr(ContrastiveModule, "forward", watched)
    result = train(tiny(shared_data, tmp_path / "run", **fields))
    assert len(seen) == 6
    assert all(ours == pytest.approx(wanted, rel=1e-5) for ours, wanted in seen)
    assert 0 < result.test["multi_instance/nDCG/mean"] < 1
