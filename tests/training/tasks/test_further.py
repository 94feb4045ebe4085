"""Trainings of three modalities, one of which some samples lack."""

import dataclasses
import json
import logging

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import tauten as tt
from tauten.models import BagTower, ConvTower, DualEncoder
from tauten.models.modal_encoder import ModalEncoder
from tauten.training import Config, DataConfig, evaluate, load_encoder, specs, train
from tauten.training.options.further import further_of
from tauten.training.options.words import as_typed
from tauten.training.stores.splits import load_splits
from tauten.training.tasks.further import FurtherLosses
from tauten.training.tasks.module import ContrastiveModule


def configured(losses=(), **fields):
    return Config(
        data=DataConfig(source="somewhere", others=("back", "side")), losses=tuple(losses), **fields
    )


def test_each_two_modalities_have_a_loss_by_default():
    lines = further_of(configured())
    assert [line.name for line in lines] == [
        *("image+back", "image+side", "back+side", "back+caption", "side+caption")
    ]
    assert {line.weight for line in lines} == {1.0}
    assert all(line.config.loss == specs.loss() for line in lines)


def test_a_line_names_its_loss_its_control_and_its_weight():
    config = configured(
        [
            "caption+back weight=0.5 family=dcl control.kind=learnable control.value=0.05",
            "back+side term=alignment weight=2",
        ]
    )
    one, other = further_of(config)
    assert (one.sides, one.weight) == (("back", "caption"), 0.5)
    assert one.config.family == "dcl"
    assert (one.config.control.kind, one.config.control.value) == ("learnable", 0.05)
    assert (other.name, other.term, other.weight) == ("back+side/alignment", "alignment", 2.0)
    assert config.control.kind == "constant"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("back", "must begin with two modalities, such as image\\+back; there are image, back"),
        ("back+front", "must begin with two modalities"),
        ("back+caption weight", "'weight' in .* must be NAME=VALUE"),
        ("back+caption weight=-1", "weight must be"),
        ("back+caption family=foo", "'foo' is unknown"),
        ("back+caption control.low=0.1", "control.kind=constant has no control.low"),
        ("back+caption control.value=-1", "control.value must be"),
        ("back+caption term=foo", "term is one of alignment"),
        ("back+caption size=3", "size is no option of a loss"),
        ("back+caption loss.queue=8", "a queue is of the loss of image and caption alone"),
        ("image+caption", "image\\+caption has the loss of the run itself"),
        ("back+caption family=sms", "needs relevancies"),
        ("back+caption weight=1 weight=2", "has weight twice"),
    ],
)
def test_a_line_that_means_nothing_is_refused(line, said):
    with pytest.raises(ValueError, match=said):
        configured([line])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": DataConfig(source="a"), "losses": ("back+caption",)}, "name their columns as"),
        ({"data": DataConfig(source="a", others=("image",))}, "each once, got image"),
        ({"data": DataConfig(others=("back",))}, "the pairs of emoji_lt"),
        ({"losses": ("back+side", "side+back", "back+side")}, "has back\\+side 3 times"),
        ({"losses": ("image+back", "back+image weight=2")}, "has image\\+back 2 times"),
    ],
)
def test_a_configuration_that_means_nothing_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(configured(), **changes)


@pytest.mark.parametrize("line", ["back+side control.value=-3", "back+side loss.force=odd", "a+b"])
def test_a_message_has_the_text_as_it_was_typed(line):
    with pytest.raises(ValueError, match="losses: ") as error:
        configured([line])
    assert as_typed(str(error.value)) == f"--{error.value}"
    assert repr(line) in as_typed(str(error.value))


def test_the_remedy_of_a_cut_tar_is_an_option_that_can_be_typed():
    said = as_typed("a.tar is cut: copy it again, or allow_truncated=True to use the whole members")
    assert said.endswith("or --data.allow-truncated to use the whole members")


