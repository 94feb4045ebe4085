"""Facts about one's own data before a training: what is used, the long tail, the first pairs."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset

from tauten.outcome import GROUPS
from tauten.structure.cells import counted, missing, short, texts_of
from tauten.training.options.config import DataConfig
from tauten.training.stores.classes import Classes
from tauten.training.stores.held_out import raw_images
from tauten.training.stores.pair_data import SPLITS, Split
from tauten.training.stores.rows import UNLABELLED, class_names
from tauten.training.stores.split_rows import split_rows

_FIRST, _WIDTH = 5, 60
_USUAL_LABEL = "label"


def check_data(config: DataConfig, views: bool = False, progress: bool = True) -> str:
    """Return what a training would use of data of one's own, as lines of text.

    Every picture is decoded once. What cannot be used is counted in the log, as in a training.

    Args:
        config: of the data; without ``label`` a column of this name is taken, if there is one.
        views: two views of each picture: captions are not needed.
        progress: show a bar for large data.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: data that a training would refuse.
    """
    try:
        named = config.label or (_USUAL_LABEL if views else None)
        parts = split_rows(dataclasses.replace(config, label=named), SPLITS, progress, views)
    except ValueError:
        if not views or config.label is not None:
            raise
        parts = split_rows(config, SPLITS, progress, views)  # pictures without classes
    label = config.label
    if label is None and _USUAL_LABEL in parts["train"].column_names:
        label = _USUAL_LABEL
    names = parts["train"].column_names
    if label is not None and label not in names:
        raise ValueError(
            f"no label column {label!r} in {config.source}; columns: {', '.join(names)}"
        )
    lines = [f"{config.source}:", *_sizes(parts, "texts" if config.texts else "images")]
    if label is not None:
        lines += _tail(parts["train"], config, label)
    else:
        lines.append(
            "no classes: --data.label COLUMN names them, --data.clusters K makes them of captions; "
            f"columns: {', '.join(n for n in names if n not in ('index', 'image', 'caption'))}"
        )
    lines += ["first pairs of train:", *_first(parts["train"], label, config.texts)]
    return "\n".join(lines)


def _sizes(parts: dict[Split, Dataset], side: str) -> list[str]:
    rows = [("", side, "captions", "different")]
    for split, data in parts.items():
        texts = [text for cell in data["caption"][:] for text in texts_of(cell)]
        rows.append((split, f"{len(data):,}", f"{len(texts):,}", f"{len(set(texts)):,}"))
    return [f"  {a:<6}{b:>10}{c:>10}{d:>11}" for a, b, c, d in rows]


def _tail(train: Dataset, config: DataConfig, label: str) -> list[str]:
    """Return the classes of training: how many, from the largest to the smallest, by group."""
    classes = class_names(train[label][:], label, config.source)
    counts = Counter(name for name in classes if name != UNLABELLED)
    ranked = counts.most_common()
    (largest, most), (smallest, fewest) = ranked[0], ranked[-1]
    lines = [
        f"classes of train, column {label!r}: {len(counts):,}, from {most:,} ({short(largest, 30)})"
        f" to {fewest:,} ({short(smallest, 30)}), {most / fewest:.3g} times as many"
    ]
    if config.groups == "thirds" and len(counts) < len(GROUPS):
        return [*lines, f"  {len(counts)} classes cannot be parted into thirds"]
    tail = Classes(dict(counts), config.head, config.tail, config.groups)
    group_of = dict(zip(counts, tail.groups(list(counts)), strict=True))
    limits = {"head": f"{config.head} or more", "mid": "", "tail": f"fewer than {config.tail}"}
    for group in GROUPS:
        inside = [name for name in counts if group_of[name] == group]
        each = f", {limits[group]} each" if limits[group] and config.groups == "counts" else ""
        images = sum(counts[name] for name in inside)
        lines.append(
            f"  {group:<6}{len(inside):>6,} classes, {counted(f'{images:,}', 'image')}{each}"
        )
    if len(counts) < len(classes) and UNLABELLED in classes:
        lines.append(f"  {counted(f'{classes.count(UNLABELLED):,}', 'image')} without a class")
    return lines


def _first(data: Dataset, label: str | None, texts: bool) -> list[str]:
    rows = data.select(range(min(_FIRST, len(data))))
    stored = zip(raw_images(rows), rows["index"], strict=True)
    places = [_place(cell, row, texts) for cell, row in stored]
    labels: Sequence[Any] = rows[label] if label is not None else [""] * len(rows)
    lines = []
    for place, cell, name in zip(places, rows["caption"], labels, strict=True):
        captions = texts_of(cell)
        more = f" (and {len(captions) - 1} more)" if len(captions) > 1 else ""
        said = f"{short(captions[0], _WIDTH)}{more}" if captions else ""
        class_ = "" if missing(name) or label is None else f"  [{short(str(name), 30)}]"
        lines.append(f"  {short(place, _WIDTH)}{class_}  {said}".rstrip())
    return lines


def _place(cell: Any, row: int, texts: bool) -> str:
    if isinstance(cell, str):
        return Path(cell).name
    return cell.decode() if texts else f"picture {row}"
