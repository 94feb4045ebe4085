import copy
import dataclasses
import math
import re
from itertools import pairwise
from pathlib import Path
from typing import get_args, get_origin

import pytest
import torch

import tauten as tt
from tauten.training import Config, ModelConfig, OptimConfig, from_dict, specs, to_dict
from tauten.training.build import build_loss, check_loss
from tauten.training.loop.arguments import make_optimizer
from tauten.training.options.config_tree import changed, differences
from tauten.training.options.ranges import check_values, options
from tauten.training.options.words import parsed
from tauten.training.tasks.module import ContrastiveModule
from tauten.training.tasks.task import Task

KINDS, FAMILIES = specs.known_controls(), specs.known_losses()


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
    config = parsed("pairs", "", Config(), [*args, "--model.channels", "4", "8"])
    assert (config.optim.lr, config.control.kind, config.seed) == (0.5, "mmts", 7)
    assert (config.model.channels, config.model.augmentation.hue) == ((4, 8), 0.2)
    assert config.data.val == "x.parquet"


def test_help_explains_the_fields(capsys):
    with pytest.raises(SystemExit):
        parsed("pairs", "", Config(), ["--control.kind", "mmts", "--help"])
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for phrase in ("passes over the training split", "peak-to-peak amplitude"):
        assert phrase in shown


def test_help_is_wrapped_where_a_line_is_full(capsys):
    with pytest.raises(SystemExit):
        parsed("pairs", "", Config(), ["--help-all"])
    rows = capsys.readouterr().out.replace("│", "|").splitlines()
    texts = [row.strip("| ") if re.match(r"[| ]       \S", row) else "" for row in rows]
    width = max(map(len, texts))
    pairs = [(one, other) for one, other in pairwise(texts) if one and other]
    assert len(pairs) > 50
    assert [one for one, other in pairs if len(one) + 1 + len(other.split()[0]) < width - 2] == []


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "model.channels",
            8,
            r"^model\.channels is 8 \(int\), it must be a list, such as \[1, 2\]",
        ),
        (
            "model.channels",
            [8, "x"],
            r"^model\.channels is \(8, 'x'\) \(tuple\), it must be a list",
        ),
        ("optim.lr", "high", r"^optim\.lr is 'high' \(str\), it must be float"),
        ("model", 3, r"^model is 3, not a section"),
    ],
)
def test_a_setting_of_another_type_is_named(name, value, message):
    with pytest.raises(ValueError, match=message):
        changed(Config(), {name: value})
    assert changed(Config(), {"model.channels": [8]}).model.channels == (8,)


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
        (
            {"loss": specs.loss("fastclip", gamma_epochs=1.2)},
            r"loss.gamma_epochs must be in \[0, 1\], got 1.2",
        ),
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


def every_spec():
    """A configuration for each control and each loss; nothing is checked."""
    for kind in KINDS:
        config = Config()
        config.control = specs.control(kind)
        yield config
    for family in FAMILIES:
        config = Config()
        config.loss = specs.loss(family)
        yield config


def owner_of(config, name):
    """The control, the loss, or nothing: whose option it is."""
    part = name.partition(".")[0]
    return type(getattr(config, part)) if part in ("control", "loss") else None


#: (name, owner) of each option, with its type, its range, and a configuration that has it
OPTIONS = {
    (name, owner_of(config, name)): (hint, allowed, config)
    for config in every_spec()
    for name, hint, _, allowed in options(config)
}
RANGED = [key for key, (_, allowed, _) in OPTIONS.items() if allowed is not None]


def with_value(config, name, value):
    """A configuration with one option set, nothing checked."""
    config = owner = copy.deepcopy(config)
    *parts, last = name.split(".")
    for part in parts:
        owner = getattr(owner, part)
    setattr(owner, last, value)
    return config


def test_every_number_has_a_range():
    for key, (hint, allowed, _) in OPTIONS.items():
        numeric = bool({int, float} & {hint, *get_args(hint)}) and hint is not bool
        assert numeric == (allowed is not None), key
        assert allowed is None or math.isfinite(allowed.low), key
    for config in every_spec():
        check_values(config)


