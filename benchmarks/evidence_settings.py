"""What ``evidence.py`` trains: one factor at a time, the pieces of a schedule, and compositions.

All schedules have a mean temperature over samples and steps of 0.1, or in the probe of 0.07 or that
of the published shift, so that none differs from a constant by its mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

#: mean temperature over samples and steps
LEVEL = 0.1
#: what one factor at a time is changed from; spread: highest minus lowest level over their mean
CENTRE: dict[str, Any] = {"alpha": 0.06, "spread": 0.6, "periods": 5.0, "scale": "linear"}
CLUSTERS = (10, 30, 98, 300)
BATCHES = (64, 128, 512)
_TRIED: dict[str, tuple[Any, ...]] = {
    "alpha": (0.0, 0.02, 0.12),
    "spread": (0.0, 0.3, 1.0),
    "periods": (0.5, 1.0, 2.5, 10.0),
    "scale": ("sqrt", "log"),
}


@dataclass(frozen=True)
class Setting:
    """One setting of one control.

    Attributes:
        control: what it is, for the table.
        name: of the setting.
        settings: options of the training by name.
        sizes: "classes", or a number of caption clusters whose sizes shift the temperature.
    """

    control: str
    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    sizes: str = "classes"

    @property
    def key(self) -> str:
        """Control and setting."""
        return f"{self.control} {self.name}"


def constant(tau: float = LEVEL, **settings: Any) -> dict[str, Any]:
    """One temperature."""
    return {"control.kind": "constant", "control.value": tau, **settings}


def schedule(
    counts: Tensor,
    alpha: float = 0.0,
    spread: float = 0.0,
    periods: float = 5.0,
    scale: str = "linear",
    **settings: Any,
) -> dict[str, Any]:
    """MM-TS around a mean over samples of 0.1; half a period is an anneal from high to low."""
    size = {"linear": counts.double(), "sqrt": counts.double().sqrt(), "log": counts.log()}[scale]
    share = float(((size - size.min()) / (size.max() - size.min())).mean())
    low = LEVEL * (1 - spread * share)
    return {
        "control.kind": "mmts",
        "control.alpha": alpha,
        "control.shift_low": round(low, 5),
        "control.shift_high": round(low + LEVEL * spread, 5),
        "control.oscillations": periods,
        "control.scale": scale,
        **settings,
    }


def sensitivity(counts: Mapping[str, Tensor]) -> list[Setting]:
    """One factor at a time around :data:`CENTRE`.

    Args:
        counts: size of each training sample's class ("classes") and caption cluster ("10", ...).
    """
    own = counts["classes"]
    found = [
        Setting("constant", "0.1", constant()),
        Setting("mmts", "centre", schedule(own, **CENTRE)),
    ]
    for factor, values in _TRIED.items():
        for value in values:
            changed = CENTRE | {factor: value}
            found.append(Setting("mmts", f"{factor}={value}", schedule(own, **changed)))
    for k in CLUSTERS:
        settings = schedule(counts[str(k)], **CENTRE)
        found.append(Setting("mmts", f"clusters={k}", settings, sizes=str(k)))
    for size in BATCHES:
        batch = {"optim.batch_size": size}
        found.append(Setting("constant", f"batch={size}", constant(**batch)))
        found.append(Setting("mmts", f"batch={size}", schedule(own, **CENTRE, **batch)))
    return found


def probe() -> list[Setting]:
    """The pieces of a schedule in a short training of 12 epochs; shift 0.05 to 0.20, α 0.08."""
    short = {"optim.epochs": 12.0}
    shift = {
        "control.kind": "mmts",
        "control.alpha": 0.0,
        "control.shift_low": 0.05,
        "control.shift_high": 0.2,
    }
    around = {
        "control.kind": "mmts",
        "control.alpha": 0.08,
        "control.shift_low": 0.07,
        "control.shift_high": 0.07,
    }
    matched = {**shift, "control.kind": "matched"}
    up = {"control.kind": "anneal", "control.low": 0.11, "control.high": 0.03}
    return [
        Setting("constant", "0.07", constant(0.07, **short)),
        Setting("matched", "mean of the shift", {**matched, **short}),
        Setting("ics", "shift", {**shift, **short}),
        Setting("weight-only", "shift", {**matched, "loss.weight": "inverse_tau", **short}),
        Setting("shape-only", "shift", {**shift, "loss.force": "equalized", **short}),
        Setting("ts", "5 periods", {**around, "control.oscillations": 5.0, **short}),
        Setting("anneal", "0.11 to 0.03", {**around, "control.oscillations": 0.5, **short}),
        Setting("anneal", "0.03 to 0.11", {**up, **short}),
    ]


RISE: dict[str, Any] = {
    "control.kind": "anneal",
    "control.low": LEVEL + 0.03,
    "control.high": LEVEL - 0.03,
}
TABLE: dict[str, Any] = {"family": "sogclr", "loss.gamma": 0.8}
INDIVIDUAL: dict[str, Any] = {
    "family": "isogclr",
    "control.kind": "individual",
    "control.value": LEVEL,
    "control.low": 0.01,
    "control.rho": 2.0,
    "control.lr": 0.01,
}
#: of the compositions those that are nothing but a published rule
PUBLISHED = ("SogCLR", "iSogCLR", "FastCLIP-v2", "DCL")
CONSTANTS = (0.05, 0.07, 0.085, 0.1, 0.12, 0.15)


def constants(values: tuple[float, ...] = CONSTANTS) -> list[Setting]:
    """Constants to choose the best of."""
    return [Setting("constant", f"{value:g}", constant(value)) for value in values]


def compositions(counts: Tensor) -> list[Setting]:
    """Anneal, shift and its direction, weights by class size, force, individual τ, margin."""

    def mm(alpha: float, spread: float = 0.0, **more: Any) -> dict[str, Any]:
        return schedule(counts, alpha, spread, 0.5, **more)

    root, inverse = {"loss.weight": "inverse_root"}, {"loss.weight": "inverse_count"}
    away, equal = {"control.sizes": "reversed"}, {"loss.force": "equalized"}
    fast = {**INDIVIDUAL, "family": "fastclip", "loss.version": "v2", "loss.gamma": 0.8}
    margin = {"family": "maxmargin", **equal}
    double = {"control.alpha": 0.12, "control.shift_low": 0.2, "control.shift_high": 0.2}
    found = {
        "anneal 0.06": mm(0.06),
        "anneal 0.12": mm(0.12),
        "anneal upwards": RISE,
        "anneal x shift": mm(0.06, 0.6),
        "anneal x shift, equalized": mm(0.06, 0.6, **equal),
        "anneal x reversed shift": mm(0.06, 0.6, **away),
        "reversed shift": mm(0.0, 0.6, **away),
        "weight root": constant(**root),
        "weight inverse": constant(**inverse),
        "anneal x weight root": mm(0.06, **root),
        "anneal x weight inverse": mm(0.06, **inverse),
        "anneal 0.12 x weight root": mm(0.12, **root),
        "shift x weight root": mm(0.0, 0.6, **root),
        "anneal x shift x weight root": mm(0.06, 0.6, **root),
        "anneal x reversed shift x weight root": mm(0.06, 0.6, **away, **root),
        "anneal, equalized": mm(0.06, **equal),
        "anneal x weight root, equalized": mm(0.06, **root, **equal),
        "DCL: anneal": mm(0.06, family="dcl"),
        "SogCLR: anneal": mm(0.06, **TABLE),
        "SogCLR: anneal x weight root": mm(0.06, **TABLE, **root),
        "iSogCLR": INDIVIDUAL,
        "iSogCLR x weight root": {**INDIVIDUAL, **root},
        "FastCLIP-v2": fast,
        "margin 0.2": constant(0.2, **margin),
        "margin: anneal": {**mm(0.12), **margin, **double},
        "margin: anneal x weight root": {**mm(0.12), **margin, **double, **root},
    }
    return [Setting("composition", name, settings) for name, settings in found.items()]


def second_compositions() -> list[Setting]:
    """What was added after the first had been scored on validation."""
    wide = {"control.kind": "anneal", "control.low": LEVEL + 0.05, "control.high": LEVEL - 0.05}
    little, root = {"loss.weight": "inverse_fourth_root"}, {"loss.weight": "inverse_root"}
    found = {
        "SogCLR": constant(**TABLE),
        "SogCLR: anneal upwards": {**RISE, **TABLE},
        "SogCLR: anneal upwards x weight fourth root": {**RISE, **TABLE, **little},
        "DCL": constant(family="dcl"),
        "DCL: anneal upwards": {**RISE, "family": "dcl"},
        "DCL: anneal upwards x weight fourth root": {**RISE, "family": "dcl", **little},
        "anneal upwards, wide": wide,
        "weight fourth root": constant(**little),
        "anneal upwards x weight fourth root": {**RISE, **little},
        "anneal upwards x weight root": {**RISE, **root},
        "iSogCLR x weight fourth root": {**INDIVIDUAL, **little},
    }
    return [Setting("composition", name, settings) for name, settings in found.items()]