def test_the_loss_is_the_sum_over_two_modalities_of_those_that_have_both():
    """MoRE: pairwise losses with a temperature each; what a sample lacks is masked."""
    torch.manual_seed(0)
    towers = {"back": ConvTower((4,), 2), "side": ConvTower((4,), 2)}
    encoder = ModalEncoder(ConvTower((4,), 2), BagTower(9, 8), 6, others=towers).double()
    taus = {"image+back": 0.1, "image+side": 0.2, "back+caption": 0.3, "back+side": 0.5}
    lines = further_of(configured([f"{n} weight={2 * t}" for n, t in taus.items()]))
    further = FurtherLosses(lines, [tt.InfoNCE(tt.Learnable(t, 0.01, 1.0)) for t in taus.values()])
    module = ContrastiveModule(encoder, tt.InfoNCE(0.4), further=further).double().train()
    ids = torch.randint(2, 9, (5, 3))
    texts = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    images, back, side = torch.rand(3, 5, 3, 8, 8, dtype=torch.float64)
    index = torch.arange(5)
    there = {
        "back": torch.tensor([1, 1, 0, 1, 1]).bool(),
        "side": torch.tensor([1, 0, 0, 0, 1]).bool(),
    }
    others = {"back": (back, there["back"], index), "side": (side, there["side"], index)}
    found = module(images, texts, index, (index, index), others=others)["loss"]

    z = {"image": encoder.encode_image(images), "caption": encoder.encode_text(texts)}
    for name, pictures in (("back", back), ("side", side)):
        z[name] = torch.zeros(5, 6, dtype=torch.float64)
        z[name] = z[name].index_put(
            (there[name],), encoder.encode_other(name, pictures[there[name]])
        )

    def clip(one, other, tau):
        both = torch.ones(5, dtype=torch.bool)
        for name in (one, other):
            both &= there.get(name, both)
        a, b = (F.normalize(z[name][both]) for name in (one, other))
        logits, own = a @ b.T / tau, torch.arange(int(both.sum()))
        return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2

    expected = clip("image", "caption", 0.4)
    for name, tau in taus.items():
        expected = expected + 2 * tau * clip(*name.split("+"), tau)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    found.backward()
    assert len({float(p.grad) for p in further.parameters()}) == 4
    shown = further.summary()
    assert shown["tau/back+side"] == pytest.approx(0.5)
    assert shown["loss/image+side"] == pytest.approx(clip("image", "side", 0.2).item(), rel=1e-5)
    nobody = {n: (p, torch.zeros(5, dtype=torch.bool), i) for n, (p, _, i) in others.items()}
    alone = module(images, texts, index, (index, index), others=nobody)["loss"]
    torch.testing.assert_close(alone, clip("image", "caption", 0.4), rtol=1e-6, atol=1e-6)


COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 200, 60),
    "blue": (40, 60, 220),
    "grey": (99, 99, 99),
}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Write two drawings of coloured halves and a caption; every fourth sample has one drawing."""
    folder, rng = tmp_path_factory.mktemp("three"), np.random.default_rng(0)
    rows = []
    for i in range(240):
        chosen = rng.choice(list(COLOURS), 3)
        for kind, order in (("front", chosen), ("back", chosen[::-1])):
            pixels = np.zeros((12, 12, 3), np.uint8)
            for place, name in enumerate(order):
                pixels[:, 4 * place : 4 * place + 4] = COLOURS[name]
            noise = rng.integers(0, 40, pixels.shape)
            Image.fromarray((pixels * 0.8 + noise).astype(np.uint8)).save(folder / f"{kind}{i}.png")
        back = None if i % 4 == 0 else f"back{i}.png"
        row = {"image": f"front{i}.png", "back": back, "caption": f"{' '.join(chosen)} no {i}"}
        rows.append(row | {"kind": chosen[0]})
    (folder / "broken.png").write_bytes(b"no picture")
    rows[1]["back"] = "broken.png"
    (folder / "pairs.json").write_text(json.dumps(rows))
    return folder / "pairs.json"


def of_three(make_config, output, table, **more):
    fields = {"data__source": str(table), "data__others": ("back",), "data__limit": None}
    fields |= {"data__image_size": 12, "data__label": "kind", "control__kind": "learnable"}
    return make_config(output, **fields | more)


def test_pictures_that_are_missing_or_broken_are_counted(table, caplog):
    config = DataConfig(source=str(table), others=("back",), image_size=12)
    with caplog.at_level(logging.INFO, logger="tauten.training"):
        parts = load_splits(config)
    present = torch.cat([part.others["back"].present for part in parts.values()])
    assert int(present.sum()) == 240 - 60 - 1
    assert "(train): 1 picture of the column 'back' cannot be read, taken as missing" in caplog.text
    for name, part in parts.items():
        count = int(part.others["back"].present.sum())
        assert f"{table} ({name}): {count} of {len(part)} samples have 'back'" in caplog.text
    with pytest.raises(ValueError, match="no such column|no column 'side' of data.others"):
        load_splits(dataclasses.replace(config, others=("side",)))
    with pytest.raises(ValueError, match="column 'back', sample 1: unreadable image"):
        load_splits(dataclasses.replace(config, others=("back",), strict=True), ("train",))


@pytest.fixture(scope="module")
def run(make_config, table, tmp_path_factory):
    output = tmp_path_factory.mktemp("run") / "run"
    config = of_three(make_config, output, table, optim__epochs=12)
    config.optim.lr, config.evaluation.metric = 0.01, "all/mean_recall"
    return train(config)


def test_other_data_are_evaluated_by_image_and_caption(run, table, caplog):
    with caplog.at_level("INFO", "tauten.training"):
        metrics = evaluate(run.output, data=str(table), bootstrap=0, progress=False)
    assert not [name for name in metrics if "+" in name]
    assert "other data are evaluated by image and caption alone, not back" in caplog.text


def test_all_modalities_come_together(run):
    chance = 5 / 20
    for pair in ("image+back", "back+caption"):
        assert run.test[f"{pair}/mean_recall"] > 1.2 * chance
        assert f"{pair}/x2y/hit@5/low" in run.test
    assert run.test["image+back/x2y/n"] < run.test["x2y/n"]
    recalls = [run.test[f"{n}mean_recall"] for n in ("", "image+back/", "back+caption/")]
    assert run.test["all/mean_recall"] == pytest.approx(sum(recalls) / 3)
    lines = [json.loads(line) for line in (run.output / "history.jsonl").open()]
    shown = [line for line in lines if "tau/image+back" in line]
    taus = [shown[-1][name] for name in ("tau/mean", "tau/image+back", "tau/back+caption")]
    assert len(set(taus)) == 3
    again = evaluate(run.output, bootstrap=0)
    assert again["back+caption/x2y/hit@1"] == run.test["back+caption/x2y/hit@1"]
    encoder, _, _ = load_encoder(run.output / "checkpoints" / "best")
    assert isinstance(encoder, ModalEncoder)
    assert isinstance(tt.load(run.output).encode_text(["red"]), torch.Tensor)


def test_it_goes_on_bit_for_bit(make_config, table, tmp_path, check_resumed):
    losses = ("back+caption control.kind=mmts weight=0.5", "image+back term=alignment")
    configs = [
        of_three(make_config, tmp_path / name, table, losses=losses) for name in ("whole", "broken")
    ]
    weights = check_resumed(*configs, ContrastiveModule, 8, 12)
    assert any(name.startswith("further.parts.0") for name in weights)


def test_towers_are_named_and_frozen_with_those_of_images():
    encoder = ModalEncoder(
        ConvTower((4,), 2), BagTower(9, 8), 6, others={"back": ConvTower((4,), 2)}
    )
    again = DualEncoder.from_description(json.loads(json.dumps(encoder.describe())))
    again.load_state_dict(encoder.state_dict())
    encoder.freeze("image")
    trained = {name.split(".")[0] for name, p in encoder.named_parameters() if p.requires_grad}
    assert trained == {"text_tower", "image_projection", "text_projection", "other_projection"}
    with pytest.raises(ValueError, match="there is no modality 'side', only back"):
        encoder.encode_other("side", torch.zeros(1, 3, 8, 8))
