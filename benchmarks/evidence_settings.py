"""What ``evidence.py`` trains: a grid of levels, rules around the best level, and causes apart.

A shift and what takes it apart have the same mean over training samples and steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: constant temperatures, and starts and rates of learned ones
LEVELS = (0.02, 0.03, 0.05, 0.07, 0.085, 0.1, 0.13, 0.18, 0.25, 0.4)
STARTS, RATES = (0.03, 0.05, 0.07, 0.1), (3e-4, 3e-3)
#: mean, lowest and highest level of a shift; the first has about the mean of the best constant
#: for instances, the second is as wide around a higher one
SHIFTS = ((0.107, 0.05, 0.30), (0.18, 0.089, 0.485))
#: peak-to-peak amplitude of the oscillation beside a shift
BESIDE = 0.04
#: further shifts, lowest and highest level and force: wider and higher than those, and gentle
#: around the best constant for instances
MORE_SHIFTS = {
    "MM-TS": (
        (0.085, 0.115, "equalized"),
        (0.07, 0.13, "equalized"),
        (0.05, 0.485, "plain"),
        (0.13, 0.7, "plain"),
    ),
    "MM-TS reversed": (
        (0.085, 0.115, "equalized"),
        (0.07, 0.13, "equalized"),
        (0.05, 0.18, "equalized"),
        (0.05, 0.485, "equalized"),
    ),
}
#: mean level of an oscillation alone, and its amplitude over that level
OSCILLATIONS = (
    *((0.107, 0.6), (0.107, 1.4), (0.18, 0.6), (0.18, 1.4)),
    *((0.085, 0.6), (0.107, 0.3), (0.25, 1.4), (0.25, 1.8)),
)
#: the radius of the robust objective as a share of the most that a batch allows, the logarithm of
#: its number of negatives
SHARES = (0.25, 0.35, 0.45, 0.55)
LOW_SHARES = (0.1, 0.17)
NEGATIVES = 127
#: icons are for the question whether the answers hold on another set, with a coarser grid
COARSE = (0.03, 0.05, 0.07, 0.1, 0.18, 0.4, 0.7, 1.0)


@dataclass(frozen=True, eq=False)
class Setting:
    """One setting of one rule.

    Attributes:
        rule: its name in tables.
        name: of the setting.
        settings: options of the training by name.
    """

    rule: str
    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Rule and setting."""
        return f"{self.rule} {self.name}"


def constants(levels: Sequence[float] = LEVELS) -> list[Setting]:
    """Return a grid of constant temperatures."""
    return [
        Setting("constant", f"{tau:g}", {"control.kind": "constant", "control.value": tau})
        for tau in levels
    ]


def learnables(starts: Sequence[float] = STARTS) -> list[Setting]:
    """Return the grid of learned temperatures: where they start, and how fast they go."""
    own = {"control.kind": "learnable", "control.low": 0.01, "control.high": 1.0}
    return [
        Setting(
            "learnable",
            f"from {start:g} at {rate:g}",
            {**own, "control.value": start, "optim.loss_lr": rate},
        )
        for start in starts
        for rate in RATES
    ]


def shift(number: int) -> dict[str, Any]:
    """Return MM-TS with one of :data:`SHIFTS`."""
    _, low, high = SHIFTS[number]
    return {
        "control.kind": "mmts",
        "control.alpha": BESIDE,
        "control.shift_low": low,
        "control.shift_high": high,
        "control.oscillations": 5.0,
    }


def searched() -> list[Setting]:
    """Return what is tried on emoji_lt with the first seed: ten constants, eight of each rule."""
    found = [*constants(), *learnables(), *schedules(), *oscillations(), *individual()]
    return [*found, *predicted(), *global_ones()]


def searched_coarsely() -> list[Setting]:
    """Return what is tried on icons with the first seed: eight constants, four of each rule."""
    kept = {
        "MM-TS": ("0.05 to 0.3 e", "0.089 to 0.485 p", "0.05 to 0.485 p", "0.13 to 0.7 p"),
        "MM-TS reversed": ("0.05 to 0.3 e", "0.05 to 0.485 e", "0.05 to 0.18 e", "0.07 to 0.13 e"),
    }
    own = [s for s in schedules() if s.name.startswith(kept[s.rule])]
    return [*constants(COARSE), *own]


