"""A folder with what an evaluation found, laid out like a finished run, for the report."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from tauten.evaluation import TIES
from tauten.files import make_folder, replace_text, write_npz
from tauten.outcome import OUTCOME, save
from tauten.outcome.files import EMBEDDINGS
from tauten.training.stores.splits import Classes
from tauten.training.tasks.encode import Encoded
from tauten.training.tasks.results import embeddings, of_classes

CONFIG, RESULTS = "config.yaml", "results.json"
#: in the places of a loss and its control
FAMILY, CONTROL = "evaluated", "its own training"


def check_kept(folder: Path) -> None:
    """Refuse a folder that holds something else, before the work.

    Raises:
        ValueError: it is a file, a training wrote it, or it holds other files.
    """
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


def write_kept(
    folder: Path,
    encoded: Encoded,
    metrics: dict[str, float],
    *,
    name: str,
    data: str,
    classes: Classes | None,
    bootstrap: int,
) -> None:
    """Write metrics with their protocol, embeddings and the outcome of each query.

    Args:
        folder: new, or of an earlier evaluation.
        encoded: both sides.
        metrics: of these.
        name: of the model.
        data: what it was evaluated on.
        classes: of the data; None where there are none.
        bootstrap: replicates of the intervals.
    """
    protocol = {
        "data": f"{data}: {len(encoded.x)} pictures or first texts, {len(encoded.captions)} texts",
        "retrieval": "both ways over all of it; hit@K: any match in the top K",
        "ties": TIES,
        "intervals": (
            "95 % over queries: Wilson for hit@K and recall@K, else percentile bootstrap with "
            f"{bootstrap} replicates"
        ),
    }
    if encoded.labels is not None:
        protocol["class"] = of_classes(encoded)
    if classes is not None:
        protocol["groups"] = (
            f"by the size of the class: head >= {classes.head}, tail < {classes.tail}, mid between"
            if classes.by == "counts"
            else "thirds of the classes by their size"
        )
    make_folder(folder)
    write_npz(folder / EMBEDDINGS, embeddings(encoded, classes))
    save(encoded.outcome(), folder / OUTCOME)
    config = {"name": name, "family": FAMILY, "control": {"kind": CONTROL}}
    replace_text(folder / CONFIG, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    results = {"name": name, "family": FAMILY, "protocol": protocol, "test": metrics}
    replace_text(folder / RESULTS, json.dumps(results, indent=1))
