"""What ``evidence.py`` trains: a grid of levels, rules around the best level, and causes apart.

A shift and what takes it apart have the same mean over training samples and steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import evidence_grids as grids
from evidence_grids import Span


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


def constants(levels: Sequence[float] = grids.LEVELS) -> list[Setting]:
    """Return a grid of constant temperatures."""
    return [
        Setting("constant", f"{tau:g}", {"control.kind": "constant", "control.value": tau})
        for tau in levels
    ]


def learnables(starts: Sequence[float] = grids.STARTS) -> list[Setting]:
    """Return the grid of learned temperatures: where they start, and how fast they go."""
    own = {"control.kind": "learnable", "control.low": 0.01, "control.high": 1.0}
    return [
        Setting(
            "learnable",
            f"from {start:g} at {rate:g}",
            {**own, "control.value": start, "optim.loss_lr": rate},
        )
        for start in starts
        for rate in grids.RATES
    ]


def searched() -> list[Setting]:
    """Return what is tried on emoji_lt with the first seed: ten constants, eight of each rule."""
    found = [*constants(), *learnables(), *schedules(), *oscillations(), *individual()]
    return [*found, *predicted(), *global_ones()]


def searched_on_icons() -> list[Setting]:
    """Return what is tried on icons: eight constants, 4 to 6 of each rule."""
    found = [*constants(grids.ON_ICONS), *schedules(grids.SHIFTS_ON_ICONS), *learnables((0.1, 0.4))]
    return [*found, *oscillations(grids.OSCILLATIONS_ON_ICONS), *radii((0.1, *grids.SHARES[:3]))]


def searched_on_clips() -> list[Setting]:
    """Return what is tried on emoji_video: eight constants, 4 to 6 of each rule."""
    found = [*constants(grids.ON_CLIPS), *schedules(grids.SHIFTS_ON_CLIPS)]
    robust = radii((0.05, 0.1, *grids.SHARES))
    return [
        *found,
        *learnables((0.05, 0.1, 0.25)),
        *oscillations(grids.OSCILLATIONS_ON_CLIPS),
        *robust,
    ]


def searched_on_views() -> list[Setting]:
    """Return what is tried on two views of caltech98_lt: ten constants, 2 or 3 of each rule."""
    robust = radii((0.064, 0.25), negatives=grids.NEGATIVES_OF_VIEWS, control_lr=0.03)
    found = [*constants(grids.ON_VIEWS), *schedules(grids.SHIFTS_ON_VIEWS), *learnables((0.05,))]
    return [*found, *oscillations(grids.OSCILLATIONS_ON_VIEWS), *robust]


def shift(low: float, high: float) -> dict[str, Any]:
    """Return MM-TS between two levels; its oscillation is no wider than a gentle shift."""
    return {
        "control.kind": "mmts",
        "control.alpha": min(grids.BESIDE, round(high - low, 4)),
        "control.shift_low": low,
        "control.shift_high": high,
        "control.oscillations": 5.0,
    }


def schedules(spans: Mapping[str, Sequence[Span]] = grids.SHIFTS) -> list[Setting]:
    """Return MM-TS, in its own direction and reversed: level, width and force."""
    directions = {"MM-TS": {}, "MM-TS reversed": {"control.sizes": "reversed"}}
    return [
        Setting(
            rule,
            f"{low:g} to {high:g} {force}",
            {**shift(low, high), **directions[rule], "loss.force": force},
        )
        for rule, own in spans.items()
        for low, high, force in own
    ]


def oscillations(tried: Sequence[tuple[float, float]] = grids.OSCILLATIONS) -> list[Setting]:
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
        for level, amplitude in tried
    ]


def radii(
    shares: Sequence[float], told: str = "", negatives: int = grids.NEGATIVES, **more: float
) -> list[Setting]:
    """Return iSogCLR with radii at shares of what a batch can reach, and other options."""
    changed = {name.replace("_", ".", 1): value for name, value in more.items()}
    own = {
        "family": "isogclr",
        "control.kind": "individual",
        "control.value": 0.1,
        "control.low": 0.02,
        "control.lr": 0.01,
        "loss.gamma": 0.8,
        **changed,
    }
    found = [radius(share, negatives) for share in shares]
    return [Setting("iSogCLR", f"ρ {rho:g}{told}", {**own, "control.rho": rho}) for rho in found]


def individual() -> list[Setting]:
    """Return iSogCLR with radii that a batch can reach, and at one of them other options."""
    return [
        *radii((*grids.SHARES, *grids.LOW_SHARES)),
        *radii((0.35,), " γ 0.5", loss_gamma=0.5),
        *radii((0.35,), " floor 0.05", control_low=0.05),
    ]


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
        for share in grids.SHARES
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
        for share in grids.SHARES
    ]


def radius(share: float, negatives: int = grids.NEGATIVES) -> float:
    """Return ρ at a share of the largest divergence from equal weights that a batch has."""
    return round(share * math.log(negatives), 2)


def causes() -> list[Setting]:
    """Return the second wide shift, and what takes it apart, of its mean over samples and steps.

    The last two have its values without its order.
    """
    own, mean = shift(*grids.APART), {"control.kind": "matched"}
    rules = schedules({"MM-TS": grids.WIDE[2:], "MM-TS reversed": grids.WIDE[2:3]})
    true, shape, backwards = rules
    parts = {
        "mean": {**own, **mean},
        "weight only": {**own, **mean, "loss.weight": "inverse_tau"},
        "noise": {**own, "control.sizes": "noise"},
        "shuffled": {**own, "control.sizes": "shuffled"},
    }
    return [true, backwards, shape, *(Setting("part", n, s) for n, s in parts.items())]
