"""Which direction of a shift wins where the best temperatures are known: synthetic pairs.

Dense concepts are noisier, all are alike, or rare ones are. Heads are trained on the pairs with
constants and with the wide shifts of the study; see docs/comparison.md for the pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import evidence_settings as tried
from evidence_job import PAIRS
from evidence_settings import Setting
from evidence_write import force, options, table

from tauten.comparison import SyntheticConfig, synthetic
from tauten.comparison.contrasts import Contrast, contrasts
from tauten.comparison.frozen import train_heads
from tauten.comparison.grid import Grid
from tauten.comparison.methods import Method, configure
from tauten.comparison.summary import COLUMNS
from tauten.outcome import Outcome

#: noise of the densest concepts over that of the rarest, in the logarithm
GRADIENTS = {1.5: "dense noisier", 0.0: "all alike", -1.5: "rare noisier"}
SEEDS = (0, 1, 2)
LEVELS = (0.03, 0.05, 0.1, 0.2, 0.4)
SHIFTS = ("0.05 to 0.3 plain", "0.05 to 0.3 equalized")
SHAPE = {
    "optim.epochs": 10.0,
    "optim.weight_decay": 0.05,
    "model.dim": 32,
    "optim.batch_size": 256,
}


def settings() -> list[Setting]:
    """Return constants, and the first shift in both directions with both forces."""
    own = [s for s in tried.schedules() if s.name in SHIFTS]
    return [*tried.constants(LEVELS), *own]


def main() -> None:
    """Train and write docs/evidence/synthetic*.csv."""
    rows: list[Sequence[Any]] = []
    differences: list[tuple[str, Contrast]] = []
    for gradient, told in GRADIENTS.items():
        found = trained(SyntheticConfig(noise=0.7, noise_gradient=gradient))
        named = {f"{setting.key}, {told}": of for setting, of in found.items()}
        for setting, of_seeds in found.items():
            place = "synthetic", setting.rule, force(setting)
            own = options(setting), f"{setting.name}, {told}"
            rows += [
                (*place, seed, group, metric, repr(metrics[metric]), *own)
                for seed, outcome in of_seeds.items()
                for group, metrics in outcome.metrics().items()
                for metric in PAIRS
            ]
        pairs = [(f"MM-TS {name}, {told}", f"MM-TS reversed {name}, {told}") for name in SHIFTS]
        for metric in PAIRS:
            differences += [(metric, c) for c in contrasts(named, pairs, metric)]
    table("synthetic", COLUMNS, rows)
    fields = list(Contrast.__dataclass_fields__)
    table(
        "synthetic_differences",
        ["metric", *fields, "verdict"],
        [[metric, *(getattr(c, f) for f in fields), c.verdict] for metric, c in differences],
    )


def trained(config: SyntheticConfig) -> dict[Setting, dict[int, Outcome]]:
    """Return what each setting found with each seed."""
    features = synthetic(config)
    grid = Grid("", recipe="synthetic", mode="frozen", settings=SHAPE, synthetic=config)
    found: dict[Setting, dict[int, Outcome]] = {}
    for setting in settings():
        for seed in SEEDS:
            cell = configure(grid.base(), Method(setting.rule, "", {}), setting.settings)
            cell.seed = seed
            queries = train_heads(cell, features, 0, test=True).queries
            assert queries is not None
            found.setdefault(setting, {})[seed] = queries
    return found


if __name__ == "__main__":
    main()
