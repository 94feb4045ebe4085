"""Metrics of a cell's test queries, of the kind that its training calls for."""

from __future__ import annotations

from tauten.files import read_sealed
from tauten.outcome import GRADED, OUTCOME, PAIRS, VIEWS, Metrics, Outcome, load
from tauten.training import Config
from tauten.training.run.names import RESULTS
from tauten.training.stores.named import is_named


def tested_by(config: Config, *, whole: bool) -> Metrics:
    """Return the metrics of trainings with this configuration.

    Args:
        config: configuration of the trainings.
        whole: whether they are whole runs, and not heads on features.
    """
    if config.task == "views":
        return VIEWS
    graded = config.data.relevancy != "none" or is_named(config.data.source, "epic_kitchens")
    return GRADED if graded and whole else PAIRS


def of_run(config: Config) -> Outcome:
    """Return what a finished run found for the test queries.

    Raises:
        ValueError: it is damaged, or a metric is not defined for a query.
    """
    read_sealed(config.output / RESULTS, (OUTCOME,))
    outcome = load(config.output / OUTCOME)
    for metric in outcome.known.names:
        outcome.scores(metric)
    return outcome
