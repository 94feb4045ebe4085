"""Classification of images by the texts that name the classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from tauten.evaluation.checks import whole_numbers
from tauten.evaluation.classification import accuracy
from tauten.evaluation.correspondence import name_some, unit
from tauten.evaluation.neighbours import classes, features

#: a small ensemble in the manner of CLIP (Radford et al., 2021)
TEMPLATES = (
    "a photo of a {}.",
    "a picture of a {}.",
    "an image of the {}.",
    "a close-up photo of a {}.",
    "a drawing of a {}.",
)


def class_embeddings(
    encode: Callable[[list[str]], Tensor],
    names: Sequence[str],
    templates: Sequence[str] = TEMPLATES,
) -> Tensor:
    """Return the mean direction of each class's prompts.

    Args:
        encode: texts to (n, d) embeddings.
        names: names of the C classes.
        templates: each with one ``{}`` for the name.

    Returns:
        (C, d), rows of length 1.

    Raises:
        ValueError: no class, no template, or a template without ``{}``.
    """
    for given, argument in ((names, "names"), (templates, "templates")):
        if isinstance(given, str) or not all(isinstance(one, str) for one in given):
            raise ValueError(f"{argument} must be a list of texts, not {given!r}")
    bad = [template for template in templates if template.count("{}") != 1]
    if not names or not templates or bad:
        raise ValueError(
            f"need class names, and templates with one {{}} each; got {len(names)} names and "
            f"templates {bad or list(templates)}"
        )
    prompts = [template.replace("{}", name) for name in names for template in templates]
    embedded = unit(features(encode(prompts), "encode(prompts)"))
    if len(embedded) != len(prompts):
        raise ValueError(f"encode returned {len(embedded)} rows for {len(prompts)} prompts")
    return unit(embedded.view(len(names), len(templates), -1).mean(dim=1))


def zero_shot(
    x: Any,
    labels: Any,
    class_vectors: Any,
    ks: Sequence[int] | None = None,
    groups: Sequence[str] | None = None,
    *,
    bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, float]:
    """Share of images whose class is among the k classes of largest cosine.

    A class that scores the same as the true one ranks ahead of it.

    Args:
        x: (Q, d) image embeddings.
        labels: (Q,) their classes, in 0..C-1.
        class_vectors: (C, d), see :func:`class_embeddings`.
        ks: how many classes may be named, at most C; by default 1 and, of five or more, 5.
        groups: group of each class.
        bootstrap: replicates of the intervals; 0 leaves them out.
        seed: seed of the resampling.

    Returns:
        For each k the keys of :func:`tauten.evaluation.accuracy` with the name ``top@K``.

    Raises:
        ValueError: shapes, values or classes that do not fit, k not within 1..C.
    """
    images, named = features(x, "x"), features(class_vectors, "class_vectors")
    of = classes(labels, images, "x")
    outside = sorted(set(of[of >= len(named)].tolist()))
    if outside:
        raise ValueError(
            f"labels name the classes {name_some(outside)}, but class_vectors has "
            f"{len(named)} rows, classes 0..{len(named) - 1}: give one row for each class"
        )
    if images.shape[1] != named.shape[1]:
        raise ValueError(
            f"x has width {images.shape[1]} but class_vectors has width {named.shape[1]}: both "
            "must be projected to the same d"
        )
    ks = [k for k in (1, 5) if k <= len(named)] if ks is None else ks
    ks = whole_numbers(ks, "ks", len(named))
    scores = unit(images) @ unit(named).T
    rank = (scores >= scores.gather(1, of.unsqueeze(1))).sum(dim=1)
    out: dict[str, float] = {}
    for k in ks:
        out |= accuracy(rank <= k, of, groups, name=f"top@{k}", bootstrap=bootstrap, seed=seed)
    return out
