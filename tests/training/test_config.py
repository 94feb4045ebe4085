import dataclasses
import math
import re
from pathlib import Path
from typing import get_args, get_origin

import pytest
import torch
import tyro

import tauten as tt
from tauten.training import Config, LossConfig, ModelConfig, OptimConfig, from_dict, to_dict
from tauten.training.arguments import make_optimizer
from tauten.training.build import build_loss, check_loss
from tauten.training.config import ControlKind, Family
from tauten.training.config_tree import differences
from tauten.training.families import control_for
from tauten.training.module import ContrastiveModule
from tauten.training.ranges import RANGES, check_values, options

KINDS = get_args(ControlKind)


def test_there_and_back():
    config = Config(name="x", output=Path("somewhere"))
    config.model.channels = (4, 5)
    config.model.augmentation.hue = 0.3
    assert from_dict(to_dict(config)) == config


def test_command_line():
    options = {
        "--optim.lr": "0.5",
        "--control.kind": "mmts",
        "--seed": "7",
        "--model.augmentation.hue": "0.2",
        "--data.source": "t.parquet",
        "--data.val": "x.parquet",
    }
    args = [word for option in options.items() for word in option]
    config = tyro.cli(Config, args=[*args, "--model.channels", "4", "8"])
    assert (config.optim.lr, config.control.kind, config.seed) == (0.5, "mmts", 7)
    assert (config.model.channels, config.model.augmentation.hue) == ((4, 8), 0.2)
    assert config.data.val == "x.parquet"


def test_help_explains_the_fields(capsys):
    with pytest.raises(SystemExit):
        tyro.cli(Config, args=["--help"])
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for phrase in ("passes over the training split", "mmts: peak-to-peak amplitude"):
        assert phrase in shown


def test_unknown_field():
    with pytest.raises(ValueError, match="not a configuration of this version"):
        from_dict(to_dict(Config()) | {"speed": 3})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optim": OptimConfig(epochs=0)}, r"optim.epochs must be in \(0, 1e\+06\], got 0"),
        ({"optim": OptimConfig(batch_size=1)}, "optim.batch_size must be 2 or more, got 1"),
        ({"optim": OptimConfig(warmup=1.5)}, r"optim.warmup must be in \[0, 1\], got 1.5"),
        ({"log_every": 0}, "log_every must be 1 or more, got 0"),
        ({"loss": LossConfig(gamma_epochs=1.2)}, r"gamma_epochs must be in \[0, 1\], got 1.2"),
    ],
)
def test_invalid_values(change, message):
    with pytest.raises(ValueError, match=message):
        Config(**change)


@pytest.mark.parametrize(
    ("field", "value"), [("held_out", 0.5), ("head", 3), ("keywords", -0.1), ("clusters", 1)]
)
def test_invalid_data(field, value):
    config = Config()
    setattr(config.data, field, value)
    with pytest.raises(ValueError, match=rf"data.*{field}"):
        config.validate()


OPTIONS = [(name, hint) for name, hint, _ in options(Config())]


def with_value(name, value):
    """A configuration with one option set, nothing checked."""
    config = owner = Config()
    *parts, last = name.split(".")
    for part in parts:
        owner = getattr(owner, part)
    setattr(owner, last, value)
    return config


def test_every_number_has_a_range():
    named = {
        name
        for name, hint in OPTIONS
        if {int, float} & {hint, *get_args(hint)} and hint is not bool
    }
    assert named == set(RANGES)
    check_values(Config())


