"""Outcomes in files: as they are written, and as earlier versions left what they follow from.

``outcome.npz`` holds ``task``; by direction ``groups``, ``labels`` and the scores, as
``{direction}/{name}``; of pairs the ranks of all matches as ``{direction}/ranks``, and ``owner``,
``target``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tauten.evaluation import QueryRanks
from tauten.files import read_arrays, write_npz
from tauten.outcome.made import of_pairs, of_views, votes
from tauten.outcome.metrics import OF_RELEVANCY, RULES, WAYS
from tauten.outcome.outcome import Outcome, Queries

OUTCOME = "outcome.npz"
EMBEDDINGS, FEATURES = "embeddings.npz", "features.npz"
RIGHT = "right_"
"""Before the name of a linear probe in ``features.npz`` of earlier versions: which test images it
has right."""
_RANKS = "ranks"


def save(outcome: Outcome, path: Path) -> None:
    """Write an outcome compactly."""
    arrays: dict[str, Any] = {"task": np.array([outcome.task])}
    if outcome.task == "pairs":
        arrays["owner"], arrays["target"] = _small(outcome.owner), _small(outcome.target)
    for direction, side in outcome.sides.items():
        for name, texts in (("groups", side.groups), ("labels", side.labels)):
            arrays[f"{direction}/{name}"] = np.array(texts, dtype=np.str_)
        arrays |= {f"{direction}/{name}": score.numpy() for name, score in side.scores.items()}
        if side.ranks is not None:
            arrays[f"{direction}/{_RANKS}"] = _small(side.ranks.values)
    write_npz(path, arrays)


def load(path: Path) -> Outcome:
    """Return what :func:`save` wrote, or an earlier version as the queries of a comparison's cell.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is damaged.
    """
    stored = read_arrays(path)
    try:
        return _of(stored) if "task" in stored else _of_earlier(stored)
    except (KeyError, IndexError, RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def of_run(
    folder: Path, features: Mapping[str, Any], ks: Sequence[int], relevancy: Tensor | None = None
) -> Outcome:
    """Return the outcome that a run has written, or that its embeddings or features give.

    Args:
        folder: folder of the run.
        features: arrays of its ``embeddings.npz`` or ``features.npz``.
        ks: numbers of neighbours, of features.
        relevancy: (N, M) graded relevancies, of embeddings.
    """
    if (folder / OUTCOME).exists():
        return load(folder / OUTCOME)
    if "train" in features:
        right = votes(features, ks) | {
            name.removeprefix(RIGHT): torch.from_numpy(outcome)
            for name, outcome in features.items()
            if name.startswith(RIGHT)
        }
        return of_views(right, features["test_labels"], features["test_groups"])
    x, y = torch.from_numpy(features["x"]), torch.from_numpy(features["y"])
    names = {
        name: [str(text) for text in features.get(name, ())]
        for name in ("group_of_x", "group_of_y", "label_of_x")
    }
    return of_pairs(
        x,
        y,
        y_of_x(features),
        names["group_of_x"],
        group_of_y=names["group_of_y"] if any(names["group_of_x"]) else (),
        labels=names["label_of_x"],
        relevancy=relevancy,
    )


def y_of_x(embeddings: Mapping[str, Any]) -> list[list[int]]:
    """Return for each x the list of its y's, from the arrays of ``embeddings.npz``."""
    flat = embeddings["y_of_x"]
    if "y_of_x_offsets" in embeddings:
        return [part.tolist() for part in np.split(flat, embeddings["y_of_x_offsets"][1:-1])]
    return [[int(j) for j in np.atleast_1d(row) if j >= 0] for row in flat]


def _of(stored: Mapping[str, Any]) -> Outcome:
    task = str(stored["task"][0])
    if task == "views":
        right = {name: score for name, score in _scores(stored, "").items() if score.ndim == 1}
        return of_views(right, stored["/labels"].tolist(), stored["/groups"].tolist())
    owner, target = (_long(stored[name]) for name in ("owner", "target"))
    sides = {}
    for way, of_pair, other in (("x2y", owner, "y2x"), ("y2x", target, "x2y")):
        groups, labels = (stored[f"{way}/{name}"].tolist() for name in ("groups", "labels"))
        lengths = torch.bincount(of_pair, minlength=len(groups))
        offsets = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)])
        candidates = len(stored[f"{other}/groups"])
        ranked = QueryRanks(_long(stored[f"{way}/{_RANKS}"]), offsets, candidates)
        if len(ranked.values) != len(owner) or len({len(lengths), len(labels), len(groups)}) > 1:
            raise IndexError(f"{len(ranked.values)} ranks of {way} for {len(owner)} pairs")
        sides[way] = Queries(groups, labels, _scores(stored, way), ranked)
    return Outcome("pairs", sides, owner, target)


def _scores(stored: Mapping[str, Any], way: str) -> dict[str, Tensor]:
    prefix, apart = f"{way}/", ("groups", "labels", _RANKS)
    names = [n.removeprefix(prefix) for n in stored if n.startswith(prefix)]
    size = len(stored[f"{prefix}groups"])
    scores = {name: torch.from_numpy(stored[prefix + name]) for name in names if name not in apart}
    for name, score in scores.items():
        if score.shape != (size,):
            raise IndexError(f"{name} has shape {tuple(score.shape)} for {size} queries")
    return scores


def _of_earlier(stored: Mapping[str, Any]) -> Outcome:
    """Return the queries of a cell: ranks of the best match, or which images are right."""
    if "labels" in stored:
        right = {rule: torch.from_numpy(stored[rule]) for rule in RULES}
        return of_views(right, stored["labels"].tolist(), stored["groups"].tolist())
    groups, sides = [str(name) for name in stored["groups"]], {}
    owner, target = (_long(stored[name]) for name in ("owner", "target"))
    for way, name, other in zip(WAYS, "xy", "yx", strict=True):
        best = _long(stored[name])
        of_each = groups if way == "x2y" else [""] * len(best)
        places = torch.arange(len(best) + 1)
        ranked = QueryRanks(best, places, len(stored[other]))
        sides[way] = Queries(of_each, [""] * len(best), {}, ranked)
    whole = {name: torch.from_numpy(stored[name]) for name in OF_RELEVANCY if name in stored}
    return Outcome("pairs", sides, owner, target, whole)


def _small(values: Tensor) -> Any:
    return values.numpy().astype(np.int32)


def _long(values: Any) -> Tensor:
    return torch.from_numpy(values.astype(np.int64))
