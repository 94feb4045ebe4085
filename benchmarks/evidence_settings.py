"""What ``evidence.py`` trains: a grid of levels, rules around the best level, and causes apart.

A shift and what takes it apart have the same mean over training samples and steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: constant temperatures, and starts and rates of learned ones
LEVELS = (0.02, 0.03, 0.05, 0.07, 0.085, 0.1, 0.13, 0.18, 0.25, 0.4)
STARTS, RATES = (0.05, 0.07), (3e-4, 3e-3)
#: mean, lowest and highest level of a shift; the first has about the mean of the best constant
#: for instances, the second is as wide around a higher one
SHIFTS = ((0.107, 0.05, 0.30), (0.18, 0.089, 0.485))
#: peak-to-peak amplitude of the oscillation beside a shift
BESIDE = 0.04
#: of an oscillation alone over its mean level
AMPLITUDES = (0.6, 1.4)
#: the radius of the robust objective as a share of the most that a batch allows, the logarithm of
#: its number of negatives
SHARES = (0.25, 0.35, 0.45, 0.55)
NEGATIVES = 127


@dataclass(frozen=True)
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


def constants() -> list[Setting]:
    """Return the grid of constant temperatures."""
    return [
        Setting("constant", f"{tau:g}", {"control.kind": "constant", "control.value": tau})
        for tau in LEVELS
    ]


def learnables() -> list[Setting]:
    """Return the grid of learned temperatures: where they start, and how fast they go."""
    own = {"control.kind": "learnable", "control.low": 0.01, "control.high": 1.0}
    return [
        Setting(
            "learnable",
            f"from {start:g} at {rate:g}",
            {**own, "control.value": start, "optim.loss_lr": rate},
        )
        for start in STARTS
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
    """Return all that is tried with the first seed: constants, and four settings of each rule."""
    return [*constants(), *learnables(), *schedules(), *oscillations(), *individual()]


def schedules() -> list[Setting]:
    """Return MM-TS, in its own direction and reversed: level and force; and the demo's, gentle."""
    gentle = {
        **shift(0),
        "control.alpha": 0.03,
        "control.shift_low": 0.085,
        "control.shift_high": 0.115,
        "loss.force": "equalized",
    }
    wide = [
        Setting(rule, f"{low:g} to {high:g} {force}", {**shift(n), **more, "loss.force": force})
        for rule, more in (("MM-TS", {}), ("MM-TS reversed", {"control.sizes": "reversed"}))
        for n, (_, low, high) in enumerate(SHIFTS)
        for force in ("plain", "equalized")
    ]
    return [*wide, Setting("MM-TS", "0.085 to 0.115 equalized", gentle)]


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
        for level, _, _ in SHIFTS
        for amplitude in AMPLITUDES
    ]


def individual() -> list[Setting]:
    """Return iSogCLR with radii that a batch can reach."""
    return [
        Setting(
            "iSogCLR",
            f"ρ {radius(share):g}",
            {
                "family": "isogclr",
                "control.kind": "individual",
                "control.value": 0.1,
                "control.low": 0.02,
                "control.rho": radius(share),
                "control.lr": 0.01,
                "loss.gamma": 0.8,
            },
        )
        for share in SHARES
    ]


def radius(share: float) -> float:
    """Return ρ at a share of the largest divergence from equal weights that a batch has."""
    return round(share * math.log(NEGATIVES), 2)


def causes() -> list[Setting]:
    """Return the second shift, and what takes it apart, of its mean over samples and steps."""
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