@pytest.mark.parametrize("name", RANGES)
def test_numbers_outside_their_range_are_refused_by_name(name):
    allowed = RANGES[name]
    hint = dict(OPTIONS)[name]
    many = get_origin(hint) is tuple
    outside = [math.nan, math.inf, -math.inf, allowed.low - 1, "1", True]
    outside += [allowed.high * 2 + 1] if math.isfinite(allowed.high) else []
    outside += [allowed.low] if allowed.above else []
    outside += [allowed.high] if allowed.below else []
    outside += [] if float in {hint, *get_args(hint)} else [allowed.low + 1.5]
    outside += [] if type(None) in get_args(hint) else [None]
    for value in outside:
        with pytest.raises(
            ValueError, match=rf"^{name} must be .*{re.escape(f'{allowed.low:g}')}.*, got "
        ):
            with_value(name, (value,) if many else value).validate()
    ends = [] if allowed.above else [allowed.low]
    ends += [allowed.high] if math.isfinite(allowed.high) and not allowed.below else []
    for value in ends:
        check_values(with_value(name, (value,) if many else value))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("family", "infonec", "family must be one of infonce, maxmargin,"),
        ("control.kind", None, "control.kind must be one of constant,"),
        ("optim.name", "adam", "optim.name must be one of adamw, sgd, lars, got 'adam'"),
        ("data.stream", 1, "data.stream must be of type bool, got 1"),
        ("data.source", None, "data.source must be of type str, got None"),
        ("data.label", 3, "data.label must be of type str | None, got 3"),
        ("optim", {"lr": 1}, "optim must be a OptimConfig"),
        ("model.channels", (), "model.channels must name one layer or more"),
    ],
)
def test_choices_and_types(name, value, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        with_value(name, value).validate()


def test_differences_are_named():
    ours = to_dict(Config())
    theirs = to_dict(dataclasses.replace(Config(), seed=5, model=ModelConfig(dim=3)))
    assert differences(ours, theirs) == ["model.dim: 256, was 3", "seed: 0, was 5"]
    assert differences(ours, ours) == []


# ---- from a configuration to a loss

CLASSES = {
    "infonce": tt.InfoNCE,
    "maxmargin": tt.MaxMargin,
    "dcl": tt.DCL,
    "siglip": tt.SigLIP,
    "sogclr": tt.SogCLR,
    "isogclr": tt.SogCLR,
    "fastclip": tt.FastCLIP,
    "nuclr": tt.NUCLR,
    "sms": tt.SMS,
}
CONTROLS = {
    "constant": tt.Constant,
    "matched": tt.Constant,
    "learnable": tt.Learnable,
    "cosine": tt.Cosine,
    "anneal": tt.Anneal,
    "individual": tt.Individual,
    "tempnet": tt.TempNet,
    "tau_uncertainty": tt.TaU,
    "dystress": tt.DySTreSS,
    "temo": tt.TeMo,
    "macl": tt.MACL,
}
SHRINKS, NO_PARTITION, ALONE = "margin only shrinks", "hinges have no partition", "judged alone"
NO_RHO, ONE_TAU, ITS_OWN = "give rho > 0", "one τ for each anchor", "a temperature of its own"
OFFSETS, UNBOUNDED = "its offsets are learned", "without bound"
REFUSED = {
    "infonce": {},
    "maxmargin": {
        "learnable": SHRINKS,
        "tau_uncertainty": SHRINKS,
        "individual": NO_PARTITION,
        "tempnet": NO_PARTITION,
    },
    "dcl": {"learnable": UNBOUNDED},
    "siglip": {"individual": ALONE, "tempnet": ALONE},
    "sogclr": {
        "learnable": NO_RHO,
        "tau_uncertainty": NO_RHO,
        "dystress": ONE_TAU,
        "temo": ONE_TAU,
    },
    "isogclr": {kind: ITS_OWN for kind in KINDS if kind != "individual"},
    "fastclip": {kind: ITS_OWN for kind in KINDS if kind != "learnable"},
    "nuclr": {
        "learnable": UNBOUNDED,
        "tau_uncertainty": UNBOUNDED,
        "individual": OFFSETS,
        "tempnet": OFFSETS,
        "dystress": ONE_TAU,
        "temo": ONE_TAU,
    },
}
REFUSED["sms"] = REFUSED["maxmargin"]


def configured(family="infonce", kind="constant", **fields):
    config = Config()
    config.family, config.control.kind = family, kind
    config.control.low, config.control.high, config.model.dim = 0.05, 0.2, 8
    config.data.relevancy = "names" if family == "sms" else "none"
    for path, value in fields.items():
        part, name = path.split("__")
        assert hasattr(getattr(config, part), name), path
        setattr(getattr(config, part), name, value)
    return config


def built(config, samples=6, steps=40):
    config.validate()
    return build_loss(config, samples, torch.arange(1, samples + 1), steps)


@pytest.mark.filterwarnings("ignore::tauten.CompositionWarning")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", get_args(Family))
def test_every_family_takes_every_control_or_says_why_not(family, kind):
    config = configured(family, kind)
    reason = REFUSED[family].get(kind)
    if reason is None:
        loss_fn = built(config)
        assert type(loss_fn) is CLASSES[family]
        if kind == "mmts":
            assert loss_fn.strength.range() == pytest.approx((0.03, 0.11))
        else:
            assert type(loss_fn.strength) is CONTROLS[kind]
    else:
        with pytest.raises(ValueError, match=reason):
            built(config)


@pytest.mark.parametrize("kind", ["learnable", "tau_uncertainty"])
def test_with_a_radius_sogclr_takes_temperatures_learned_by_gradient(kind):
    loss_fn = built(configured("sogclr", kind, loss__rho=2.5))
    assert loss_fn.rho == 2.5


@pytest.mark.parametrize(
    ("version", "kind"),
    [("v0", "learnable"), ("v1", "constant"), ("v2", "individual"), ("v3", "learnable")],
)
def test_versions_of_fastclip(version, kind):
    given = {"loss__version": version, "control__value": 0.11, "loss__tau_lr": 0.5}
    loss_fn = built(configured("fastclip", kind, **given))
    assert (loss_fn.version, type(loss_fn.strength)) == (version, CONTROLS[kind])
    assert loss_fn.tau(torch.tensor([1])).item() == pytest.approx(0.11)
    if version != "v1":
        assert loss_fn.strength.range() == (0.05, 0.2)
    if version == "v2":
        assert (loss_fn.strength.lr, loss_fn.rho) == (0.5, 7.0)
    with pytest.raises(ValueError, match="a temperature of its own: it needs control.kind"):
        built(configured("fastclip", "mmts", loss__version=version))


def test_fastclips_gamma_falls_by_epoch():
    config = configured("fastclip", "learnable", loss__gamma=0.2, loss__gamma_epochs=0.5)
    config.optim.epochs = 8.0
    loss_fn = built(config, steps=40)
    found = []
    for _ in range(40):
        found.append(float(loss_fn.gamma.at(torch.zeros(1, dtype=torch.long))))
        loss_fn.step()
    expected = [
        0.2 + 0.8 * (1 + math.cos(math.pi * min(step // 5, 4) / 4)) / 2 for step in range(40)
    ]
    assert found == pytest.approx(expected, abs=1e-6)


def test_a_radius_belongs_to_robust_objectives():
    assert built(configured("isogclr", "individual", loss__rho=3.0)).strength.rho == 3.0
    assert built(configured("sogclr", "tempnet", loss__rho=3.0)).rho == 3.0
    assert built(configured("fastclip", "learnable", loss__rho=3.0)).rho == 3.0
    with pytest.raises(ValueError, match="FastCLIP-v1 has no rho, got 3"):
        built(configured("fastclip", "constant", loss__version="v1", loss__rho=3.0))


def test_settings_reach_the_control():
    individual = built(
        configured("sogclr", "individual", loss__tau_lr=0.4, loss__tau_beta=0.3)
    ).strength
    assert (individual.lr, individual.beta, individual.range()) == (0.4, 0.3, (0.05, 0.2))
    tempnet = built(configured("sogclr", "tempnet")).strength
    assert tempnet.predict(torch.ones(3, 8)).shape == (3,)
    assert tempnet.range() == (0.05, 0.2)
    tau = built(configured(kind="tau_uncertainty", control__value=0.08)).strength
    assert tau.range() == (0.08, 0.2)
    dystress = built(configured(kind="dystress", control__peak=0.4, control__width=0.7)).strength
    assert (dystress.peak, dystress.width, dystress.range()) == (0.4, 0.7, (0.05, 0.2))
    assert built(configured(kind="temo")).strength.range() == (0.05, 0.2)
    given = {"control__value": 0.1, "control__slope": 0.2, "control__threshold": 0.5}
    assert built(configured(kind="macl", **given)).strength.range() == pytest.approx((0.07, 0.11))
    assert built(configured("nuclr", loss__zeta_lr=0.3, loss__gamma=0.6)).lr == 0.3


@pytest.mark.parametrize("family", ["maxmargin", "dcl", "siglip", "sogclr", "isogclr", "nuclr"])
def test_forces_that_a_loss_does_not_have(family):
    kind = "individual" if family == "isogclr" else "constant"
    with pytest.raises(ValueError, match="force"):
        built(configured(family, kind, loss__force="reweighted"))
    assert built(configured(loss__force="reweighted")).force == "reweighted"


def test_checking_a_loss_needs_no_data_and_draws_nothing():
    before = torch.random.get_rng_state()
    check_loss(configured("sogclr", "tempnet"))
    check_loss(configured(kind="matched"))
    assert torch.equal(torch.random.get_rng_state(), before)
    with pytest.raises(ValueError, match="logit s/τ"):
        check_loss(configured(kind="dystress", control__low=0.01, control__high=1.0))
    with pytest.raises(ValueError, match="gamma must stay finite and > 0"):
        check_loss(configured("nuclr", loss__gamma=0.0))
    with pytest.raises(ValueError, match="steps must be a positive number"):
        check_loss(configured("fastclip", "learnable", loss__gamma_epochs=0.0))


def test_networks_that_predict_temperatures_have_no_weight_decay_and_the_rate_of_the_loss():
    loss_fn = built(configured("sogclr", "tempnet"))
    module = ContrastiveModule(torch.nn.Linear(8, 8), loss_fn)
    optimizer = make_optimizer(OptimConfig(lr=0.1, loss_lr=0.02, weight_decay=0.3), module)
    towers, biases, loss = optimizer.param_groups
    assert [group["weight_decay"] for group in (towers, biases, loss)] == [0.3, 0.0, 0.0]
    assert [group["lr"] for group in (towers, biases, loss)] == [0.1, 0.1, 0.02]
    assert loss["params"] == list(loss_fn.parameters())
    assert any(p.dim() == 2 for p in loss["params"])


@pytest.mark.parametrize("family", get_args(Family))
def test_another_family_has_a_control_that_it_takes(family):
    config = Config()
    control = control_for(config.control, config.family, family, config.loss.version)
    config.data.relevancy = "names" if family == "sms" else "none"
    config = dataclasses.replace(config, family=family, control=control)
    assert type(built(config)) is CLASSES[family]
    back = control_for(control, family, "infonce", config.loss.version)
    assert back == Config().control


def test_margins_are_no_temperatures():
    mmts = dataclasses.replace(Config().control, kind="mmts", shift_low=0.06, scale="log")
    margin = control_for(mmts, "infonce", "maxmargin", "v3")
    assert (margin.kind, margin.scale, margin.value) == ("mmts", "log", 0.2)
    assert (margin.alpha, margin.shift_low, margin.shift_high) == (0.2, 0.17, 0.30)
    assert control_for(margin, "maxmargin", "sms", "v3") == margin
    assert control_for(mmts, "infonce", "dcl", "v3") == mmts
