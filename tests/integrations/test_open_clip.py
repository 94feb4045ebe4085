"""open_clip's training with a loss of tauten, on a stand-in that has its names and its order."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

import tauten as tt
from tauten.integrations.open_clip import ControlledClipLoss, main
from tauten.integrations.open_clip_data import Batches, position

LABELS = [0, 0, 0, 1, 1, 2, 2, 3]


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(6, 8, generator=generator) for _ in range(2))
    return F.normalize(x, dim=1), F.normalize(y, dim=1)


def test_it_equals_clip_where_tau_is_constant(pair):
    loss = ControlledClipLoss(tt.InfoNCE(0.07))
    logits, target = pair[0] @ pair[1].T / 0.07, torch.arange(6)
    expected = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    scale = torch.tensor(1 / 0.07)
    found = loss(image_features=pair[0], text_features=pair[1], logit_scale=scale, output_dict=True)
    torch.testing.assert_close(found["contrastive_loss"], expected)
    torch.testing.assert_close(loss(*pair, scale), expected)


def test_each_pair_has_its_own_temperature(pair):
    loss = ControlledClipLoss(tt.InfoNCE(tt.ClusterShift([1, 2, 3, 4, 5, 6], 0.05, 0.2)))
    index = torch.tensor([5, 4, 3, 2, 1, 0])
    assert float(loss(*pair, index=index)) != float(loss(*pair, index=index.flip(0)))
    with pytest.raises(ValueError, match="pass index="):
        loss(*pair)


def test_the_models_scale_takes_part_and_stays(pair):
    scale, bias = torch.ones((), requires_grad=True), torch.ones((), requires_grad=True)
    ControlledClipLoss(tt.InfoNCE(0.07))(*pair, scale, bias).backward()
    assert (float(scale.grad), float(bias.grad)) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"index": 3, "json": {"key": "7"}}, 3),
        ({"json": {"index": 4, "key": 5}}, 4),
        ({"json": {"key": 5}}, 5),
        ({"json": {"key": "00006"}}, 6),
        ({"json": b"not decoded"}, 7),
    ],
)
def test_positions_of_samples_in_shards(members, expected):
    assert position({"__key__": "folder/000007", **members}) == expected


def test_a_sample_without_a_position_is_named():
    with pytest.raises(ValueError, match=r"'a/b7' of x.tar has no position.*KEY.index"):
        position({"__key__": "a/b7", "__url__": "x.tar", "json": {"index": True}})


def test_positions_are_those_of_as_many_batches_as_a_step_takes():
    batches = Batches(2)
    for positions in ([0, 1], [2, 3], torch.tensor([4, 5])):
        batches.note(positions)
    assert batches.positions(4).tolist() == [2, 3, 4, 5]
    with pytest.raises(ValueError, match="a batch of 2 pairs came with 4 positions"):
        batches.positions(2)


class Writer:
    """TensorBoard's writer."""

    def __init__(self):
        self.lines = []

    def add_scalar(self, name, value, step):
        self.lines.append((name, value, step))


def options(folder, **changes):
    generator = torch.Generator().manual_seed(1)
    sides = [torch.randn(8, 4, generator=generator) for _ in range(2)]
    samples = [
        {"__key__": f"{7 - i}", "image": x, "text": y}
        for i, (x, y) in enumerate(zip(*sides, strict=True))
    ]
    values = {
        "samples": samples, "batch_size": 4, "epochs": 2, "accum_freq": 1, "resume": None,
        "folder": folder, "writer": Writer(), "log_every_n_steps": 1, "device": "cpu",
        "dataset_type": "webdataset", "distill_model": None, "model": "tiny", "horovod": False,
        "opt": "adamw", "wandb": False,
    }  # fmt: skip
    return SimpleNamespace(**{**values, **changes})


def loss_fn():
    tau = tt.Learnable(0.1, 0.05, 0.5) + tt.ClusterShift([3, 3, 3, 2, 2, 2, 2, 1], 0.0, 0.1)
    return tt.InfoNCE(tau + tt.Cosine(0.0, 0.1, period=6))


@pytest.mark.parametrize(
    ("kind", "accumulated"), [("webdataset", 1), ("webdataset", 2), ("csv", 1)]
)
def test_training_equals_a_plain_loop(stand_ins, tmp_path, kind, accumulated):
    args = options(tmp_path, dataset_type=kind, accum_freq=accumulated)
    trained = loss_fn()
    model = main([args], trained, LABELS)
    torch.manual_seed(0)
    tower, expected = torch.nn.Linear(4, 3, bias=False), loss_fn()
    learned = {"params": [*expected.parameters()], "weight_decay": 0.0}
    optimizer = torch.optim.AdamW([{"params": tower.parameters()}, learned], lr=0.1)
    x, y = (torch.stack([s[side] for s in args.samples]) for side in ("image", "text"))
    names = torch.arange(8) if kind == "csv" else torch.arange(8).flip(0)
    for _ in range(2):
        for rows in torch.arange(8).split(4 * accumulated):
            optimizer.zero_grad()
            expected(tower(x[rows]), tower(y[rows]), names[rows]).backward()
            optimizer.step()
            expected.step()
    torch.testing.assert_close(model.weight, tower.weight)
    torch.testing.assert_close(trained.tau(names), expected.tau(names))
    # Adam does not see a factor of all gradients, so they are compared themselves
    gradients = [[p.grad for p in loss.parameters()] for loss in (trained, expected)]
    torch.testing.assert_close(*gradients)
    assert trained.steps == expected.steps == 4 // accumulated
    assert float(model.logit_scale.detach()) == 2.0
    logged = {(name, step) for name, _, step in args.writer.lines}
    assert {("train/tau/tail", 0), ("train/tau/mean", 4 // accumulated - 1)} <= logged
    assert args.tauten_loss == repr(loss_fn())


def test_a_resumed_training_goes_on_with_the_loss(stand_ins, tmp_path):
    whole, resumed = loss_fn(), loss_fn()
    expected = main([options(tmp_path, epochs=3)], whole)
    model = main([options(tmp_path, epochs=3, resume=tmp_path / "0.pt")], resumed)
    torch.testing.assert_close(model.weight, expected.weight)
    assert resumed.steps == whole.steps == 6
    torch.testing.assert_close(resumed.tau(torch.arange(8)), whole.tau(torch.arange(8)))


def test_a_checkpoint_of_another_training_is_refused(stand_ins, tmp_path):
    main([options(tmp_path, epochs=1)], loss_fn())
    saved = torch.load(tmp_path / "0.pt")
    del saved["optimizer"]["tauten_loss"]
    torch.save(saved, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="no state of a loss of tauten: .* --pretrained"):
        main([options(tmp_path, resume=tmp_path / "other.pt")], loss_fn())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"distill_model": "x"}, "--distill-model cannot be used"),
        ({"model": "coca_ViT"}, "--model coca cannot be used"),
        ({"opt": "timm/lion"}, "--opt timm/lion cannot be used"),
    ],
)
def test_options_with_a_loss_of_their_own_are_refused(stand_ins, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        main([options(tmp_path, **changes)], loss_fn())


def test_open_clip_is_left_as_it_was(stand_ins, tmp_path):
    stand_ins("open_clip")
    from open_clip_train import data
    from open_clip_train import main as module

    before = [copy.copy(vars(module)), copy.copy(vars(data))]
    main([options(tmp_path, epochs=1)], loss_fn())
    assert [vars(module), vars(data)] == before
