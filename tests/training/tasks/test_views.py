"""Two views of one modality through the trainer."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

import tauten as tt
from tauten.models import ConvTower, ViewEncoder
from tauten.outcome import load
from tauten.training import Config, evaluate, from_dict, specs, to_dict, train
from tauten.training.build import build_control, build_loss
from tauten.training.loop.arguments import make_optimizer
from tauten.training.loop.lars import LARS
from tauten.training.options.config import OptimConfig
from tauten.training.stores.classes import Classes
from tauten.training.tasks import view_results
from tauten.training.tasks.view_module import ViewModule

ONE = torch.zeros(1, dtype=torch.long)
SHAPE = {"task": "views", "evaluation__metric": "knn@10/class_mean", "model__grid": 2}


def views(make_config, output, **fields):
    kind = fields.get("control__kind", "constant")
    value = {"control__value": 0.2} if kind == "constant" else {}
    return make_config(output, **SHAPE | value | fields)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, make_config):
    """A finished run with TS; not to be changed."""
    config = views(
        make_config,
        tmp_path_factory.mktemp("views") / "run",
        control__kind="cosine",
        control__low=0.1,
        control__every="epoch",
        control__oscillations=1,
        optim__name="sgd",
        optim__min_lr=1e-3,
    )
    return train(config)


def module(loss_fn, queue=0):
    torch.manual_seed(0)
    return ViewModule(ViewEncoder(ConvTower((4,), 2), 6), loss_fn, queue, momentum=0.5).train()


IMAGES = torch.randint(0, 256, (5, 3, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
INDEX = torch.tensor([7, 2, 9, 0, 4])


def two(ours):
    """Projections of the views that the module is about to draw."""
    state = torch.get_rng_state()
    z = ours.encoder(torch.cat(ours.encoder.views(IMAGES)))
    torch.set_rng_state(state)
    return z.double()


def test_the_loss_is_nt_xent_of_a_literal_loop():
    ours = module(tt.InfoNCE(0.3, directions="x2y"))
    z = F.normalize(two(ours), dim=1).detach()
    found = ours(IMAGES, INDEX)["loss"].item()
    terms = []
    for i in range(10):
        partner = (i + 5) % 10
        weights = [float((z[i] @ z[k] / 0.3).exp()) for k in range(10)]
        others = sum(weights[k] for k in range(10) if k not in (i, partner))
        terms.append(-np.log(weights[partner] / (weights[partner] + others)))
    assert found == pytest.approx(np.mean(terms), rel=1e-5)


def test_a_temperature_by_class_size_is_that_of_each_view():
    counts = torch.arange(1, 11)
    ours = module(tt.InfoNCE(tt.ClusterShift(counts, low=0.1, high=0.5), directions="x2y"))
    z = F.normalize(two(ours), dim=1).detach()
    found = ours(IMAGES, INDEX)["loss"].item()
    tau = ours.loss_fn.tau(INDEX).repeat(2).double()[:, None]
    logits = (z @ z.T / tau).fill_diagonal_(-torch.inf)
    assert found == pytest.approx(
        float(F.cross_entropy(logits, torch.arange(10).roll(5))), rel=1e-5
    )


def test_isogclr_is_its_two_views():
    ours = module(tt.iSogCLR(10, rho=0.4, tau_init=0.1, directions="x2y"))
    a, b = two(ours).float().chunk(2)
    found = ours(IMAGES, INDEX)["loss"]
    theirs = tt.iSogCLR(10, rho=0.4, tau_init=0.1, directions="x2y")
    torch.testing.assert_close(found, theirs.two_views(a, b, INDEX))
    ours.loss_fn.step()
    theirs.step()
    seen = ours.loss_fn.tau(INDEX)
    torch.testing.assert_close(seen, theirs.tau(INDEX))
    assert (seen != 0.1).any()


def test_moco_uses_keys_of_the_slow_encoder_and_the_queue():
    ours = module(tt.InfoNCE(0.2, directions="x2y"), queue=8)
    ours.queue.push(torch.randn(4, 6), torch.tensor([3, 7, 5, 2]))
    old, ids = ours.queue.candidates(torch.zeros(0, 6), torch.zeros(0, dtype=torch.long))
    state = torch.get_rng_state()
    a, b = ours.encoder.views(IMAGES)
    q, k = ours.encoder(a).detach(), ours.slow(b)
    torch.set_rng_state(state)
    found = ours(IMAGES, INDEX)["loss"]
    q, keys = F.normalize(q, dim=1), F.normalize(torch.cat([k, old]), dim=1)
    logits = q @ keys.T / 0.2
    own = INDEX[:, None] == ids[None, :]
    assert int(own.sum()) == 2
    logits[:, 5:].masked_fill_(own, -torch.inf)
    torch.testing.assert_close(found, F.cross_entropy(logits, torch.arange(5)))
    found.backward()
    assert all(p.grad is None for p in ours.slow.parameters())
    assert len(ours.queue) == 8
    with torch.no_grad():
        for p in ours.encoder.parameters():
            p.add_(1.0)
    before = [p.clone() for p in ours.slow.parameters()]
    ours.follow()
    for old, new in zip(before, ours.slow.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.5)


def test_a_broken_encoder_stops_the_run():
    ours = module(tt.InfoNCE(0.2, directions="x2y"))
    with torch.no_grad():
        next(ours.encoder.parameters()).fill_(float("nan"))
    with pytest.raises(tt.NonFiniteLossError, match="NaN or infinite"):
        ours(IMAGES, INDEX)


def test_ts_has_the_published_values_of_each_epoch():
    config = Config()
    config.task, config.optim.epochs = "views", 2000
    config.control = specs.control("cosine", low=0.1, high=1.0, every="epoch", oscillations=5.0)
    control = build_control(config, 10, None, total_steps=2000 * 21)
    epochs = torch.tensor([1, 100, 200, 300, 400, 1000, 2000])
    first = [float(control.at(ONE, (e - 1) * 21)) for e in epochs.tolist()]
    last = [float(control.at(ONE, e * 21 - 1)) for e in epochs.tolist()]
    assert first == pytest.approx([0.9999445, 0.55, 0.1, 0.55, 1.0, 0.1, 1.0], abs=1e-6)
    assert first == last


def test_the_run_folder_has_classification(finished):
    results = json.loads((finished.output / "results.json").read_text())
    assert set(results["protocol"]) == {
        "data", "features", "neighbours", "selection", "intervals", "groups", "probes",
    }  # fmt: skip
    for name in ("knn@1", "knn@10", "linear_lt", "linear_fs"):
        for kind in ("", "/class_mean", "/class_mean/tail", "/balancedness"):
            value = finished.test[name + kind]
            low, high = (finished.test[f"{name}{kind}/{end}"] for end in ("low", "high"))
            assert low <= value <= high or kind == "/balancedness"
    assert "linear_lt" not in finished.val
    right = load(finished.output / "outcome.npz").first.scores
    with np.load(finished.output / "features.npz") as found:
        assert found["train"].shape == (96, 32)
        assert len(found["test_labels"]) == len(found["test_groups"]) == 96
        for name in ("linear_lt", "linear_fs"):
            assert right[name].numpy().dtype == bool
            assert right[name].numpy().mean() == pytest.approx(finished.test[name])
            by_class = [
                right[name].numpy()[found["test_labels"] == label].mean()
                for label in np.unique(found["test_labels"])
            ]
            assert np.mean(by_class) == pytest.approx(finished.test[f"{name}/class_mean"])
    assert not (finished.output / "embeddings.npz").exists()
    assert not list((finished.output / "checkpoints").glob("*/tokenizer.json"))


def test_history_has_tau_by_epoch_forces_and_neighbours(finished):
    lines = [json.loads(line) for line in (finished.output / "history.jsonl").open()]
    training = {line["step"]: line for line in lines if "loss" in line}
    # 3 steps an epoch, one period of 2 epochs: τ is low in the first and high in the second
    assert training[1]["tau/mean"] == pytest.approx(0.1)
    assert training[4]["tau/mean"] == pytest.approx(1.0)
    assert training[1]["force/repulsion/tail"] > 0
    assert training[6]["learning_rate"] >= 1e-3
    assert [line["step"] for line in lines if "val/knn@10/class_mean" in line] == [3, 6]


def test_evaluate_gives_the_same(finished):
    assert evaluate(finished.output, bootstrap=20) == finished.test
    again = evaluate(finished.output, split="val", bootstrap=0)
    assert again["knn@1/class_mean"] == finished.val["knn@1/class_mean"]
    with pytest.raises(ValueError, match="on its own data"):
        evaluate(finished.output, data="elsewhere")


def test_a_report_shows_it(finished, tmp_path):
    text = tt.report.write([finished.output], tmp_path, bootstrap=20).read_text("utf-8")
    assert f'data-value="{finished.test["knn@10/class_mean"]}"' in text
    assert "Not shown: no test and training images" not in text


def test_pictures_are_kept_where_they_are_small(finished, tmp_path, make_config, monkeypatch):
    for name in ("test_images.npz", "train_images.npz"):
        with np.load(finished.output / name) as found:
            assert found["images"].shape == (96, 32, 32, 3)
    monkeypatch.setattr(view_results, "LARGEST_COPY", 2 * 96 * 32 * 32 * 3 - 1)
    run = train(views(make_config, tmp_path / "run", optim__epochs=1, evaluation__probe="none"))
    assert not list(run.output.glob("*_images.npz"))


def test_the_features_are_before_the_projector(finished):
    tensors = load_file(finished.output / "checkpoints" / "best" / "model.safetensors")
    assert any(name.startswith("encoder.projector") for name in tensors)
    assert tensors["encoder.projector.layers.3.weight"].shape == (8, 32)


@pytest.mark.parametrize("method", ["infonce", "moco", "isogclr"])
def test_an_interrupted_run_ends_with_the_same_bits(tmp_path, make_config, check_resumed, method):
    fields = {"log_every": 1, "optim__epochs": 3, "evaluation__probe": "none"}
    if method == "moco":
        fields |= {"loss__queue": 40, "loss__momentum": 0.9, "model__projector": "linear"}
    if method == "isogclr":
        fields |= {"family": "isogclr", "control__kind": "individual", "control__low": 0.05}
    whole, cut = (views(make_config, tmp_path / name, **fields) for name in ("whole", "cut"))
    weights = check_resumed(whole, cut, ViewModule, step=6, last=9)
    assert method != "moco" or {"queue._keys", "queue._ids", "queue._pushed"} <= weights.keys()


def test_the_last_checkpoint_can_be_the_result(tmp_path, make_config):
    run = train(views(make_config, tmp_path / "run", evaluation__metric="last"))
    assert run.best_step == run.total_steps == 6


def test_configurations_go_through_yaml(tmp_path, make_config):
    config = views(make_config, tmp_path / "x", model__projector="linear")
    config.model.views.blur = 0.5
    assert from_dict(to_dict(config)) == config


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"family": "siglip"}, "task=views has the families"),
        ({"evaluation__metric": "mean_recall"}, "choose one of last, knn@1"),
        ({"loss__queue": 8, "loss__momentum": 1.0}, r"loss.momentum must be in \[0, 1\)"),
        ({"optim__chunk": 4}, "optim.chunk"),
        ({"optim__min_lr": 1.0}, r"optim.min_lr must be in \[0, optim.lr=0.002\]"),
        ({"data__source": "some.tar"}, "set data.label"),
    ],
)
def test_what_means_nothing_is_refused(tmp_path, make_config, fields, message):
    with pytest.raises(ValueError, match=message):
        views(make_config, tmp_path / "x", **fields).validate()


def test_losses_of_views_have_one_direction(make_config, tmp_path):
    for family in ("infonce", "dcl", "sogclr"):
        config = views(make_config, tmp_path / "x", family=family)
        assert build_loss(config, 4, None, 10).directions == "x2y"


def test_groups_by_thirds():
    classes = Classes({"a": 5, "b": 50, "c": 7, "d": 9}, head=100, tail=20, by="thirds")
    assert classes.groups(["a", "b", "c", "d", "x"]) == ["tail", "head", "mid", "head", "tail"]
    assert Classes({"a": 5}, 100, 20).groups(["a"]) == ["tail"]


def test_sgd_decays_all_parameters_of_the_encoder():
    ours = module(tt.InfoNCE(tt.Learnable(0.1, 0.01, 1.0), directions="x2y"))
    decays = {}
    for name in ("sgd", "lars", "adamw"):
        made = make_optimizer(OptimConfig(name=name, weight_decay=0.1), ours)
        decays[name] = {
            id(p): group["weight_decay"] for group in made.param_groups for p in group["params"]
        }
        assert len(decays[name]) == len([*ours.parameters()])
    bias = ours.encoder.projector.layers[0].bias
    assert [decays[name][id(bias)] for name in decays] == [0.1, 0.0, 0.0]
    learned = next(ours.loss_fn.parameters())
    assert [decays[name][id(learned)] for name in decays] == [0.0, 0.0, 0.0]


def test_lars_is_its_formula():
    torch.manual_seed(0)
    weight, bias = torch.randn(3, 4, requires_grad=True), torch.randn(3, requires_grad=True)
    made = LARS([weight, bias], lr=0.5, momentum=0.9, weight_decay=0.01)
    w, b = weight.detach().double(), bias.detach().double()
    vw, vb = torch.zeros_like(w), torch.zeros_like(b)
    for _ in range(3):
        weight.grad, bias.grad = torch.randn(3, 4), torch.randn(3)
        g = weight.grad.double() + 0.01 * w
        vw = 0.9 * vw + g * 0.001 * w.norm() / g.norm()
        vb = 0.9 * vb + bias.grad.double()
        w, b = w - 0.5 * vw, b - 0.5 * vb
        made.step()
    torch.testing.assert_close(weight.detach().double(), w, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(bias.detach().double(), b, rtol=1e-5, atol=1e-6)
