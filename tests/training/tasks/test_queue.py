"""Training of pairs against a queue of both sides, which a momentum encoder fills."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

import tauten as tt
from tauten.cli import main
from tauten.comparison.frozen import train_heads
from tauten.relations import Teacher
from tauten.training import Config, specs
from tauten.training.tasks.module import ContrastiveModule

IMAGES, INDEX = torch.rand(5, 3, generator=torch.Generator().manual_seed(1)), torch.arange(5) + 2
TEXTS = {"ids": torch.rand(5, 3, generator=torch.Generator().manual_seed(2))}
SAME = torch.tensor([0, 1, 2, 3, 4]), torch.tensor([7, 8, 9, 8, 6])


class Towers(nn.Module):
    """Two linear towers."""

    dim = 4

    def __init__(self):
        super().__init__()
        self.x, self.y = nn.Linear(3, 4), nn.Linear(3, 4)

    def forward(self, images, texts):
        return self.x(images), self.y(texts["ids"])


def module(loss_fn=None, **options):
    torch.manual_seed(0)
    loss_fn = loss_fn or tt.InfoNCE(0.2)
    return ContrastiveModule(Towers(), loss_fn, queue=8, momentum=0.5, **options).train()


def step(ours, shift=0):
    """One step; returns what the loss was, and the keys that were queued."""
    found = ours(IMAGES + shift, TEXTS, INDEX + shift, SAME)["loss"]
    found.backward()
    with torch.no_grad():
        for p in ours.encoder.parameters():
            p.sub_(0.1 * p.grad)
            p.grad = None
    ours.follow()
    ours.loss_fn.step()
    return found


@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("chunk", [None, 2])
def test_both_sides_meet_the_queue_as_in_a_literal_loop(mask, chunk):
    ours = module(mask_duplicates=mask, chunk=chunk)
    before = [p.clone() for p in ours.slow.parameters()]
    step(ours)
    for p, old, new in zip(ours.slow.parameters(), before, ours.encoder.parameters(), strict=True):
        torch.testing.assert_close(p, 0.5 * old + 0.5 * new)
    with torch.no_grad():
        queued = [ours.queue.pairs._keys[:5, :4].clone(), ours.queue.pairs._keys[:5, 4:].clone()]
        x, y = ours.encoder(IMAGES + 1, TEXTS)
        kx, ky = ours.slow(IMAGES + 1, TEXTS)
    ids = torch.cat([INDEX + 1, INDEX])
    images, captions = (torch.cat([column, column]) for column in SAME)
    expected, met = 0.0, 0
    for anchors, keys, old in ((x, ky, queued[1]), (y, kx, queued[0])):
        s = F.normalize(anchors, dim=1) @ F.normalize(torch.cat([keys, old]), dim=1).T / 0.2
        for i in range(5):
            meets = [
                j
                for j in range(10)
                if j == i
                or (
                    ids[j] != ids[i]
                    and not (mask and (images[j] == images[i] or captions[j] == captions[i]))
                )
            ]
            met += len(meets)
            expected += (s[i, meets].logsumexp(0) - s[i, i]) / 10
    assert met < 100
    torch.testing.assert_close(step(ours, shift=1), expected)
    assert all(p.grad is None for p in ours.slow.parameters())
    assert len(ours.queue) == 8
    assert ours.queue.pairs._ids[:, 0].sort().values.tolist() == [3, 4, 4, 5, 5, 6, 6, 7]
    force = ours.forces(None)
    assert force["force/repulsion/all"] == pytest.approx(force["force/attraction/all"], rel=1e-4)
    ours.eval()(IMAGES, TEXTS, INDEX, SAME)
    assert int(ours.queue.pairs._pushed) == 10


def test_mixtures_of_the_queue_are_own_negatives():
    ours = module(mixed=(4, 3, 2))
    step(ours)
    found = ours(IMAGES + 5, TEXTS, INDEX + 5, (SAME[0] + 5, SAME[1]))["loss"]
    batch = ours.last_batch
    one, other = batch.relation["negatives"], batch.relation["negatives"]
    assert one.for_x.shape == one.for_y.shape == (5, 5, 4)
    torch.testing.assert_close(one.for_x, other.for_x)  # logged forces are those of the step
    expected = tt.InfoNCE(0.2)(batch.x, batch.y, keys=batch.keys, negatives=one)
    torch.testing.assert_close(found, expected)
    assert found > tt.InfoNCE(0.2)(batch.x, batch.y, keys=batch.keys)
    force = ours.forces(None)
    assert force["force/repulsion/all"] == pytest.approx(force["force/attraction/all"], rel=1e-4)


def test_the_momentum_encoder_makes_a_share_of_the_targets():
    ours = module(teacher=(0.4, 0.1))
    step(ours)
    with torch.no_grad():
        queued = [ours.queue.pairs._keys[:5, :4].clone(), ours.queue.pairs._keys[:5, 4:].clone()]
        x, y = ours.encoder(IMAGES + 5, TEXTS)
        kx, ky = ours.slow(IMAGES + 5, TEXTS)
    kept = (torch.cat([SAME[0] + 5, SAME[0]]) != SAME[0][:, None] + 5).logical_and(
        torch.cat([SAME[1], SAME[1]]) != SAME[1][:, None]
    )
    kept |= torch.eye(5, 10, dtype=torch.bool)
    expected = 0.0
    for anchors, own, keys, old in ((x, kx, ky, queued[1]), (y, ky, kx, queued[0])):
        there = F.normalize(torch.cat([keys, old]), dim=1).T
        logits = (F.normalize(anchors, dim=1) @ there / 0.2).masked_fill(~kept, -torch.inf)
        teacher = (F.normalize(own, dim=1) @ there / 0.1).masked_fill(~kept, -torch.inf)
        target = 0.4 * teacher.softmax(1) + 0.6 * torch.eye(5, 10)
        expected -= (target * logits.log_softmax(1).masked_fill(~kept, 0.0)).sum() / 10
    same = SAME[0] + 5, SAME[1]
    found = ours(IMAGES + 5, TEXTS, INDEX + 5, same)["loss"]
    torch.testing.assert_close(found, expected)
    assert ours.last_batch.relation["targets"].share == 0.4
    force = ours.forces(None)
    assert force["force/repulsion/all"] == pytest.approx(force["force/attraction/all"], rel=1e-4)


def test_the_teachers_share_rises_over_the_first_steps():
    """ALBEF: from 0, which is the loss of a queue alone, to its share after an epoch."""
    ours, plain = (module(teacher=teacher) for teacher in ((0.4, 0.1), None))
    ours.rise = 4
    shares = []
    for shift in (0, 5, 10, 15, 20, 25):
        values = [step(one, shift=shift) for one in (ours, plain)]
        shares.append(ours.last_batch.teacher[0])
        if shift == 0:
            assert torch.equal(*values)  # a share of 0 is MoCo's loss, bit for bit
            assert all(map(torch.equal, ours.parameters(), plain.parameters()))
        else:
            assert float(values[0]) != float(values[1])
    assert shares == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.4])


def test_a_share_that_rises_resumes_with_the_same_bits(tmp_path, make_config, check_resumed):
    fields = {"loss__queue": 40, "loss__momentum": 0.9, "control__kind": "learnable"}
    fields |= {"loss__distill": 0.4, "loss__distill_rise": 1.5}
    whole, cut = (make_config(tmp_path / name, **fields) for name in ("whole", "cut"))
    check_resumed(whole, cut, ContrastiveModule, step=5, last=6)


@pytest.mark.parametrize("family", ["infonce", "maxmargin"])
def test_an_interrupted_run_ends_with_the_same_bits(tmp_path, make_config, check_resumed, family):
    fields = {"family": family, "loss__queue": 40, "loss__momentum": 0.9, "log_every": 1}
    fields["control__kind"] = "mmts" if family == "infonce" else "constant"
    whole, cut = (make_config(tmp_path / name, **fields) for name in ("whole", "cut"))
    weights = check_resumed(whole, cut, ContrastiveModule, step=5, last=6)
    assert int(weights["queue.pairs._pushed"]) == 6 * 32


def test_a_published_recipe_takes_a_queue_on_the_command_line(tmp_path, capsys, monkeypatch):
    teachers = []

    def noted(*keys, share):
        teachers.append((*keys[2:], share))
        return Teacher(*keys, share=share)

    monkeypatch.setattr("tauten.training.tasks.embedded.Teacher", noted)
    options = "--runlocal --data.limit 96 --optim.batch-size 32 --optim.epochs 1 --loss.queue 512"
    words = f"train emoji_infonce_mmts {options} --loss.momentum 0.99 --evaluation.bootstrap 20"
    words += " --loss.distill 0.3 --loss.distill-temperature 0.05 --loss.mixtures 4"
    words += " --loss.distill-rise 1"
    out = tmp_path / "run"
    assert main([*words.split(), "--no-progress", "--no-tensorboard", "--output", str(out)]) == 0
    assert {tau for tau, _ in teachers} == {0.05}
    assert sorted({share for _, share in teachers}) == pytest.approx([0.0, 0.1, 0.2])
    saved = json.loads((out / "results.json").read_text())
    assert 0 <= saved["test"]["mean_recall"] <= 1
    tensors = load_file(next((out / "checkpoints").glob("checkpoint-*")) / "model.safetensors")
    assert (tensors["queue.pairs._ids"][:, 0] >= 0).sum() == 96
    capsys.readouterr()
    other = ["train", "emoji_sogclr", "--loss.queue", "8", "--output"]
    with pytest.raises(SystemExit) as ended:
        main([*other, str(tmp_path / "other")])
    assert ended.value.code != 0
    assert "loss.queue" in capsys.readouterr().err
    alone = ["train", "emoji_infonce_mmts", "--loss.distill", "0.3", "--output"]
    assert main([*alone, str(tmp_path / "alone")]) == 1
    assert "--loss.distill has no meaning here: it needs --loss.queue" in capsys.readouterr().err


def test_heads_on_fixed_features_refuse_it():
    config = Config(loss=specs.loss("infonce", queue=8))
    with pytest.raises(ValueError, match=r"no momentum encoder.* loss\.queue.* got 8"):
        train_heads(config, {})
