"""Each two modalities of a split, of the samples that have both."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from itertools import combinations, compress
from typing import Any

from torch import Tensor

from tauten.training.options.further import CAPTION, IMAGE
from tauten.training.stores.classes import Classes
from tauten.training.stores.pair_data import PairData
from tauten.training.tasks.encoded import Encoded, of_rows


def in_both(data: PairData) -> dict[tuple[str, str], Tensor]:
    """Return each two modalities that some samples have, but image and caption, and (N,) which."""
    pictured, captioned = data.present()
    others = {name: media.present for name, media in data.others.items()}
    present = {IMAGE: pictured, **others, CAPTION: captioned} if others else {}
    both = {(a, b): present[a] & present[b] for a, b in combinations(present, 2)}
    return {two: rows for two, rows in both.items() if two != (IMAGE, CAPTION) and bool(rows.any())}


def with_further(
    split: Encoded, data: PairData, further: Mapping[str, Tensor], classes: Classes | None
) -> Encoded:
    """Return a split of the samples with an image and a caption, and each two other modalities.

    Args:
        split: with the embeddings of all images and of all captions that there are.
        data: the split.
        further: embeddings of the pictures of each further modality that there are.
        classes: training counts, for groups; None for no groups.
    """
    groups = classes.groups(data.labels) if classes is not None and data.labels else None
    pictured, captioned = data.present()
    sides = {IMAGE: (split.x, pictured)}
    sides |= {name: (vectors, data.others[name].present) for name, vectors in further.items()}

    def captions_of(both: Tensor) -> dict[str, Any]:
        rows = both.nonzero().flatten().tolist()
        columns, y_of_x = of_rows(rows, split.y_of_x)
        captions = [split.captions[j] for j in columns]
        return {"y": split.y[columns], "captions": captions, "y_of_x": y_of_x}

    def of(name: str, both: Tensor) -> Tensor:
        vectors, there = sides[name]
        return vectors[both[there]]

    between = {}
    for (one, other), both in in_both(data).items():
        count = int(both.sum())
        y_side: dict[str, Any] = {
            "captions": [""] * count,
            "y_of_x": [[place] for place in range(count)],
        }
        y_side = captions_of(both) if other == CAPTION else y_side | {"y": of(other, both)}
        names = None if groups is None else list(compress(groups, both.tolist()))
        between[f"{one}+{other}"] = Encoded(of(one, both), labels=None, groups=names, **y_side)
    complete = pictured & captioned
    of_pairs = {} if bool(complete.all()) else {"x": of(IMAGE, complete)} | captions_of(complete)
    return dataclasses.replace(split, between=between, **of_pairs)