@pytest.mark.parametrize("key", RANGED, ids=lambda key: key[0])
def test_numbers_outside_their_range_are_refused_by_name(key):
    name = key[0]
    hint, allowed, config = OPTIONS[key]
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
            check_values(with_value(config, name, (value,) if many else value))
    ends = [] if allowed.above else [allowed.low]
    ends += [allowed.high] if math.isfinite(allowed.high) and not allowed.below else []
    for value in ends:
        check_values(with_value(config, name, (value,) if many else value))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "optim.name",
            "adam",
            "optim.name must be one of adamw, sgd, lars, am-sgd, am-adamw, got 'adam'",
        ),
        ("data.stream", 1, "data.stream must be of type bool, got 1"),
        ("data.source", None, "data.source must be of type str, got None"),
        ("data.label", 3, "data.label must be of type str | None, got 3"),
        ("optim", {"lr": 1}, "optim must be a OptimConfig"),
        ("model.channels", (), "model.channels must name one layer or more"),
    ],
)
def test_choices_and_types(name, value, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        with_value(Config(), name, value).validate()


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
    "dclw": tt.DCLW,
    "cacr": tt.CACR,
    "neuclip": tt.NeuCLIP,
    "relativesiglip": tt.RelativeSigLIP,
    "mannwhitney": tt.MannWhitney,
    "zloss": tt.ZLoss,
    "decoupled": tt.DecoupledSoftmax,
    "softtopk": tt.SoftTopK,
    "mvdhel": tt.PairedMVDHEL,
    "mvinfonce": tt.PairedMVInfoNCE,
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
    "glate": tt.GLATE,
}
SHRINKS, NO_PARTITION, ALONE = "margin only shrinks", "hinges have no partition", "judged alone"
NO_RHO, ONE_TAU, ITS_OWN = "give rho > 0", "one τ for each anchor", "a temperature of its own"
OFFSETS, UNBOUNDED = "its offsets are learned", "without bound"
UNWEIGHTED = "no weights of positives"
REFUSED = {
    "infonce": {},
    "maxmargin": {
        "learnable": SHRINKS,
        "tau_uncertainty": SHRINKS,
        "individual": NO_PARTITION,
        "tempnet": NO_PARTITION,
    },
    "dcl": {"learnable": UNBOUNDED},
    "dclw": {"learnable": UNBOUNDED, "individual": UNWEIGHTED, "tempnet": UNWEIGHTED},
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
_OF_SAMPLE = {
    **dict.fromkeys(("individual", "tempnet"), "robust objective"),
    **dict.fromkeys(("dystress", "temo"), "one temperature for all pairs of its views"),
}
REFUSED["decoupled"] = dict.fromkeys(("individual", "tempnet"), "a partition of its own")
REFUSED["softtopk"] = {
    **dict.fromkeys(("learnable", "tau_uncertainty"), "width of the step"),
    **dict.fromkeys(("individual", "tempnet"), "no partition to learn τ from"),
}
REFUSED["zloss"] = {
    **dict.fromkeys(("learnable", "tau_uncertainty"), SHRINKS),
    **dict.fromkeys(("individual", "tempnet"), "it has no temperature"),
    **dict.fromkeys(("dystress", "temo"), "one mean and one deviation"),
}
REFUSED["mannwhitney"] = {
    **dict.fromkeys(("individual", "tempnet"), "no partition to learn τ from"),
    **dict.fromkeys(("dystress", "temo"), "of two scores, of two pairs"),
}
REFUSED["cacr"] = {
    **dict.fromkeys(("learnable", "tau_uncertainty"), "only loses its effect"),
    **dict.fromkeys(("individual", "tempnet"), "no partition to learn τ from"),
}
REFUSED["relativesiglip"] = REFUSED["siglip"]
REFUSED["neuclip"] = REFUSED["sogclr"]
REFUSED["mvinfonce"] = _OF_SAMPLE
REFUSED["mvdhel"] = _OF_SAMPLE | {"learnable": UNBOUNDED}


def configured(family="infonce", kind="constant", **fields):
    config = Config()
    ends = {"low": 0.05, "high": 0.2}
    known = specs.control(kind).option_names()
    config.control = specs.control(kind, **{n: v for n, v in ends.items() if n in known})
    config.loss, config.model.dim = specs.loss(family), 8
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
@pytest.mark.parametrize("family", FAMILIES)
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
    given = {"loss__version": version, "control__value": 0.11}
    if version == "v2":
        given |= {"control__lr": 0.5, "control__rho": 7.0}
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
    assert built(configured("isogclr", "individual", control__rho=3.0)).strength.rho == 3.0
    assert built(configured("sogclr", "tempnet", control__rho=3.0)).rho == 3.0
    assert built(configured("fastclip", "learnable", loss__rho=3.0)).rho == 3.0
    with pytest.raises(ValueError, match="FastCLIP-v1 has no rho, got 3"):
        built(configured("fastclip", "constant", loss__version="v1", loss__rho=3.0))


def test_settings_reach_the_control():
    individual = built(
        configured("sogclr", "individual", control__lr=0.4, control__beta=0.3)
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
    assert built(configured("dclw", loss__sigma=0.3)).sigma == 0.3
    smooth = built(configured(loss__label_smoothing=0.1, loss__margin=-0.5))
    assert (smooth.label_smoothing, smooth.margin.range()) == (0.1, (-0.5, -0.5))
    assert built(configured()).margin is None


@pytest.mark.parametrize("family", ["maxmargin", "dcl", "siglip"])
def test_forces_that_a_loss_does_not_have(family):
    with pytest.raises(ValueError, match="loss.force must be one of plain, equalized, got"):
        built(configured(family, loss__force="reweighted"))
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


@pytest.mark.parametrize("family", FAMILIES)
def test_another_family_has_a_control_that_it_takes(family):
    config = Config()
    before, loss = config.loss, specs.other_loss(config.loss, family)
    control = specs.other_control(config.control, before, loss)
    config.data.relevancy = "names" if family == "sms" else "none"
    config = dataclasses.replace(config, loss=loss, control=control)
    assert type(built(config)) is CLASSES[family]
    assert specs.other_control(control, loss, before) == Config().control


def test_margins_are_no_temperatures():
    infonce, hinge = specs.loss(), specs.loss("maxmargin")
    mmts = specs.control("mmts", shift_low=0.06, scale="log")
    margin = specs.other_control(mmts, infonce, hinge)
    assert (margin.kind, margin.scale) == ("mmts", "log")
    assert (margin.alpha, margin.shift_low, margin.shift_high) == (0.2, 0.17, 0.30)
    assert specs.other_control(margin, hinge, specs.loss("sms")) == margin
    assert specs.other_control(mmts, infonce, specs.loss("dcl")) == mmts
    assert specs.other_control(specs.control(), infonce, hinge).value == 0.2


OLD = {
    "family": "isogclr",
    "control": {"kind": "individual", "value": 0.1, "low": 0.02, "high": 1.0, "alpha": 0.04},
    "loss": {
        **{"force": "plain", "weight": "none", "adaptive": False, "mask_duplicates": True},
        **{"bias": -10.0, "version": "v3", "gamma": 0.5, "gamma_epochs": 0.5, "rho": 2.0},
        **{"tau_lr": 0.01, "tau_beta": 0.4, "tau_clip": 3.0, "zeta_lr": 0.01, "queue": 0},
        "momentum": 0.999,
    },
}


def test_configurations_of_earlier_versions_are_read():
    found = from_dict(OLD)
    assert found.loss == specs.loss("isogclr", gamma=0.5)
    assert found.control == specs.control(
        "individual", value=0.1, low=0.02, high=1.0, rho=2.0, lr=0.01, beta=0.4, max_gradient=3.0
    )
    assert from_dict(to_dict(found)) == found
    with pytest.raises(ValueError, match="individual has no control.lwo; it has control.value"):
        from_dict({**OLD, "control": {**OLD["control"], "lwo": 1}})


def test_an_earlier_fastclip_v2_keeps_its_published_radius():
    control = {**OLD["control"], "kind": "individual"}
    loss = {**OLD["loss"], "version": "v2", "rho": None}
    found = from_dict({"family": "fastclip", "control": control, "loss": loss})
    assert (found.control.rho, found.control.lr, found.loss.rho) == (7.0, 0.01, None)
    assert built(found).rho == 7.0


def test_unknown_names_are_answered_with_the_closest():
    with pytest.raises(ValueError, match="family 'infonec' is unknown: did you mean infonce"):
        specs.loss("infonec")
    with pytest.raises(ValueError, match="control.kind 'mmst' is unknown: did you mean mmts"):
        specs.control("mmst")
    with pytest.raises(ValueError, match="constant has no control.alpha; it has control.value"):
        specs.control("constant", alpha=1.0)


def test_a_task_is_known_by_its_name():
    with pytest.raises(ValueError, match="task 'view' is unknown: did you mean views"):
        Config(task="view")

    class Triples(Task):
        """Three sides."""

        kind = "triples"

        def check(self, config):
            raise ValueError(f"checked {config.data.source}")

    try:
        with pytest.raises(ValueError, match="checked emoji_lt"):
            Config(task="triples")
    finally:
        del Task.known["triples"]
