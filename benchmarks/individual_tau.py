"""Does iSogCLR give dense classes higher temperatures? Trains emoji_lt and correlates.

    python benchmarks/individual_tau.py [--seeds 3] [--epochs 20] [--output runs/individual]

Prints retrieval on validation for SogCLR and iSogCLR, and Spearman's correlation of the learned
temperatures with the training count of the sample's class, with intervals that draw samples, and
classes, with replacement. Started again it goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import numpy as np
import torch

from tauten.data import emoji_lt
from tauten.evaluation import spearman
from tauten.recipes import emoji_isogclr, emoji_sogclr
from tauten.training import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=20.0)
    parser.add_argument("--output", type=Path, default=Path("runs/individual"))
    options = parser.parse_args()
    learned, counts = [], None
    for recipe in (emoji_sogclr, emoji_isogclr):
        results = []
        for seed in range(options.seeds):
            folder = options.output / f"{recipe.__name__}-seed{seed}"
            results.append(train(recipe(folder, options.epochs, seed)))
            if recipe is emoji_isogclr:
                samples = np.load(folder / "samples.npz")
                learned.append(samples["tau_final"])
                counts = torch.from_numpy(samples["counts"])
        for metric in ("mean_recall", "x2y/hit@1", "x2y/hit@1/tail"):
            values = [100 * result.val[metric] for result in results]
            listed = ", ".join(f"{value:.1f}" for value in values)
            print(
                f"{recipe.__name__:14} val {metric:15} {statistics.fmean(values):5.1f}  ({listed})"
            )
    assert counts is not None
    tau = torch.from_numpy(np.stack(learned))
    quantiles = torch.quantile(tau.flatten(), torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0]))
    print("learned τ, quantiles 0, 10, 50, 90, 100 %:", *(f"{q:.3f}" for q in quantiles.tolist()))
    classes = torch.from_numpy(np.unique(emoji_lt("train")["label"], return_inverse=True)[1])
    for drawn, clusters in (("samples", None), ("classes", classes)):
        found = spearman(tau, counts, clusters)
        print(
            f"Spearman(τ, class count) = {found.value:.3f} [{found.low:.3f}, {found.high:.3f}], "
            f"{found.seeds} seeds, drawing {drawn}"
        )


if __name__ == "__main__":
    main()
