"""Metrics of an evaluation, and a folder with what it found, laid out like a finished run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from tauten.evaluation import TIES
from tauten.files import make_folder, replace_text, write_npz
from tauten.outcome import OUTCOME, save
from tauten.outcome.files import EMBEDDINGS
from tauten.training.evaluation import check_output, written
from tauten.training.options.config import EvaluationConfig
from tauten.training.options.ranges import check_option
from tauten.training.stores.classes import Classes
from tauten.training.tasks.encoded import Encoded
from tauten.training.tasks.protocol import of_classes, of_intervals
from tauten.training.tasks.results import embeddings

Groups = Literal["counts", "thirds"]
CONFIG, RESULTS = "config.yaml", "results.json"
#: in the places of a loss and its control
FAMILY, CONTROL = "evaluated", "its own training"


def check_wanted(
    bootstrap: int, groups: str, output: str | Path | None, keep: str | Path | None
) -> None:
    """Refuse what an evaluation cannot give, before the work.

    Args:
        bootstrap: replicates of the intervals.
        groups: counts or thirds.
        output: a json file for the metrics.
        keep: a folder for what the report reads.

    Raises:
        ValueError: a number or name out of range, an output that is a folder, or a folder that is
            a file or holds what no evaluation wrote, such as a run.
    """
    check_option(EvaluationConfig, "bootstrap", bootstrap)
    if output is not None:
        check_output(Path(output))
    if keep is not None:
        _check_folder(Path(keep))
    if groups not in get_args(Groups):
        raise ValueError(f"groups is counts or thirds, got {groups!r}")


def finished(
    encoded: Encoded,
    classes: Classes | None,
    bootstrap: int,
    output: str | Path | None,
    keep: str | Path | None,
    *,
    name: str,
    data: str,
) -> dict[str, float]:
    """Return the metrics of both sides, written where they are wanted.

    Args:
        encoded: both sides.
        classes: classes of the data; None where there are none.
        bootstrap: replicates of the intervals.
        output: a json file for the metrics.
        keep: a folder for what the report reads.
        name: name of the model.
        data: what it was evaluated on.
    """
    metrics = encoded.retrieval(bootstrap) | encoded.geometry()
    if keep is not None:
        about = _protocol(encoded, classes, data, bootstrap)
        _write(Path(keep), encoded, classes, {"name": name, "protocol": about, "test": metrics})
    return written(metrics, output)


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: name a folder for the report")
    known = {CONFIG, RESULTS, EMBEDDINGS, OUTCOME}
    other = sorted(
        path.name for path in folder.glob("*") if path.name not in known and path.suffix != ".html"
    )
    if other:
        raise ValueError(
            f"{folder} holds {other[0]}, of no evaluation: name a new folder for the report"
        )


def _protocol(
    encoded: Encoded, classes: Classes | None, data: str, bootstrap: int
) -> dict[str, str]:
    """Describe how the numbers came about."""
    protocol = {
        "data": f"{data}: {len(encoded.x)} pictures or first texts, {len(encoded.captions)} texts",
        "retrieval": "both ways over all of it; hit@K: any match in the top K",
        "ties": TIES,
        "intervals": of_intervals(bootstrap),
    }
    if encoded.labels is not None:
        protocol["class"] = of_classes(encoded)
    if classes is not None:
        protocol["groups"] = (
            f"by the size of the class: head >= {classes.head}, tail < {classes.tail}, mid between"
            if classes.by == "counts"
            else "thirds of the classes by their size"
        )
    return protocol


def _write(
    folder: Path, encoded: Encoded, classes: Classes | None, results: dict[str, Any]
) -> None:
    """Write embeddings, the outcome of each query, and the results."""
    make_folder(folder)
    write_npz(folder / EMBEDDINGS, embeddings(encoded, classes))
    save(encoded.outcome(), folder / OUTCOME)
    config = {"name": results["name"], "family": FAMILY, "control": {"kind": CONTROL}}
    replace_text(folder / CONFIG, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    replace_text(folder / RESULTS, json.dumps({**results, "family": FAMILY}, indent=1))
