"""Numbers of any model on any pairs, without a training."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import torch
from datasets import Dataset

from tauten.inference.files import evaluate_files
from tauten.inference.kept import Groups, check_wanted, finished
from tauten.inference.loading import load
from tauten.inference.model import Model
from tauten.inference.samples import Samples, read_samples
from tauten.structure.cells import missing, some
from tauten.structure.tables import column_names, read_rows
from tauten.training.stores.classes import Classes
from tauten.training.stores.rows import UNLABELLED
from tauten.training.tasks.encoded import Encoded

#: columns of the first texts, for a model that embeds texts alone
_FIRST = ("image", "query", "question", "anchor", "x")
_SECOND = ("caption", "captions", "text", "answer", "positive", "y")


def evaluate_model(
    model: str | Path | Model,
    data: str | Path | Dataset,
    *,
    split: str | None = None,
    image: str | None = None,
    caption: str | None = None,
    label: str | None = None,
    groups: Groups = "counts",
    head: int = 100,
    tail: int = 20,
    bootstrap: int = 1000,
    batch_size: int = 64,
    device: str | torch.device | None = None,
    output: str | Path | None = None,
    keep: str | Path | None = None,
    progress: bool = True,
) -> dict[str, float]:
    """Evaluate a model that was never trained here: retrieval both ways, and geometry.

    A model that embeds texts alone is evaluated on a table with two columns of texts.

    Args:
        model: what :func:`tauten.load` takes.
        data: pairs in any layout that training reads, or a data set; for a model of texts alone a
            .csv, .tsv, .json, .jsonl or .parquet.
        split: train, val or test of data that have them; by default all of it.
        image: column of the pictures, or of the first texts.
        caption: column of the captions.
        label: column of the classes; by default `label` where there is one.
        groups: head, mid and tail by the pictures of each class in the data, or by thirds of the
            classes.
        head: classes with at least this many are head.
        tail: classes with fewer are tail.
        bootstrap: replicates of the 95 % intervals; 0 for none.
        batch_size: pictures or texts at a time.
        device: such as "cuda"; by default the model's.
        output: a json file to write the metrics to.
        keep: a folder to write what ``tauten report`` reads, with the page's numbers by query.
        progress: show a bar for large data.

    Returns:
        Metrics as of :func:`tauten.training.evaluate`.

    Raises:
        ValueError: data that cannot be read, or pictures without a caption.
    """
    check_wanted(bootstrap, groups, output, keep)
    loaded = model if isinstance(model, Model) else load(model)
    if device is not None:
        loaded.to(device)
    if loaded.towers.picture is None and loaded.data is None:
        x, y, (first, second) = _texts(loaded, data, image, caption, batch_size)
        return evaluate_files(
            x,
            y,
            str(data),
            image=first,
            caption=second,
            label=label,
            groups=groups,
            head=head,
            tail=tail,
            bootstrap=bootstrap,
            output=output,
            keep=keep,
            name=loaded.name,
        )
    samples = read_samples(loaded, data, split, image, caption, label, progress)
    place = str(data) if not isinstance(data, Dataset) else "the data set"
    _check_captions(samples, place)
    at = {text: row for row, text in enumerate(samples.texts)}
    classes, labels = None, samples.labels
    if labels is not None:
        counts = Counter(name for name in labels if name != UNLABELLED)
        classes = Classes(dict(counts), head, tail, groups)
    encoded = Encoded(
        x=samples.encode(loaded, 0, len(samples.ids), batch_size),
        y=loaded.encode_text(samples.texts, batch_size),
        captions=samples.texts,
        y_of_x=[[at[text] for text in dict.fromkeys(texts)] for texts in samples.captions],
        labels=labels,
        groups=None if classes is None or labels is None else classes.groups(labels),
    )
    return finished(encoded, classes, bootstrap, output, keep, name=loaded.name, data=place)


def _check_captions(samples: Samples, place: str) -> None:
    bare = [row for row, texts in enumerate(samples.captions) if not texts]
    if bare:
        raise ValueError(
            f"{len(bare)} of {len(samples.ids)} pictures of {place} have no caption, first: "
            f"{samples.ids[bare[0]]}: name their column with caption=, or leave them out"
        )


def _texts(
    model: Model, data: str | Path | Dataset, image: str | None, caption: str | None, size: int
) -> tuple[torch.Tensor, torch.Tensor, tuple[str, str]]:
    """Embed both columns of a table of texts, each different text once; with their names."""
    alone = f"{model.name} embeds texts alone"
    if isinstance(data, Dataset) or not Path(data).is_file():
        raise ValueError(f"{alone}: give a .csv, .json(l) or .parquet with two columns of texts")
    rows = read_rows(Path(data), text={*_FIRST, *_SECOND, *filter(None, (image, caption))})
    names = column_names(rows)
    chosen = {}
    for what, given, usual in (("image", image, _FIRST), ("caption", caption, _SECOND)):
        name = given or next((name for name in usual if name in names), None)
        if name is None or name not in names:
            raise ValueError(
                f"{alone}, and {data} has no column {name or ' or '.join(usual)}; columns: "
                f"{some(names, 20)}; name that of the "
                f"{'first' if what == 'image' else 'second'} texts with {what}="
            )
        chosen[what] = name
    sides = []
    for name in chosen.values():
        cells = [row.get(name) for row in rows]
        lost = [row for row, cell in enumerate(cells) if missing(cell)]
        if lost:
            raise ValueError(
                f"{len(lost)} of {len(rows)} rows of {data} have nothing in the column {name!r}, "
                f"first: row {lost[0]}: fill them, or leave them out"
            )
        flat = [text for cell in cells for text in (cell if isinstance(cell, list) else [cell])]
        sides.append(model.encode_text(list(dict.fromkeys(map(str, flat))), size))
    return sides[0], sides[1], (chosen["image"], chosen["caption"])
