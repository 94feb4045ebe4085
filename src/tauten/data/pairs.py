"""Pairs on disk as a Hugging Face data set."""

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset, DatasetInfo, Features, Image
from tqdm import tqdm

from tauten.data.folders import find_samples
from tauten.data.pixels import unreadable
from tauten.data.sources import Media, Request, Sample
from tauten.structure.cells import missing, some, text_problem, whole_text

logger = logging.getLogger("tauten.data")

#: column with the positions in the source, where some were skipped
FILE_ROW = "file_row"

_RESERVED = ("index", "image", "caption", FILE_ROW)
_CHUNK = 1024
_BAR_FROM = 5000


def load_pairs(
    path: str | Path,
    *,
    image: str = "image",
    caption: str = "caption",
    strict: bool = False,
    allow_truncated: bool = False,
    media: Media = "image",
    captions: bool = True,
    bare: bool = False,
    partial: Sequence[str] = (),
    progress: bool = True,
) -> Dataset:
    """Load pairs of pictures (or anything else) and captions.

    `path` is one of

    * a table, .parquet, .csv, .tsv, .json (a list of objects, or captions as MSCOCO writes them) or
      .jsonl, or a .txt whose first line is "image,caption". Its image column holds paths relative
      to the table or to a folder `images` beside it, bytes, or {"bytes", "path"} as Hugging Face
      data sets write it. Without a column "image", "file_name" is taken.
    * a WebDataset shard, .tar or .tar.gz: `KEY.jpg` with `KEY.txt`, `KEY.json`, `KEY.cls`,
      `KEY.npy`. The keys of the json become columns if their types agree over all samples.
    * a folder: with one metadata.csv, .jsonl, .json or .parquet; or shards; or pictures (at any
      depth) with a .txt, .json or .caption of the same name; or a single table, perhaps in parts
      (train-00000-of-00004.parquet), also in its folder `data`; or what ``Dataset.save_to_disk``
      wrote. Tables or folders named train, val and test (or validation, dev) give a column `split`.
    * ``hf:ORG/NAME``, a data set of the Hugging Face hub, perhaps with ``:CONFIGURATION`` and
      ``@SPLIT``; it is loaded as a whole into the cache of ``datasets``.
    * a pattern such as "data/train-*.tar" or "data/train-{000..012}.tar", whose files are joined in
      the order of their names.

    Every picture is decoded once, to be sure that it can be. Pictures in files stay there; those in
    shards and tables are held in memory. What cannot be used, and what a folder holds beside, is
    counted in a line of the log.

    Args:
        path: where the pairs are.
        image: column of the pictures in a table; in a shard or folder, another extension than those
            of pictures, to choose a member ("npy", "left.jpg").
        caption: column of the captions; in a shard or folder .txt counts as "caption" where the
            json has none. A cell is a text or a list of texts.
        strict: raise at the first sample that cannot be used, instead of skipping and counting it.
        allow_truncated: use the whole members of a tar file that is cut, with a warning.
        media: "image"; "text" for texts as both sides, the first of which are the column `image` of
            the result, whatever `image` is, which may be the column of the captions; "raw" for
            another first modality, such as features or clips, whose values are taken as found,
            under the name `image`.
        captions: whether a sample needs a caption. Without, pictures in folders of their class are
            read too, with the folder's name as column `label`.
        bare: without captions, whether pictures are read too that have nothing beside them and
            are in no folder of a class.
        partial: columns of further modalities, such as a second picture. A sample then needs two of
            its modalities, whichever they are: its picture is None, or it has no caption, where it
            lacks them. A picture that cannot be read counts as missing, unless `strict`.
        progress: show a bar if it takes long.

    Returns:
        Columns `index` (int64, 0..n-1), `image` (pictures), `caption` (text; list of texts if any
        sample has several, or none), and the others found. A column whose name is taken is kept as
        "source_NAME". Where samples were skipped, `file_row` is the position among all of them, by
        which :func:`tauten.structure.read_captions` counts.

    Raises:
        FileNotFoundError: nothing at `path`.
        ValueError: no pairs there, a missing column (with those there are), a cut tar file, a file
            that does not parse, no usable sample; with `strict`, any sample that cannot be used.
    """
    request = Request(image, caption, media, allow_truncated, not captions, bare, tuple(partial))
    samples_found, warnings = find_samples(path, request)
    if partial:
        samples_found = _unless_missing(samples_found, image)
    samples = list(_checked(samples_found, media, strict, progress))
    if media == "text" and image == caption:
        for sample in samples:
            sample.fields[caption] = sample.media
    for warning in warnings:
        logger.warning("%s: using the whole members only", warning)
    columns = list(dict.fromkeys(name for sample in samples for name in sample.fields))
    named = caption in columns or (caption == "caption" and "txt" in columns)
    if samples and captions and not named:
        raise ValueError(
            f"{path}: no caption column {caption!r}; columns: {some(columns, 20)}; choose one with "
            "caption= (--data.caption)"
        )
    numbers = [s for s in samples if _is_number(s.fields.get(caption))]
    if caption != "cls" and numbers:
        logger.warning(
            "%d captions are numbers and are taken as texts; first: %s: %s",
            len(numbers),
            numbers[0].where,
            numbers[0].fields[caption],
        )
    for sample in samples:
        take_caption(sample, caption, captions and not partial)
    if partial:
        _take_partial(samples, partial, str(path), strict)
    usable = _usable(samples, str(path), strict)
    return _as_dataset(usable, image if media == "raw" else "image", pictures=media == "image")


