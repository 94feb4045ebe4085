"""Draws docs/images/evidence_forces.svg: the force of each rule on each pair, from its formula.

InfoNCE from pictures to captions has for anchor i the force w_i/τ_i · softmax(s_i/τ_i) on each
negative, and the sum of these on its positive. A rule says which τ and which w a sample of a dense
and of a rare class has. The similarities are drawn once: unit rows whose cosine is about 0.35
within a class, 0.6 in a pair and 0 otherwise. A batch of 128 holds 17 samples of the densest class
of emoji_lt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean

import torch
from evidence_read import read
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from tauten.report.theme import DASHES, TOKENS, figure

BATCH, MATES, DIM = 128, 17, 256
PAIR, CLASS = 0.6, 0.35
#: temperature of the rarest and of the densest class under a shift, and its mean over samples: the
#: wide one, its mirror image, and the mirror image of the one from 0.05 to 0.3
WIDE = (0.089, 0.485, 0.18)
REVERSED = (0.284, 0.052, 0.18)
REVERSED_LOW = (0.175, 0.029, 0.107)
#: what was trained with each rule
TRAINED = {
    "constant 0.03": "constant 0.03",
    "constant 0.085": "constant 0.085",
    "constant 0.18": "part mean",
    "constant 0.4": "constant 0.4",
    "MM-TS": "MM-TS 0.089 to 0.485 plain",
    "shape only": "MM-TS 0.089 to 0.485 equalized",
    "weight only": "part weight only",
    "reversed": "MM-TS reversed 0.089 to 0.485 plain",
    "reversed, shape only": "MM-TS reversed 0.05 to 0.3 equalized",
    "iSogCLR": "iSogCLR ρ 1.7",
}
#: radius of the robust objective
RADIUS = 1.7
ANCHORS = {"dense": slice(MATES), "rare": slice(MATES, None)}


@dataclass(frozen=True)
class Strength:
    """Temperature and weight of an anchor."""

    tau: float
    weight: float = 1.0


def drawn() -> tuple[Tensor, Tensor]:
    """Return (B, d) pictures and captions of a batch; the first are of one class."""
    generator = torch.Generator().manual_seed(0)

    def unit(*shape: int) -> Tensor:
        rows = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return F.normalize(rows, dim=-1)

    centre, own = unit(DIM), unit(BATCH, DIM)
    shared = torch.arange(BATCH) < MATES
    z = torch.where(
        shared[:, None], math.sqrt(CLASS) * centre + math.sqrt(PAIR - CLASS) * own, PAIR**0.5 * own
    )
    x, y = (F.normalize(z + (1 - PAIR) ** 0.5 * unit(BATCH, DIM), dim=1) for _ in range(2))
    return x, y


def pushes(sim: Tensor, strength: Strength) -> Tensor:
    """Return (B, B) the force on each negative of each anchor; 0 on the diagonal."""
    share = torch.softmax(sim / strength.tau, dim=1)
    return strength.weight / strength.tau * share.fill_diagonal_(0)


def robust(sim: Tensor, anchors: slice) -> float:
    """Return the τ at which the negatives' weights are :data:`RADIUS` from equal ones."""
    negatives = sim[~torch.eye(len(sim), dtype=torch.bool)].view(len(sim), -1)[anchors]
    low, high = 0.005, 5.0
    for _ in range(60):
        tau = math.sqrt(low * high)
        log_share = torch.log_softmax(negatives / tau, dim=1)
        away = (log_share.exp() * log_share).sum(1).mean() + math.log(negatives.shape[1])
        low, high = (tau, high) if away > RADIUS else (low, tau)
    return math.sqrt(low * high)


def rules(sim: Tensor) -> dict[str, tuple[Strength, Strength]]:
    """Return by rule what an anchor of a dense and of a rare class has."""
    constants = {f"constant {tau:g}": (Strength(tau),) * 2 for tau in (0.03, 0.085, 0.18, 0.4)}
    rare, dense, mean = WIDE
    return {
        **constants,
        "MM-TS": (Strength(dense), Strength(rare)),
        "shape only": _equalized(*WIDE),
        "weight only": (Strength(mean, mean / dense), Strength(mean, mean / rare)),
        "reversed": (Strength(REVERSED[1]), Strength(REVERSED[0])),
        "reversed, shape only": _equalized(*REVERSED_LOW),
        "iSogCLR": (
            Strength(robust(sim, ANCHORS["dense"])),
            Strength(robust(sim, ANCHORS["rare"])),
        ),
    }


