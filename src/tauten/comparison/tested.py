"""Stored results of a cell's test queries, of the kind that its training calls for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from tauten.comparison.classified import Classified
from tauten.comparison.graded import GradedQueries
from tauten.comparison.queries import Queries
from tauten.comparison.scores import Scores
from tauten.files import opened_arrays, read_arrays, read_sealed
from tauten.training import Config
from tauten.training.named import is_named
from tauten.training.run_folder import EMBEDDINGS, FEATURES, RESULTS
from tauten.training.splits import load_split


def tested_by(config: Config, *, whole: bool) -> type[Scores]:
    """Return the class of scores of trainings with this configuration.

    Args:
        config: of the trainings.
        whole: whether they are whole runs, and not heads on features.
    """
    if config.task == "views":
        return Classified
    graded = config.data.relevancy != "none" or is_named(config.data.source, "epic_kitchens")
    return GradedQueries if graded and whole else Queries


def of_run(config: Config) -> Scores:
    """Load the scores of the test queries of a finished run.

    Raises:
        ValueError: that is damaged.
    """
    read_sealed(config.output / RESULTS, (EMBEDDINGS, FEATURES))
    if config.task == "views":
        return Classified.of(read_arrays(config.output / FEATURES))
    stored = read_arrays(config.output / EMBEDDINGS, ["x", "y", "y_of_x", "group_of_x"])
    x, y = torch.from_numpy(stored["x"]), torch.from_numpy(stored["y"])
    own = [[int(j) for j in np.atleast_1d(row) if j >= 0] for row in stored["y_of_x"]]
    groups = [str(group) for group in stored["group_of_x"]]
    if tested_by(config, whole=True) is Queries:
        return Queries.of(x, y, own, groups)
    relevancy = load_split(config.data, "test", config.progress).relevancy
    assert relevancy is not None
    return GradedQueries.of_graded(x, y, own, groups, relevancy.dense())


def load_scores(path: Path) -> Scores:
    """Load the stored results of a cell's test queries."""
    with opened_arrays(path) as stored:
        names = stored.files
    if "labels" in names:
        return Classified.load(path)
    return GradedQueries.load(path) if "nDCG" in names else Queries.load(path)
