"""Metrics of a validation split of pairs by which a checkpoint may be chosen."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import torch

from tauten.evaluation import multi_instance_retrieval
from tauten.outcome.metrics import KS, WAYS
from tauten.training.stores.classes import Classes
from tauten.training.stores.pair_data import PairData
from tauten.training.tasks.between import in_both
from tauten.training.tasks.encoded import UNSEEN, Encoded, of_rows


def selectable(data: PairData, classes: Classes | None) -> list[str]:
    """Return the metrics of a split by which a checkpoint may be chosen, where higher is better.

    Args:
        data: the split.
        classes: training counts, for groups; None for no groups.
    """
    of_two = ["+".join(two) for two in in_both(data)]
    further, data = bool(data.others), data.pairs()
    names = list(_few(data, classes).retrieval())
    if data.unseen is not None:
        names += [f"{UNSEEN}/{kind}@{data.unseen.k}" for kind in ("recall", "NDCG")]
    if data.negatives is not None:
        asked = [i for i, texts in enumerate(data.negatives) if texts]
        groups = []
        if classes is not None and data.labels is not None:
            groups = classes.groups([data.labels[i] for i in asked])
        kinds = ("accuracy", "pairwise")
        names += [f"compositional/{kind}" for kind in kinds]
        names += [f"compositional/{kind}/{group}" for kind in kinds for group in sorted({*groups})]
    if data.relevancy is not None and data.drawn is None:
        graded = multi_instance_retrieval(torch.eye(2), torch.eye(2), bootstrap=0)
        names += [f"multi_instance/{name}" for name in graded]
    names += [f"{two}/{way}/hit@{k}" for two in of_two for way in WAYS for k in KS]
    names += [f"{two}/mean_recall" for two in of_two]
    names += ["all/mean_recall"] if further else []
    parts = {name: set(name.split("/")) for name in names}
    return [
        name
        for name in names
        if not any(part == "n" or part.endswith("rank") or part[:2] == "n_" for part in parts[name])
    ]


def _few(data: PairData, classes: Classes | None) -> Encoded:
    """Return a few made embeddings of a split, with all metrics that the whole split has.

    Of each group it has up to three images of its largest class, two of them with other captions
    if there are such.
    """
    if data.labels is None:
        return Encoded(torch.eye(2), torch.eye(2), ["", ""], [[0], [1]], None, None)
    groups = classes.groups(data.labels) if classes is not None else None
    _, y_of_x = data.unique_captions()
    rows: list[int] = []
    for group in sorted(set(groups or ("",))):
        members = [i for i in range(len(data.labels)) if groups is None or groups[i] == group]
        largest = Counter(data.labels[i] for i in members).most_common(1)[0][0]
        members = [i for i in members if data.labels[i] == largest]
        other = (i for i in members if y_of_x[i] != y_of_x[members[0]])
        rows += sorted({*members[:2], *islice(other, 1)})
    columns, places = of_rows(rows, y_of_x)
    return Encoded(
        torch.eye(len(rows)),
        torch.ones(len(columns), len(rows)),
        [""] * len(columns),
        places,
        [data.labels[i] for i in rows],
        None if groups is None else [groups[i] for i in rows],
    )
