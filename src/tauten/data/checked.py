"""Samples of pairs that can be used, and counts of those that cannot."""

from __future__ import annotations

import logging
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tqdm import tqdm

from tauten.data.caption_cells import FILE_ROW, one_text
from tauten.data.sources import Media, Sample
from tauten.structure.cells import counted, missing

logger = logging.getLogger("tauten.data")

#: says what is wrong with a picture that is stored as {"bytes", "path"}, if anything
Look = Callable[[dict[str, Any]], str | None]

_CHUNK = 1024


def look_at(samples: Sequence[Sample], look: Look, strict: bool, progress: bool) -> None:
    """Note what is wrong with each picture, a few at a time; a file of several rows is one."""
    with (
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
        tqdm(
            desc="checking pairs",
            total=len(samples),
            unit=" pairs",
            delay=2.0,
            disable=not progress,
        ) as bar,
    ):
        for start in range(0, len(samples), _CHUNK):
            chunk = samples[start : start + _CHUNK]
            rows: dict[Any, list[Sample]] = defaultdict(list)
            for sample in chunk:
                if sample.problem is None and sample.media is not None:
                    rows[sample.media["path"] or id(sample)].append(sample)
            problems = pool.map(look, [same[0].media for same in rows.values()])
            for same, problem in zip(rows.values(), problems, strict=True):
                for sample in same:
                    sample.problem = problem
            _refuse(chunk, strict)
            bar.update(len(chunk))


def check_values(samples: Sequence[Sample], media: Media, strict: bool) -> None:
    """Note which first texts, or values of another modality, cannot be used."""
    for sample in samples:
        if sample.problem is None and media == "text":
            sample.media, sample.problem = one_text(sample.media)
        elif sample.problem is None and sample.media is None:
            sample.problem = "no value"
    _refuse(samples, strict)


def _refuse(samples: Sequence[Sample], strict: bool) -> None:
    """Raise for the first sample that cannot be used, where that is wanted."""
    wrong = next((sample for sample in samples if sample.problem is not None), None)
    if strict and wrong is not None:
        raise ValueError(f"{wrong.where}: {wrong.problem}")


def take_partial(
    samples: Sequence[Sample], partial: Sequence[str], path: str, strict: bool
) -> None:
    """Count pictures that cannot be read as missing; note which samples have too few modalities."""
    unread = [s for s in samples if (s.problem or "").startswith("unreadable image")]
    if unread and not strict:
        logger.warning(
            "%s: %s cannot be read, taken as missing; first: %s: %s",
            path,
            counted(len(unread), "picture"),
            unread[0].where,
            unread[0].problem,
        )
        for sample in unread:
            sample.media, sample.problem = None, None
    for sample in samples:
        has = {
            "image": sample.media is not None,
            "caption": bool(sample.fields["caption"]),
            **{name: not missing(sample.fields.get(name)) for name in partial},
        }
        if sample.problem is None and sum(has.values()) < 2:
            only = next((name for name, there in has.items() if there), "none")
            sample.problem = f"fewer than two modalities: {only}"


def usable(samples: list[Sample], path: str, strict: bool) -> list[Sample]:
    """Return the samples without a problem; the log counts the others.

    Raises:
        ValueError: no sample, none that can be used, or with `strict` one that cannot.
    """
    skipped = [sample for sample in samples if sample.problem is not None]
    if not samples:
        raise ValueError(f"no pairs found in {path}")
    _refuse(skipped, strict)
    if len(skipped) == len(samples):
        raise ValueError(
            f"none of the {len(samples)} samples in {path} can be used; "
            f"the first one, {skipped[0].where}: {skipped[0].problem}"
        )
    if skipped:
        kinds: Counter[str] = Counter()
        for sample in skipped:
            kinds[str(sample.problem).partition(":")[0]] += sample.pictures
        logger.warning(
            "skipped %d of %d samples in %s (%s); first: %s: %s; positions after it have moved, "
            "the column file_row has those of the source",
            sum(sample.pictures for sample in skipped),
            sum(sample.pictures for sample in samples),
            path,
            ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()),
            skipped[0].where,
            skipped[0].problem,
        )
        for row, sample in enumerate(samples):
            sample.fields[FILE_ROW] = row
    return [sample for sample in samples if sample.problem is None]
