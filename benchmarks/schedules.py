"""Draws docs/images/schedules.svg: the schedules of the published recipes, and where they turn.

python benchmarks/schedules.py

Every value is that of the control which the recipe's configuration builds.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch

from tauten.recipes import get
from tauten.report.theme import DASHES, TOKENS, figure, picture
from tauten.training.build import build_control

FIGURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "schedules.svg"
#: points of each half period
POINTS = 100


@dataclass(frozen=True)
class Case:
    """A recipe at the length of its training.

    Attributes:
        recipe: its name.
        title: of its panel.
        per_epoch: optimiser steps of an epoch.
        sizes: of the clusters or classes that are drawn, by their name.
        by_epoch: draw over epochs, counted from 1.
    """

    recipe: str
    title: str
    per_epoch: int
    sizes: dict[str, int]
    by_epoch: bool = False


#: sizes of CC3M's clusters depend on the run: the smallest, one half-way, the largest. Those of
#: EPIC-KITCHENS are the smallest and largest noun class and one in between.
CASES = (
    Case("cifar10_lt_ts", "TS, CIFAR10-LT: τ", 11_165 // 512, {"all": 1}, by_epoch=True),
    Case("cc3m_mmts", "MM-TS, CC3M: τ", 2_900_000 // 512, {"tail": 1, "mid": 501, "head": 1001}),
    Case("epic_kitchens_mmts", "MM-TS, EPIC-KITCHENS-100: margin", 131,
         {"tail": 2, "mid": 1000, "head": 3617}),
)  # fmt: skip


def curves(case: Case) -> tuple[list[int], dict[str, list[float]]]:
    """Epochs or steps, and at each the value of a sample in a class of each size."""
    config = get(case.recipe)()
    epochs = int(config.optim.epochs)
    total, counts = epochs * case.per_epoch, torch.tensor([*case.sizes.values()])
    control = build_control(config, len(counts), counts, total)
    halves = int(2 * config.control.oscillations)
    place = [*range(1, epochs + 1)]
    if not case.by_epoch:
        place = [round(total * k / (halves * POINTS)) for k in range(halves * POINTS + 1)]
    steps = [(at - 1) * case.per_epoch for at in place] if case.by_epoch else place
    index = torch.arange(len(counts))
    values = torch.stack([control.at(index, step) for step in steps]).T.tolist()
    return place, dict(zip(case.sizes, values, strict=True))


def turns(place: list[int], values: list[float]) -> dict[str, list[tuple[int, float]]]:
    """Where a curve is "low" and "high": its turning points, and an end that is as extreme."""
    found: dict[str, list[tuple[int, float]]] = {"low": [], "high": []}
    rising = [after > before for before, after in pairwise(values)]
    for i, value in enumerate(values):
        turning = 0 < i < len(rising) and rising[i - 1] != rising[i]
        for name, end in (("low", min(values)), ("high", max(values))):
            if abs(value - end) < 1e-7 and (turning or i in (0, len(values) - 1)):
                found[name].append((place[i], value))
    return found


def main() -> None:
    with figure((8.6, 2.9)) as drawing:
        for axes, case in zip(drawing.subplots(1, len(CASES)), CASES, strict=True):
            place, drawn = curves(case)
            for k, (name, values) in enumerate(drawn.items()):
                color = TOKENS["run1" if name == "all" else name]
                axes.plot(place, values, color=color, linestyle=DASHES[k], label=name)
                for kind, points in turns(place, values).items():
                    axes.plot(*zip(*points, strict=True), "o", color=color, markersize=3)
                    print(case.recipe, name, kind, f"{points[0][1]:.4f}", [at for at, _ in points])
            axes.set_title(case.title, fontsize=9)
            axes.set_xlabel("epoch" if case.by_epoch else "optimiser step")
            axes.set_xlim(0, 1.03 * place[-1])
            axes.set_ylim(0, 1.25 * max(max(values) for values in drawn.values()))
            axes.locator_params(axis="x", nbins=5)
            if len(drawn) > 1:
                axes.legend(loc="upper left", ncols=3)
        FIGURE.write_text(picture(drawing, "schedules"), encoding="utf-8")
    print(FIGURE)


if __name__ == "__main__":
    main()
