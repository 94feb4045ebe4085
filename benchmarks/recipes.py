"""Recipes against the first of them, over several seeds, on the same test queries.

    python benchmarks/recipes.py emoji_clip emoji_clip_strong --output runs/clip
                                 [--metric x2y/hit@1] [--seeds 3] [--set optim.epochs=5]

Trains each recipe with each seed into ``OUTPUT/NAME-seedN``, where a finished training is taken as
it is, and prints metrics of the test split in percent, for all queries and for head, mid and tail:
the mean over seeds with a 95 % interval over queries and seeds, and the paired difference to the
first recipe with an interval that holds for all differences of the table together. Where it holds
0 there is no difference to speak of. ``compositional/accuracy`` is that of emoji_lt with captions
that differ in one attribute, whatever a recipe was trained on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

import tauten as tt
from tauten.comparison.contrasts import Seeds, contrasts, estimates
from tauten.comparison.options import settings
from tauten.data import emoji_lt
from tauten.data.emoji import APART
from tauten.outcome import OUTCOME, Outcome, Queries, load
from tauten.recipes import get
from tauten.training import train
from tauten.training.options.config_tree import changed

WORDING = "compositional/accuracy"


def trained(name: str, seeds: int, options: argparse.Namespace) -> Seeds:
    """Return what the recipe found on the test split with each seed."""
    outcomes = {}
    for seed in range(seeds):
        config = get(name)(options.output / f"{name}-seed{seed}", seed=seed)
        config = changed(config, settings(options.set)[0])
        config.progress = config.tensorboard = False
        train(config)
        outcomes[seed] = load(config.output / OUTCOME)
    return outcomes


def wording(run: Path) -> Outcome:
    """Return which test pictures are nearer to their caption than to all that differ a little."""
    data = emoji_lt("test", apart=True)
    places = [row for row, near in enumerate(data[APART]) if near]
    stored, before = np.load(run / "embeddings.npz"), load(run / OUTCOME)
    model = tt.load(run)
    right = []
    for row in places:
        texts = model.encode_text([data["caption"][row], *data[APART][row]])
        scores = F.normalize(torch.as_tensor(texts), dim=1) @ torch.as_tensor(stored["x"][row])
        right.append(bool(scores[0] > scores[1:].max()))
    queries = Queries([before.groups[row] for row in places], [""] * len(places))
    at = torch.arange(len(places))
    return Outcome("pairs", {"x2y": queries}, at, at, {WORDING: torch.tensor(right).double()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--metric", nargs="+", default=["x2y/hit@1"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", nargs="+", default=[], help="options of all trainings, NAME=VALUE")
    options = parser.parse_args()
    found = {name: trained(name, options.seeds, options) for name in options.recipes}
    first, *others = found
    for metric in options.metric:
        kept = found
        if metric == WORDING:
            kept = {
                name: {seed: wording(options.output / f"{name}-seed{seed}") for seed in runs}
                for name, runs in found.items()
            }
        means = estimates(kept, metric)
        pairs = [(name, first) for name in others]
        differences = {(one.a, one.group): one for one in contrasts(kept, pairs, metric)}
        print(f"\n{metric}, {options.seeds} seeds\n\n| recipe | all | head | mid | tail |")
        print("| --- | --- | --- | --- | --- |")
        for name in found:
            cells = [means.get((name, group)) for group in ("all", "head", "mid", "tail")]
            texts = [
                "–" if c is None else f"{100 * c.value:.1f} [{100 * c.low:.1f}, {100 * c.high:.1f}]"
                for c in cells
            ]
            print(f"| `{name}` | {' | '.join(texts)} |")
        for name in others:
            found_of = [differences.get((name, group)) for group in ("all", "head", "mid", "tail")]
            texts = [
                "–"
                if d is None
                else f"{100 * d.value:+.1f} [{100 * d.corrected_low:+.1f}, "
                f"{100 * d.corrected_high:+.1f}]"
                for d in found_of
            ]
            print(f"| `{name}` − `{first}` | {' | '.join(texts)} |")


if __name__ == "__main__":
    main()
