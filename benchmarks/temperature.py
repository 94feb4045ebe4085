"""Draws docs/images/temperature.svg: what a low and a high temperature do.

python benchmarks/temperature.py

Left: τ of a rare and of a common sample over a training with MM-TS. Right: how the repulsion of an
anchor is spread over its 255 negatives at the mean τ of each, from the forces of the loss on drawn
unit rows of 64 numbers; mean over 256 anchors.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn import functional as F

import tauten as tt
from tauten.report.theme import DASHES, TOKENS, figure, picture

FIGURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "temperature.svg"
COUNTS = {"tail": 2, "head": 500}
STEPS, BATCH, DIM = 1000, 256, 64


def spread(tau: float) -> torch.Tensor:
    """Share of the repulsion on the k nearest negatives, (B-1,), for k = 1 ... B-1."""
    generator = torch.Generator().manual_seed(0)
    x, y = (F.normalize(torch.randn(BATCH, DIM, generator=generator), dim=1) for _ in range(2))
    found = tt.forces(tt.InfoNCE(tau, directions="x2y"), x, y).pairs
    repulsion = found[~torch.eye(BATCH, dtype=torch.bool)].view(BATCH, BATCH - 1)
    nearest = repulsion.sort(dim=1, descending=True).values
    return (nearest.cumsum(1) / nearest.sum(1, keepdim=True)).mean(0)


def main() -> None:
    control = tt.mmts(torch.tensor([*COUNTS.values()]), 0.02, (0.03, 0.15), period=STEPS // 3)
    index = torch.arange(len(COUNTS))
    values = torch.stack([control.at(index, step) for step in range(STEPS + 1)]).T
    with figure((8.6, 2.9)) as drawing:
        over, force = drawing.subplots(1, 2)
        for k, (name, taus) in enumerate(zip(COUNTS, values, strict=True)):
            style = {"color": TOKENS[name], "linestyle": DASHES[k]}
            mean = control.mean(index[k : k + 1], STEPS)
            over.plot(range(STEPS + 1), taus.tolist(), **style, label=name)
            shares = spread(mean)
            force.plot(
                range(1, BATCH), (100 * shares).tolist(), **style, label=f"{name}, τ = {mean:.2f}"
            )
            print(f"{name}: mean τ {mean:.3f}, nearest ten {100 * float(shares[9]):.0f} %")
        over.set_title("MM-TS: τ of a rare and of a common sample", fontsize=9)
        over.set_xlabel("optimiser step")
        over.set_ylim(0, 0.22)
        over.legend(loc="upper right", ncols=2)
        force.set_title("repulsion on the k nearest of 255 negatives, %", fontsize=9)
        force.set_xlabel("k")
        force.set_ylim(0, 103)
        force.legend(loc="lower right")
        FIGURE.write_text(picture(drawing, "temperature"), encoding="utf-8")
    print(FIGURE)


if __name__ == "__main__":
    main()