def _checked(
    samples: Iterator[Sample], media: Media, strict: bool, progress: bool
) -> Iterator[Sample]:
    """Try to decode every picture, a few at a time, in order."""

    def check(sample: Sample) -> Sample:
        if sample.problem is None and media == "image":
            sample.problem = None if sample.media is None else unreadable(sample.media)
        elif sample.problem is None and media == "text":
            sample.media, sample.problem = _one_text(sample.media)
        elif sample.problem is None and sample.media is None:
            sample.problem = "no value"
        return sample

    with (
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
        tqdm(desc="checking pairs", unit=" pairs", delay=2.0, disable=not progress) as bar,
    ):
        while chunk := list(islice(samples, _CHUNK)):
            for sample in pool.map(check, chunk):
                if strict and sample.problem is not None:
                    raise ValueError(f"{sample.where}: {sample.problem}")
                yield sample
            bar.update(len(chunk))


def _unless_missing(samples: Iterator[Sample], image: str) -> Iterator[Sample]:
    """Let samples pass that have no picture, which is then no problem of theirs."""
    for sample in samples:
        if (sample.problem or "").startswith(("no image", f"no .{image}:")):
            sample.problem = None
        yield sample


def _take_partial(
    samples: Sequence[Sample], partial: Sequence[str], path: str, strict: bool
) -> None:
    """Count pictures that cannot be read as missing; note which samples have too few modalities."""
    unread = [s for s in samples if (s.problem or "").startswith("unreadable image")]
    if unread and not strict:
        logger.warning(
            "%s: %d pictures cannot be read and count as missing; first: %s: %s",
            path,
            len(unread),
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


def _is_number(cell: Any) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool) and not missing(cell)


def take_caption(sample: Sample, name: str, needed: bool = True) -> None:
    """Move the caption to fields["caption"]; note why if there is none and it is needed."""
    value = sample.fields.pop(name, None)
    if name == "caption" and "txt" in sample.fields:
        text = sample.fields["txt"]
        value = text if missing(value) else value
        if text == value:
            del sample.fields["txt"]
    for taken in _RESERVED:
        if taken in sample.fields:
            sample.fields[f"source_{taken}"] = sample.fields.pop(taken)
    texts, problem = _texts(value)
    if problem == "no caption" and not needed:
        value, problem = [], None
    sample.problem = sample.problem or problem
    sample.fields["caption"] = texts if isinstance(value, list) else "".join(texts)


def _texts(value: Any) -> tuple[list[str], str | None]:
    """Return all captions of a cell, blank ones left out, and what is wrong with it."""
    texts = []
    for cell in value if isinstance(value, list) else [value]:
        if missing(cell):
            continue
        if isinstance(cell, bytes):
            try:
                cell = cell.decode("utf-8-sig").strip()
            except UnicodeDecodeError as error:
                return [], f"unreadable caption: {error}"
        if isinstance(cell, bool) or not isinstance(cell, str | int | float):
            return [], f"the caption is of type {type(cell).__name__}, not text"
        problem = text_problem(cell) if isinstance(cell, str) else None
        if problem is not None:
            return [], problem
        texts.append(str(cell))
    return texts, None if texts else "no caption"


def _one_text(value: Any) -> tuple[str | None, str | None]:
    """Return the text of a cell that must hold one, and what is wrong with it."""
    texts, problem = _texts(value)
    if problem is not None:
        return None, problem.replace("caption", "first text", 1)
    if len(texts) > 1:
        return None, f"several first texts: {len(texts)} in one cell, give each a row"
    return texts[0], None


def _usable(samples: list[Sample], path: str, strict: bool) -> list[Sample]:
    skipped = [sample for sample in samples if sample.problem is not None]
    if not samples:
        raise ValueError(f"no pairs found in {path}")
    if skipped and strict:
        raise ValueError(f"{skipped[0].where}: {skipped[0].problem}")
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


def _as_dataset(samples: list[Sample], media_name: str, pictures: bool) -> Dataset:
    if any(isinstance(sample.fields["caption"], list) for sample in samples):
        for sample in samples:
            texts = sample.fields["caption"]
            sample.fields["caption"] = texts if isinstance(texts, list) else [texts]
    names = dict.fromkeys(name for sample in samples for name in sample.fields)
    arrays: dict[str, Any] = {"index": pa.array(range(len(samples)), pa.int64())}
    arrays[media_name] = _media_array(samples, pictures)
    texts = [sample.fields["caption"] for sample in samples]
    bare = all(isinstance(cell, list) and not cell for cell in texts)
    arrays["caption"] = pa.array(texts, pa.list_(pa.string()) if bare else None)
    mixed, halves = [], []
    for name in names:
        if name in arrays:
            continue
        values = [sample.fields.get(name) for sample in samples]
        try:
            try:
                arrays[name] = pa.array(values)
            except UnicodeEncodeError:
                halves.append(name)
                arrays[name] = pa.array([_repaired(value) for value in values])
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
            mixed.append(name)
    if mixed:
        logger.warning("left out columns whose values are of several types: %s", some(mixed, 20))
    if halves:
        logger.warning("half characters became U+FFFD in the columns %s", some(halves, 20))
    table = pa.table(arrays)
    features = Features.from_arrow_schema(table.schema)
    if pictures:
        features["image"] = Image()
    return Dataset(table, info=DatasetInfo(features=features))


def _repaired(value: Any) -> Any:
    if isinstance(value, str):
        return whole_text(value)
    if isinstance(value, list):
        return [_repaired(cell) for cell in value]
    if isinstance(value, dict):
        return {_repaired(name): _repaired(cell) for name, cell in value.items()}
    return value


def _media_array(samples: list[Sample], pictures: bool) -> Any:
    if not pictures:
        return pa.array([sample.media for sample in samples])
    chunks = [
        pa.array([sample.media for sample in samples[start : start + _CHUNK]], Image.pa_type)
        for start in range(0, len(samples), _CHUNK)
    ]
    return pa.chunked_array(chunks, Image.pa_type)