def _equalized(rare: float, dense: float, mean: float) -> tuple[Strength, Strength]:
    return Strength(dense, dense / mean), Strength(rare, rare / mean)


def totals() -> dict[str, dict[str, tuple[float, float, float]]]:
    """Return by rule and side τ, and the push of an anchor on its class and on all others."""
    x, y = drawn()
    sim = x @ y.T
    found: dict[str, dict[str, tuple[float, float, float]]] = {}
    for rule, strengths in rules(sim).items():
        for (side, part), strength in zip(ANCHORS.items(), strengths, strict=True):
            push = pushes(sim, strength)[part]
            mates = float(push[:, :MATES].sum(1).mean()) if side == "dense" else 0.0
            others = float(push.sum(1).mean()) - mates
            found.setdefault(rule, {})[side] = strength.tau, mates, others
    return found


def measured() -> dict[str, float]:
    """Return by rule the class mAP of the head, in percent, of the trainings on emoji_lt."""
    found: dict[str, list[float]] = {}
    for row in (*read("study_rules"), *read("study_parts")):
        if (row["metric"], row["group"]) == ("class_map", "head"):
            found.setdefault(f"{row['control']} {row['setting']}", []).append(float(row["value"]))
    for row in read("study_search"):
        if (row["split"], row["group"]) == ("test", "head"):
            found.setdefault(f"{row['rule']} {row['setting']}", [float(row["class_map"])])
    return {rule: 100 * fmean(found[key]) for rule, key in TRAINED.items()}


def forces() -> Figure:
    """Force on a negative by its cosine; what each rule's forces add up to; and class mAP by it."""
    with figure((9.0, 6.6)) as drawing:
        (curves, classes), bars = drawing.subplots(2, 2, height_ratios=(1, 1.1))
        _curves(curves)
        _classes(classes)
        for axes, side in zip(bars, ANCHORS, strict=True):
            _bars(axes, side)
        bars[1].legend(loc="center right")
        return drawing


def _curves(axes: Axes) -> None:
    x, y = drawn()
    sim = x @ y.T
    anchor = 0
    order = sim[anchor].argsort()
    order = order[order != anchor]
    found = rules(sim)
    names = ("constant 0.03", "constant 0.085", "constant 0.4", "MM-TS", "weight only")
    for k, name in enumerate((*names, "reversed, shape only")):
        force = pushes(sim, found[name][0])[anchor, order]
        style = {"color": TOKENS[f"run{k + 1}"], "linestyle": DASHES[k // 3]}
        axes.plot(sim[anchor, order].tolist(), force.tolist(), label=name, **style)
    axes.set_yscale("log")
    axes.set_ylim(1e-6, 3)
    axes.set_xlabel("cosine of the negative")
    axes.set_title("force on one negative, anchor of a dense class", fontsize=9)
    axes.legend(loc="lower right", fontsize=7)


def _classes(axes: Axes) -> None:
    pushed = {rule: of["dense"][1] for rule, of in totals().items()}
    found = measured()
    axes.plot([pushed[rule] for rule in found], list(found.values()), "o", color=TOKENS["run2"])
    for rule, value in found.items():
        axes.annotate(rule, (pushed[rule], value), (4, 3), textcoords="offset points", fontsize=6.5)
    axes.set_xscale("log")
    axes.set_xlim(0.08, 30)
    axes.set_xlabel("force on its own class, from the formula")
    axes.set_title("class mAP of the head as trained, percent", fontsize=9)


def _bars(axes: Axes, side: str) -> None:
    found = totals()
    for place, of_sides in enumerate(found.values()):
        tau, mates, others = of_sides[side]
        names = ("on its own class", "on all others") if place == 0 else (None, None)
        axes.barh(place, mates, color=TOKENS["run2"], label=names[0])
        axes.barh(place, others, left=mates, color=TOKENS["run1"], label=names[1])
        axes.text(mates + others, place, f" τ {tau:.3g}", va="center", fontsize=7)
    axes.set_yticks(range(len(found)), list(found))
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.set_xlim(0, 11)
    axes.set_title(f"sum of the forces, anchor of a {side} class", fontsize=9)
    axes.grid(visible=False, axis="y")
