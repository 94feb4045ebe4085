"""Checks that two results may stand in one table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tauten.report.runs import SeedRun


def comparable(run: SeedRun, other: SeedRun) -> None:
    """Refuse two runs whose numbers are measured in different ways.

    Compared are the content of the test split, the protocol by which it is searched, features and
    relevancies, the linear probe of two views, and whether a run is a trial. What a run does not
    record is not compared; which training data and settings it has is not either, as that may be
    what is to be compared.

    Raises:
        ValueError: naming both folders and what differs.
    """
    ours, theirs = _measured(run), _measured(other)
    differ = [
        f"{name} is {ours[name]} in {run.path} and {theirs[name]} in {other.path}"
        for name in ours
        if name in theirs and ours[name] != theirs[name]
    ]
    if differ:
        raise ValueError(
            f"these results cannot be compared: {'; '.join(differ)}. Write one report for each"
        )


def _measured(run: SeedRun) -> dict[str, Any]:
    """Return what the numbers depend on beside the training, as far as it is recorded."""
    settings: dict[str, Any] = {}
    prints = run.config.get("fingerprint")
    if isinstance(prints, Mapping) and "test" in prints:
        settings["the fingerprint of the test split"] = prints["test"]
    data = run.config.get("data")
    if isinstance(data, Mapping):
        for name in ("protocol", "relevancy"):
            if name in data:
                settings[f"data.{name}"] = data[name]
    evaluation = run.config.get("evaluation")
    if run.config.get("task") == "views" and isinstance(evaluation, Mapping):
        probe = evaluation.get("probe", "none")
        settings |= {} if probe == "none" else {"evaluation.probe": probe}
    for name in ("task", "runlocal"):
        if name in run.config:
            settings[name] = run.config[name]
    return settings
