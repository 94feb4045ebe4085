"""Grids of small trainings: which control helps, where, by how much, and whether it is real."""

from __future__ import annotations

from tauten.extras import need

need("tauten.comparison", "numpy", "transformers", "datasets", "matplotlib", "jinja2", "yaml")

from tauten.comparison.catalogue import METHODS
from tauten.comparison.cell_run import rerun, run_cell
from tauten.comparison.cells import Cell, Result, load_cell, load_result
from tauten.comparison.compare import Comparison, compare
from tauten.comparison.contrasts import Contrast, contrasts
from tauten.comparison.features import Features, FeatureSplit, load, save
from tauten.comparison.frozen import train_heads
from tauten.comparison.grid import Grid
from tauten.comparison.kinds import CONTROLS
from tauten.comparison.synthetic import SyntheticConfig, best_temperature, synthetic

__all__ = [
    "CONTROLS",
    "METHODS",
    "Cell",
    "Comparison",
    "Contrast",
    "FeatureSplit",
    "Features",
    "Grid",
    "Result",
    "SyntheticConfig",
    "best_temperature",
    "compare",
    "contrasts",
    "load",
    "load_cell",
    "load_result",
    "rerun",
    "run_cell",
    "save",
    "synthetic",
    "train_heads",
]