def wide() -> list[tuple[str, float, float, str]]:
    """Return name, lowest and highest level, and force of the wide shifts."""
    return [
        (f"{low:g} to {high:g} {force}", low, high, force)
        for _, low, high in SHIFTS
        for force in ("plain", "equalized")
    ]


def schedules() -> list[Setting]:
    """Return MM-TS, in its own direction and reversed: level, width and force."""
    found = []
    for rule, direction in (("MM-TS", {}), ("MM-TS reversed", {"control.sizes": "reversed"})):
        more = [(f"{low:g} to {high:g} {f}", low, high, f) for low, high, f in MORE_SHIFTS[rule]]
        for name, low, high, force in (*wide(), *more):
            levels = {"control.shift_low": low, "control.shift_high": high}
            own = {**shift(0), **levels, **direction, "loss.force": force}
            # the oscillation of a gentle shift is no wider than the shift
            own["control.alpha"] = min(BESIDE, round(high - low, 4))
            found.append(Setting(rule, name, own))
    return found


def oscillations() -> list[Setting]:
    """Return TS: level and amplitude."""
    return [
        Setting(
            "TS",
            f"{level:g} amplitude {amplitude:g}",
            {
                "control.kind": "mmts",
                "control.shift_low": level,
                "control.shift_high": level,
                "control.alpha": round(amplitude * level, 4),
                "control.oscillations": 5.0,
            },
        )
        for level, amplitude in OSCILLATIONS
    ]


def individual() -> list[Setting]:
    """Return iSogCLR with radii that a batch can reach, and at one of them other options."""

    def of(share: float, told: str = "", **more: float) -> Setting:
        own = {
            "family": "isogclr",
            "control.kind": "individual",
            "control.value": 0.1,
            "control.low": 0.02,
            "control.rho": radius(share),
            "control.lr": 0.01,
            "loss.gamma": 0.8,
        }
        changed = {name.replace("_", ".", 1): value for name, value in more.items()}
        return Setting("iSogCLR", f"ρ {radius(share):g}{told}", {**own, **changed})

    further = [of(0.35, " γ 0.5", loss_gamma=0.5), of(0.35, " floor 0.05", control_low=0.05)]
    return [*map(of, SHARES), *map(of, LOW_SHARES), *further]


def predicted() -> list[Setting]:
    """Return TempNet: the radius, and the largest temperature."""
    return [
        Setting(
            "TempNet",
            f"ρ {radius(share):g} to {high:g}",
            {
                "family": "sogclr",
                "control.kind": "tempnet",
                "control.low": 0.02,
                "control.high": high,
                "control.rho": radius(share),
                "loss.gamma": 0.8,
                "optim.loss_lr": 3e-3,
            },
        )
        for high in (0.2, 1.0)
        for share in SHARES
    ]


def global_ones() -> list[Setting]:
    """Return FastCLIP-v3: the radius, and how fast its one temperature goes."""
    return [
        Setting(
            "FastCLIP",
            f"ρ {radius(share):g} at {rate:g}",
            {
                "family": "fastclip",
                "control.kind": "learnable",
                "control.value": 0.1,
                "control.low": 0.02,
                "control.high": 1.0,
                "loss.gamma": 0.8,
                "loss.rho": radius(share),
                "optim.loss_lr": rate,
            },
        )
        for rate in (3e-3, 3e-4)
        for share in SHARES
    ]


def radius(share: float) -> float:
    """Return ρ at a share of the largest divergence from equal weights that a batch has."""
    return round(share * math.log(NEGATIVES), 2)


def causes() -> list[Setting]:
    """Return the second shift, and what takes it apart, of its mean over samples and steps.

    The last two have its values without its order.
    """
    own, mean = shift(1), {"control.kind": "matched"}
    rules = {setting.key: setting for setting in schedules()}
    parts = {
        "mean": {**own, **mean},
        "weight only": {**own, **mean, "loss.weight": "inverse_tau"},
        "noise": {**own, "control.sizes": "noise"},
        "shuffled": {**own, "control.sizes": "shuffled"},
    }
    return [
        rules["MM-TS 0.089 to 0.485 plain"],
        rules["MM-TS reversed 0.089 to 0.485 plain"],
        rules["MM-TS 0.089 to 0.485 equalized"],
        *(Setting("part", name, settings) for name, settings in parts.items()),
    ]
