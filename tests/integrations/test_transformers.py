"""Hugging Face's trainer with a loss of tauten, against a plain loop."""

import json
from itertools import pairwise

import pytest
import torch
from torch import nn
from transformers import TrainerCallback, TrainingArguments

import tauten as tt
from tauten.integrations.transformers import Collator, ContrastiveTrainer, LossCallback, Positions

SAMPLES, BATCH = 8, 4
LABELS = [0, 0, 0, 0, 1, 1, 1, 2]
DATA = torch.randn(SAMPLES, 2, 4, generator=torch.Generator().manual_seed(0))


class Towers(nn.Module):
    """A model of two outputs; like CLIP's its forward takes further keywords."""

    def __init__(self):
        super().__init__()
        self.tower = nn.Linear(4, 3, bias=False)
        self.tower.weight.data = torch.linspace(-1, 1, 12).reshape(3, 4)

    def forward(self, images, texts, **further):
        assert not further
        return {"x": self.tower(images), "y": self.tower(texts)}


class Reports(TrainerCallback):
    """An integration that reports, such as W&B's."""

    def __init__(self):
        self.lines = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.lines.append({"step": state.global_step, **logs})


def rows():
    return Positions([{"images": x, "texts": y, "source": "not a number"} for x, y in DATA])


def loss_fn():
    tau = tt.Learnable(0.2, 0.05, 0.5) + tt.ClusterShift([4, 4, 4, 4, 3, 3, 3, 1], 0.0, 0.1)
    return tt.InfoNCE(tau + tt.Cosine(0.0, 0.1, period=6))


