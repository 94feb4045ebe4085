"""Protocol of the numbers of pairs: how they came about, in words."""

from __future__ import annotations

from tauten.evaluation import TIES
from tauten.training.options.config import DataConfig
from tauten.training.run.places import shown
from tauten.training.stores.epic import SYNTHETIC
from tauten.training.stores.named import is_named, variant_of
from tauten.training.stores.rows import UNLABELLED
from tauten.training.tasks.encoded import Encoded
from tauten.training.tasks.task import Training


def protocol(training: Training, test: Encoded) -> dict[str, str]:
    """Describe how the numbers came about."""
    config, splits = training.config, training.splits
    sizes = ", ".join(f"{name} {len(data)}" for name, data in splits.items())
    side = "first texts" if config.data.texts else "images"
    kind = "different " if len(set(test.captions)) == len(test.captions) else ""
    lines = {
        "data": f"{variant_of(config.data.source) or shown(config.data.source)}: {sizes} {side}",
        "retrieval": (
            f"{len(test.x)} test {side} against {len(test.captions)} {kind}captions, both ways "
            f"(x2y: {'first text to caption' if config.data.texts else 'image to text'}, y2x: "
            f"{'caption to first text' if config.data.texts else 'text to image'}); hit@K: any "
            "match in the top K"
        ),
        "ties": TIES,
        "selection": (
            f"checkpoint with the highest {config.evaluation.metric} on the validation split, of "
            f"one every {config.evaluation.every:g} epochs; the test split was used once, after it"
        ),
        "intervals": (
            f"{of_intervals(config.evaluation.bootstrap)}, captions drawn with their x; "
            "they do not cover the spread over seeds"
        ),
    }
    lines |= cautions(config.data, runlocal=config.runlocal)
    if config.data.frames:
        lines["clips"] = f"{config.data.frames} frames of each clip, evenly spaced"
        if splits["train"].media.lazy:
            lines["clips"] += "; in training one drawn at random from each of as many segments"
    if len(test.x) < len(splits["test"]):
        lines["missing"] = (
            f"{len(splits['test']) - len(test.x)} of {len(splits['test'])} test samples lack an "
            "image or a caption and are searched by their other modalities alone"
        )
    if test.unreadable:
        lines["unreadable"] = f"{test.unreadable} test clips, searched as black frames"
    for name, source in (("validation", config.data.val), ("test", config.data.test)):
        if source is not None:
            lines[name] = f"on {variant_of(source) or shown(source)}"
    if test.relevancy is not None:
        rule = (
            "½ for the same verb class, ½ for the share of common noun classes"
            if is_named(config.data.source, "epic_kitchens")
            else "½ for the same action, ½ for the share of common words for people and skin tones "
            "in the two names"
        )
        lines["multi_instance"] = (
            f"nDCG and mAP with graded relevancy: {rule}; mAP_official counts partial relevancy as "
            "the evaluation of EPIC-KITCHENS-100 does, mAP_textbook does not"
        )
    if test.labels is not None:
        lines["class"] = of_classes(test)
    if test.groups is not None:
        lines["groups"] = (
            f"by the class's number of training samples: head >= {config.data.head}, "
            f"tail < {config.data.tail}, mid between; candidates are always all of the split"
        )
    return lines


def of_intervals(bootstrap: int) -> str:
    """Return how intervals of retrieval come about, in words."""
    return (
        "95 % over queries: Wilson for hit@K and recall@K, else percentile bootstrap with "
        f"{bootstrap} replicates"
    )


def of_classes(test: Encoded) -> str:
    """Return how metrics of classes are counted, in words."""
    assert test.labels is not None
    first = test.class_of_y() or []
    several = {
        j
        for label, captions in zip(test.labels, test.y_of_x, strict=True)
        for j in captions
        if first[j] != label and label != UNLABELLED
    }
    left = f"; {len(several)} captions of several classes count for the first" if several else ""
    return (
        "class/D/...: a candidate of the query's class is relevant, pair or not; in x2x and y2y "
        "the query itself is no candidate; class/D/n_without counts queries without a relevant "
        f"candidate, which are left out; class_map is the mean of class/D/mAP{left}"
    )


def cautions(data: DataConfig, *, runlocal: bool) -> dict[str, str]:
    """Return what a reader must know before comparing these numbers with others."""
    lines: dict[str, str] = {}
    if runlocal:
        lines["runlocal"] = (
            f"a trial of a few steps on {shown(data.source)}, with small towers: these "
            "numbers say nothing about the published ones"
        )
    if data.features == SYNTHETIC:
        lines["features"] = (
            "synthetic features: random vectors of the annotated classes with noise, of no video"
        )
    elif data.features is not None:
        lines["features"] = f"computed elsewhere: {shown(data.features)}"
    if data.protocol != "all":
        lines["published_protocol"] = (
            f"{data.protocol}: the first five captions of each image, all of them candidates"
        )
    return lines
