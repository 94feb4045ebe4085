"""Controls of a comparison as margins, and as temperatures of two views.

A margin keeps negatives active within a distance of the positive, a temperature weighs all of them,
so their values do not carry over; neither do those of image-text pairs to two views of an image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tauten.comparison.catalogue import METHODS, TAU, band_settings
from tauten.comparison.methods import Draw, Method, OneOf, Settings, Uniform
from tauten.training import Config
from tauten.training.specs import known_controls, known_losses

Kind = Literal["temperature", "margin", "views"]

#: controls that are compared unless told otherwise
CONTROLS = ("constant", "matched", "learnable", "ts", "ics", "mmts")


def kind_of(config: Config) -> Kind:
    """Return the kind of what the schedules drive in a comparison with this configuration."""
    if config.task == "views":
        return "views"
    return config.loss.strength


def methods_of(kind: Kind) -> Mapping[str, Method]:
    """Return the controls by name,
    with their default settings and what tuning draws for this kind.
    """
    return {**_METHODS[kind], **_others(kind)}


def families() -> list[str]:
    """Return the losses that the schedules of a comparison can drive."""
    apart = {str(method.fixed["family"]) for method in METHODS.values() if "family" in method.fixed}
    return [
        name
        for name, known in known_losses().items()
        if name not in apart and known().own_control() is None and known().relevance == "none"
    ]


def _others(kind: Kind) -> dict[str, Method]:
    """Return the controls and losses that nothing here names, such as those of plugins.

    They are compared at their default options.
    """
    named = {str(m.fixed.get("control.kind")) for m in (*METHODS.values(), _COSINE)}
    brought = {known().own_control() for known in known_losses().values()}
    methods = {
        name: Method(name, known.about(), {"control.kind": name})
        for name, known in known_controls().items()
        if name not in named | brought
    }
    if kind == "margin":
        return methods
    for name, known in known_losses().items():
        skipped = name in _METHODS[kind] or name == "infonce" or known().relevance != "none"
        if skipped or known.strength == "margin" or known().own_control() is not None:
            continue
        refused = "" if kind != "views" or known.views else f"{name} takes two modalities"
        methods[name] = Method(
            name,
            known.about(),
            {"family": name, "control.kind": "constant"},
            {"control.value": 0.07 if kind == "temperature" else 0.2},
            {"control.value": TAU if kind == "temperature" else _WIDE},
            schedules=False,
            refused=refused,
        )
    return methods


def usual(kind: Kind) -> tuple[str, ...]:
    """Return the controls that are compared by default."""
    return tuple(n for n in CONTROLS if not (kind == "margin" and n == "learnable"))


@dataclass(frozen=True)
class _Own:
    """Settings of a control in place of those that :data:`METHODS` has.

    Attributes:
        default: all of its settings.
        space: what is drawn in another way, by name; the rest stays.
        fixed: what is fixed in another way, by name; the rest stays.
    """

    default: Settings
    space: Mapping[str, Draw]
    fixed: Settings = field(default_factory=dict)

    def of(self, method: Method) -> Method:
        return replace(
            method,
            default=self.default,
            space={**method.space, **self.space},
            fixed={**method.fixed, **self.fixed},
        )


def _schedule(alpha: float, low: float, high: float, oscillations: float) -> dict[str, Any]:
    return {
        "control.alpha": alpha,
        "control.shift_low": low,
        "control.shift_high": high,
        "control.oscillations": oscillations,
        "control.scale": "linear",
    }


_MARGIN = Uniform(0.05, 0.6, log=True)
#: AVION's constant and the schedule of MM-TS on EPIC-KITCHENS-100; the ends of anneal have the mean
#: of that constant
_OF_MARGIN = {
    "constant": _Own({"control.value": 0.2}, {"control.value": _MARGIN}),
    "mmts": _Own(_schedule(0.2, 0.17, 0.30, 5.0), {"level": _MARGIN}),
    "anneal": _Own(
        {"control.low": 0.1, "control.high": 0.3}, {"low": Uniform(0.03, 0.3, log=True)}
    ),
}

_FALLS = "a hinge falls as its margin does, so a learned margin only shrinks"
_DUAL = (
    "its temperatures come from a robust objective over the partition, and a hinge has no partition"
)
_LOSS = "it is a loss of its own with a temperature, and here a margin is compared"
_RULE = "its rule was published for temperatures, and no setting of it is known for a margin"
_REFUSED_MARGIN = {
    "learnable": _FALLS,
    "tau-uncertainty": _FALLS,
    "weight-only": (
        "a violated term of a hinge pulls equally hard whatever the margin, which only decides "
        "what is violated, so no weight by 1/m can stand for it"
    ),
    "dystress": _RULE,
    "temo": _RULE,
    "macl": _RULE,
    "sogclr": _LOSS,
    "fastclip-v1": _LOSS,
    "isogclr": _DUAL,
    "tempnet": _DUAL,
    "fastclip-v2": _DUAL,
    "fastclip-v3": _DUAL,
}

_WIDE = Uniform(0.05, 0.7, log=True)
_RHO = Uniform(0.1, 2.0, log=True)
_ENDS = {"control.low": 0.05, "control.high": 1.0}
#: constant: TS's baseline; sogclr, isogclr: iSogCLR on CIFAR-100; mmts: of the recipe
#: caltech98_lt_mmts. That one and learnable, anneal, tempnet and temo were chosen by hand; what is
#: not named here was published for two views
_OF_VIEWS = {
    "constant": _Own({"control.value": 0.2}, {"control.value": _WIDE}),
    "learnable": _Own({"control.value": 0.2}, {"control.value": _WIDE}),
    "mmts": _Own(_schedule(0.1, 0.15, 0.3, 2.0), {"level": _WIDE}),
    "anneal": _Own(
        {"control.low": 0.1, "control.high": 0.3}, {"low": Uniform(0.05, 0.4, log=True)}
    ),
    "sogclr": _Own({"control.value": 0.1, "loss.gamma": 0.8}, {"control.value": _WIDE}),
    "isogclr": _Own(
        {"control.value": 0.1, "loss.gamma": 0.8, "control.rho": 0.4, "control.lr": 0.03},
        {"control.value": _WIDE, "control.rho": _RHO},
        {**_ENDS, "control.beta": 0.5, "control.max_gradient": 3.0},
    ),
    "tempnet": _Own(
        {**_ENDS, "loss.gamma": 0.8, "control.rho": 0.4},
        {"low": Uniform(0.02, 0.1, log=True), "control.rho": _RHO},
    ),
    "temo": _Own({"control.low": 0.1, "control.high": 0.3}, {"low": Uniform(0.03, 0.3, log=True)}),
}
_TWO_SIDES = "FastCLIP is of pairs of two modalities"
_REFUSED_VIEWS = {f"fastclip-{version}": _TWO_SIDES for version in ("v1", "v2", "v3")}

_COSINE = Method(
    "cosine",
    "TS as published: one temperature between two ends, by epoch",
    {"control.kind": "cosine", "control.every": "epoch"},
    {"control.low": 0.1, "control.high": 1.0, "control.oscillations": 2.0},
    {
        "low": Uniform(0.05, 0.3, log=True),
        "ratio": Uniform(1.5, 10.0, log=True),
        "control.oscillations": OneOf((0.5, 1.0, 2.0, 5.0)),
    },
    band_settings,
)


def _changed(
    methods: Mapping[str, Method], changes: Mapping[str, _Own], refused: Mapping[str, str]
) -> dict[str, Method]:
    changed = {}
    for name, method in methods.items():
        chosen = changes[name].of(method) if name in changes else method
        changed[name] = replace(chosen, refused=refused.get(name, ""))
    return changed


_METHODS: dict[Kind, Mapping[str, Method]] = {
    "temperature": METHODS,
    "margin": _changed(METHODS, _OF_MARGIN, _REFUSED_MARGIN),
    "views": _changed({**METHODS, "cosine": _COSINE}, _OF_VIEWS, _REFUSED_VIEWS),
}