def trainer(folder, loss, callbacks=(), **options):
    values = {
        "max_steps": 4, "per_device_train_batch_size": BATCH // 2, "learning_rate": 0.05,
        "gradient_accumulation_steps": 2, "optim": "sgd", "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0, "logging_steps": 2, "save_steps": 2, "report_to": "none",
        "use_cpu": True, "disable_tqdm": True, "dataloader_pin_memory": False,
    }  # fmt: skip
    arguments = TrainingArguments(output_dir=str(folder), **{**values, **options})
    return ContrastiveTrainer(
        Towers(), arguments, loss_fn=loss, labels=LABELS, train_dataset=rows(),
        outputs=("x", "y"), callbacks=list(callbacks), eval_loss_fn=tt.InfoNCE(0.07),
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A training, the batches that its loss saw, and what was reported."""
    folder, loss, reports, seen = tmp_path_factory.mktemp("run"), loss_fn(), Reports(), []
    loss.register_forward_pre_hook(lambda module, given: seen.append(given[2]))
    made = trainer(folder, loss, [reports])
    made.train()
    return made, seen, reports.lines, folder


def test_it_equals_a_plain_loop(trained):
    made, seen, _, _ = trained
    model, expected = Towers(), loss_fn()
    optimizer = torch.optim.SGD([*model.parameters(), *expected.parameters()], lr=0.05)
    assert len(seen) == 8
    for first, second in zip(seen[::2], seen[1::2], strict=True):
        optimizer.zero_grad()
        for index in (first, second):
            outputs = model(*DATA[index].unbind(1))
            (expected(outputs["x"], outputs["y"], index) / 2).backward()
        optimizer.step()
        expected.step()
    torch.testing.assert_close(made.model.tower.weight, model.tower.weight)
    torch.testing.assert_close(
        made.loss_fn.tau(torch.arange(SAMPLES)), expected.tau(torch.arange(SAMPLES))
    )
    assert made.loss_fn.steps == 4


def test_what_it_reports_to_has_temperatures_by_group(trained):
    made, _, lines, _ = trained
    training = [line for line in lines if "loss" in line]
    assert [line["step"] for line in training] == [2, 4]
    for line in training:
        # ClusterShift is 0, 0.0667 and 0.1 for counts of 1, 3 and 4
        assert line["tau/head"] - line["tau/tail"] == pytest.approx(0.1, abs=1e-5)
        assert line["tau/mid"] - line["tau/tail"] == pytest.approx(0.2 / 3, abs=1e-5)
    assert made.state.log_history[0]["tau/tail"] == training[0]["tau/tail"]


def test_a_resumed_training_ends_as_a_whole_one(trained, tmp_path):
    made, _, _, folder = trained
    assert int(torch.load(folder / "checkpoint-2" / "loss.pt")["_step"]) == 2
    again = trainer(tmp_path, loss_fn())  # into another folder
    again.train(resume_from_checkpoint=str(folder / "checkpoint-2"))
    torch.testing.assert_close(again.model.tower.weight, made.model.tower.weight)
    torch.testing.assert_close(again.loss_fn.state_dict(), made.loss_fn.state_dict())


def test_evaluation_has_a_loss_of_its_own(trained):
    made, _, _, _ = trained
    steps = made.loss_fn.steps
    result = made.predict(rows())
    x, y = result.predictions
    torch.testing.assert_close(torch.tensor(x), made.model.tower(DATA[:, 0]).detach())
    expected = float(tt.InfoNCE(0.07)(torch.tensor(x), torch.tensor(y)))
    assert result.metrics["test_loss"] == pytest.approx(expected, rel=1e-5)
    assert result.label_ids.tolist() == list(range(SAMPLES))
    assert made.loss_fn.steps == steps


def test_a_checkpoint_without_the_loss_is_refused(trained, tmp_path):
    _, _, _, folder = trained
    state = json.loads((folder / "checkpoint-2" / "trainer_state.json").read_text())
    assert state["global_step"] == 2
    callback = LossCallback(loss_fn(), resume_from=tmp_path)
    made = trained[0]
    with pytest.raises(ValueError, match="has no loss.pt, the state of the loss at step 4"):
        callback.on_train_begin(made.args, made.state, None)


def test_the_first_process_saves(trained, tmp_path):
    made = trained[0]
    callback = LossCallback(loss_fn())
    args = type("Arguments", (), {"output_dir": str(tmp_path)})
    for first in (False, True):
        (tmp_path / "checkpoint-3").mkdir(exist_ok=True)
        state = type("State", (), {"global_step": 3, "is_world_process_zero": first})
        callback.on_save(args, state, None)
        assert (tmp_path / "checkpoint-3" / "loss.pt").exists() == first
    assert made.loss_fn.steps == 4


def test_positions_of_another_set_are_refused(tmp_path):
    with pytest.raises(ValueError, match="positions of another set mean other samples"):
        ContrastiveTrainer(Towers(), None, loss_fn=loss_fn(), eval_dataset=rows())


def test_the_collator_keeps_positions_whatever_it_wraps():
    collate = Collator(lambda rows: {"names": [row["name"] for row in rows]})
    batch = collate([{"name": "a", "index": 4}, {"name": "b", "index": 2}])
    assert batch["names"] == ["a", "b"]
    assert batch["index"].tolist() == [4, 2]
    assert collate([{"name": "a"}]) == {"names": ["a"]}
    with pytest.raises(ValueError, match="1 of 2 rows have no 'index'"):
        collate([{"name": "a", "index": 4}, {"name": "b"}])


def test_rows_that_have_a_position_keep_it():
    with pytest.raises(ValueError, match="row 0 has a column 'index' already"):
        Positions([{"index": 5}])[0]


def test_a_step_that_the_scaler_leaves_out_is_none_of_the_loss(tmp_path, monkeypatch):
    """In float16 on a GPU; here with the scaler on the CPU, whose scale is too large at first."""
    made = ContrastiveTrainer.create_accelerator_and_postprocess

    def create(trainer):
        made(trainer)
        trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**18)
        trainer.accelerator.native_amp = True

    monkeypatch.setattr(ContrastiveTrainer, "create_accelerator_and_postprocess", create)
    loss = loss_fn()
    weights = []

    class Seen(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            weights.append((model.tower.weight.detach().clone(), loss.steps))

    trainer(tmp_path, loss, [Seen()], max_steps=8, fp16=True).train()
    start = (Towers().tower.weight.detach(), 0)
    moved = [not torch.equal(b[0], a[0]) for a, b in pairwise([start, *weights])]
    assert moved == [b[1] > a[1] for a, b in pairwise([start, *weights])]
    assert set(moved) == {False, True}
